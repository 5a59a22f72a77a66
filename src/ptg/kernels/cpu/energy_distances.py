"""Blocks of cell-to-cell distances on a CPU."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from ptg.kernels.cpu.blocks import column_panels, dense_block
from ptg.kernels.cpu.differences import squared_differences
from ptg.kernels.cpu.energy_tiles import take_roots
from ptg.kernels.cpu.products import aligned_empty

if TYPE_CHECKING:
    from collections.abc import Callable

    import scipy.sparse as sp
    from numpy.typing import NDArray

    from ptg.kernels.contract.resources import Resources

    _Kept: TypeAlias = dict[tuple[int, int, int], NDArray[Any]]

_PANEL = 128
"""Columns summed one after the other: float32 sums of more would round so often that single distances show it."""

_KEPT_PANELS = 4


class CellDistances:
    """Distances between ranges of cells, one block at a time, in units of `unit`.

    Every one is as right as its type allows, whatever the other cells are, and has the same bits in any block.

    Parameters
    ----------
    cells
        (n_cells, n_columns) dense or canonical CSR, as the contract of `energy` asks.
    resources
        Memory for what is kept between blocks.
    """

    def __init__(self, cells: NDArray[Any] | sp.csr_matrix[Any], resources: Resources) -> None:
        self._cells, self._panels = cells, column_panels(cells.shape[1], _PANEL)
        self.unit = _unit(cells if isinstance(cells, np.ndarray) else cells.data)
        self._factor = cells.dtype.type(1.0 / self.unit)
        # Each block is needed many times; those of narrow cells are made once, where memory allows.
        n_bytes = 3 * cells.shape[0] * cells.shape[1] * cells.dtype.itemsize
        self._keeps = len(self._panels) <= _KEPT_PANELS and n_bytes <= resources.memory
        self._blocks: _Kept = {}
        self._transposes: _Kept = {}

    def between(self, rows: slice, columns: slice) -> NDArray[Any]:
        """Compute the distances of two ranges."""
        distances = self._squares(rows, columns, self._panels[0])
        for panel in self._panels[1:]:
            distances += self._squares(rows, columns, panel)
        take_roots(distances)
        return distances

    def _squares(self, rows: slice, columns: slice, panel: slice) -> NDArray[Any]:
        squares = aligned_empty((rows.stop - rows.start, columns.stop - columns.start), self._cells.dtype)
        squared_differences(self._block(rows, panel), self._transposed(columns, panel), squares)
        return squares

    def _block(self, rows: slice, panel: slice) -> NDArray[Any]:
        """Return rows, scaled, in C order."""
        return self._keep(self._blocks, (rows, panel), self._scaled)

    def _transposed(self, columns: slice, panel: slice) -> NDArray[Any]:
        """Return the transpose of a block, in C order from a cache line on."""
        return self._keep(self._transposes, (columns, panel), lambda *part: _transpose(self._scaled(*part)))

    def _scaled(self, rows: slice, panel: slice) -> NDArray[Any]:
        scaled: NDArray[Any] = dense_block(self._cells, rows, panel, self._cells.dtype) * self._factor
        return scaled

    def _keep(
        self, kept: _Kept, part: tuple[slice, slice], make: Callable[[slice, slice], NDArray[Any]]
    ) -> NDArray[Any]:
        if not self._keeps:
            return make(*part)
        key = (part[0].start, part[0].stop, part[1].start)
        if key not in kept:  # two threads at worst make the same one
            kept[key] = make(*part)
        return kept[key]


def _transpose(block: NDArray[Any]) -> NDArray[Any]:
    transposed = aligned_empty((block.shape[1], block.shape[0]), block.dtype)
    transposed[...] = block.T
    return transposed


def _unit(values: NDArray[Any]) -> float:
    """Find a power of two that brings the largest value to about the square root of the largest number, and well below.

    Squares neither overflow nor vanish then, unless distances are less than 1e-32 of the largest value (float32).
    """
    limits = np.finfo(values.dtype)
    largest = max(float(values.max()), -float(values.min())) if values.size else 0.0
    # 3/8 of the exponents: room for the sum of the squares of as many columns as there can be.
    exponent = int(np.frexp(largest)[1]) - 3 * limits.maxexp // 8
    return float(np.ldexp(1.0, max(exponent, limits.minexp + 1)))
