"""Cells in groups, as every metric takes them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp

from ptg.data import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ptg.data import Groups, Matrix


@dataclass(frozen=True)
class Sample:
    """Cells sorted by group; every group has at least one cell.

    Attributes
    ----------
    cells
        (n_cells, n_columns) dense or CSR.
    offsets
        (n_groups + 1,): group `g` is ``cells[offsets[g]:offsets[g + 1]]``.
    names
        How warnings call the groups; also what the resamples of a group are seeded with.
    """

    cells: Matrix
    offsets: NDArray[np.int64]
    names: list[Any]

    @property
    def sizes(self) -> NDArray[np.int64]:
        """Number of cells in each group."""
        return np.diff(self.offsets)

    @classmethod
    def of_groups(cls, matrix: Matrix, groups: Groups) -> Sample:
        """Sort the rows of a matrix by group."""
        return cls(matrix[groups.order], groups.offsets, groups.names)

    @classmethod
    def of_two(cls, x: Matrix, y: Matrix) -> Sample:
        """Stack two groups, named X and Y: sparse if either is, float32 if both are."""
        if x.shape[1] != y.shape[1]:
            raise InputError(f"X has {x.shape[1]} columns and Y has {y.shape[1]}. Pass matrices with the same columns.")
        cells: Matrix
        if isinstance(x, np.ndarray) and isinstance(y, np.ndarray):
            cells = np.vstack([x, y])
        else:
            cells = sp.vstack([sp.csr_matrix(x), sp.csr_matrix(y)], format="csr")
        return cls(cells, np.array([0, x.shape[0], x.shape[0] + y.shape[0]]), ["X", "Y"])
