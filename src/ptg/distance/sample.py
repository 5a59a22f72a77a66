"""Cells in groups, as every metric takes them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ptg.data import InputError, array_module, is_sparse, sparse_module

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ptg.data import Groups, Matrix
    from ptg.execute import Run


@dataclass(frozen=True)
class Sample:
    """Cells sorted by group; every group has at least one cell.

    Attributes
    ----------
    cells
        (n_cells, n_columns) dense or CSR: sorted by group, or still in the order of the data.
    offsets
        (n_groups + 1,): group `g` is ``cells[offsets[g]:offsets[g + 1]]``.
    names
        How warnings call the groups; also what the resamples of a group are seeded with.
    order
        Positions of the sorted cells in `cells`; None where they are sorted.
    """

    cells: Matrix
    offsets: NDArray[np.int64]
    names: list[Any]
    order: NDArray[np.int64] | None = None

    @property
    def sizes(self) -> NDArray[np.int64]:
        """Number of cells in each group."""
        return np.diff(self.offsets)

    @classmethod
    def of_groups(cls, matrix: Matrix, groups: Groups) -> Sample:
        """Take the grouped rows of a matrix; they are sorted when they are `on_device`."""
        return cls(matrix, groups.offsets, groups.names, groups.order)

    @classmethod
    def of_two(cls, x: Matrix, y: Matrix) -> Sample:
        """Stack two groups on the same device, named X and Y: sparse if either is, float32 if both are."""
        if x.shape[1] != y.shape[1]:
            raise InputError(f"X has {x.shape[1]} columns and Y has {y.shape[1]}. Pass matrices with the same columns.")
        if is_sparse(x) or is_sparse(y):
            sparse = sparse_module(x)
            cells = sparse.vstack([sparse.csr_matrix(x), sparse.csr_matrix(y)], format="csr")
        else:
            cells = array_module(x).vstack([x, y])
        return cls(cells, np.array([0, x.shape[0], x.shape[0] + y.shape[0]]), ["X", "Y"])

    def on_device(self, run: Run) -> Sample:
        """Move the cells to the device of a run and sort them there."""
        cells = run.to_device(self.cells)
        if self.order is not None:
            cells = cells[run.arrays.asarray(self.order)]
        return replace(self, cells=cells, order=None)
