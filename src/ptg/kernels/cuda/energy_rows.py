"""Rows of cells for the energy sums on tensor cores (`energy_common.cuh` says how they are laid out)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cupy as cp
import numpy as np

from ptg.kernels.cuda.energy_plan import FRAGMENT, Batch, Layout
from ptg.kernels.cuda.energy_variants import DRAWS, WIDEST, Variant, chunks_of, row_bytes
from ptg.kernels.cuda.source import kernel, type_options
from ptg.kernels.cuda.transfer import to_device

if TYPE_CHECKING:
    from ptg.kernels.contract.resources import Resources

NO_ARRAY = np.uint64(0)
"""A pointer to nothing."""


class Rows:
    """Cells split into pairs of halves on the current device, and what the kernels need to know of them.

    Attributes
    ----------
    cells
        (n_cells, n_columns) float32.
    layout
        Where they are among the rows.
    left, right
        The rows on both sides of products; `norms` are their squared norms.
    fragment_group
        (n_fragments,) int32.
    info, about
        What is known of 128 rows, and of all cells (`energy_common.cuh`).
    """

    def __init__(self, cells: Any, layout: Layout, resources: Resources) -> None:
        self.cells = to_device(cells, resources)
        self.layout = layout
        n_cells, n_columns = cells.shape
        eights, rest = chunks_of(n_columns)
        self._options = (f"-DEIGHTS={eights}", f"-DREST={rest}")
        self.padded_offsets, self.shifts = cp.asarray(layout.padded_offsets), cp.asarray(layout.shifts)
        self.about = cp.empty(16, dtype=np.uint8)
        centre = self._describe(n_cells, n_columns)
        n_bytes = row_bytes(n_columns)
        self.left, self.right = (cp.empty(layout.n_rows * n_bytes, dtype=np.uint8) for _ in range(2))
        self.norms = cp.empty(layout.n_rows, dtype=np.float32)
        self.fragment_group = cp.empty(layout.n_rows // FRAGMENT, dtype=np.int32)
        self.info = cp.empty(layout.n_rows // 128 * 16, dtype=np.uint8)
        n_blocks = layout.n_rows // 8
        kernel("energy_prepare.cu", "split_rows", self._options)(
            (-(-n_blocks // 4),),
            (128,),
            (
                self.cells,
                centre,
                self.about,
                *self._groups,
                np.int32(n_blocks),
                np.int32(n_columns),
                self.left,
                self.right,
                self.norms,
                self.fragment_group,
            ),
            shared_mem=4 * 2 * 8 * n_bytes,
        )
        n_infos = layout.n_rows // 128
        kernel("energy_prepare.cu", "describe_rows", self._options)(
            (-(-n_infos // 128),),
            (128,),
            (self.norms, self.fragment_group, *self._groups, np.int32(n_infos), self.info),
        )

    @property
    def _groups(self) -> tuple[Any, Any, np.int32]:
        return self.padded_offsets, self.shifts, np.int32(self.layout.n_groups)

    def _describe(self, n_cells: int, n_columns: int) -> Any:
        """Fill `about`; return the centre."""
        n_parts = min(256, -(-n_cells // 64))
        parts, centre = cp.empty((n_parts, 3, n_columns), dtype=np.float64), cp.empty(n_columns, dtype=np.float64)
        size = (np.int64(n_cells), np.int32(n_columns))
        kernel("energy_prepare.cu", "sum_columns", self._options)(
            (n_parts,), (256,), (self.cells, *size, parts), shared_mem=3 * 256 * 8
        )
        kernel("energy_prepare.cu", "describe_cells", self._options)(
            (1,), (WIDEST,), (self.cells, parts, np.int32(n_parts), *size, centre, self.about)
        )
        return centre

    @property
    def factor(self) -> Any:
        """(1,) float64: distances are scaled by it."""
        return self.about[:8].view(np.float64)

    def launch(self, variant: Variant, batch: Batch, weights: Any = None) -> tuple[Any, Any]:
        """Compute the partial sums of a batch: (n_partial, 2), and with weights (n_partial, `DRAWS`)."""
        partial = cp.empty((batch.n_partial, 2), dtype=np.float64)
        weighted = None if weights is None else cp.empty((batch.n_partial, DRAWS), dtype=np.float64)
        if len(batch.tasks):
            arguments: tuple[Any, ...] = (
                self.left,
                self.right,
                self.info,
                self.norms,
                self.fragment_group,
                self.padded_offsets,
                self.shifts,
                cp.asarray(batch.tasks.view(np.uint8)),
                self.cells,
                np.int32(self.cells.shape[1]),
                self.about,
                partial,
            )
            if variant.name == "energy_mma.cu":
                arguments += (NO_ARRAY, NO_ARRAY) if weights is None else (weights, weighted)
            variant.function()((len(batch.tasks),), (variant.threads,), arguments, shared_mem=variant.shared)
        return partial, weighted

    def split_weights(self, weights: Any) -> Any:
        """Lay out at most `DRAWS` weight vectors as halves."""
        halves = cp.empty(self.layout.n_rows * DRAWS * 2, dtype=np.uint8)
        options = (*self._options, *type_options(Weight=weights.dtype))
        n_blocks = self.layout.n_rows // 8
        kernel("energy_prepare.cu", "split_weights", options)(
            (-(-n_blocks // 128), DRAWS),
            (128,),
            (
                weights,
                np.int64(weights.shape[1]),
                np.int32(len(weights)),
                np.int32(DRAWS),
                self.fragment_group,
                *self._groups,
                np.int32(n_blocks),
                halves,
            ),
        )
        return halves
