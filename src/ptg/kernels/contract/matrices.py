"""Contract of the `matrices` kernels: where a matrix is kept, and parts of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

if TYPE_CHECKING:
    import scipy.sparse as sp
    from numpy.typing import NDArray

    from ptg.kernels.contract.resources import Resources


class Blocks(NamedTuple):
    """Parts of a matrix: block `b` is all its columns in all its rows. Host arrays.

    Attributes
    ----------
    rows, row_offsets
        Block `b` has rows ``rows[row_offsets[b]:row_offsets[b + 1]]``, int64, in any order.
    columns, column_offsets
        Its columns, likewise, each at most once in a block.
    """

    rows: NDArray[np.int64]
    row_offsets: NDArray[np.int64]
    columns: NDArray[np.int64]
    column_offsets: NDArray[np.int64]

    @property
    def value_offsets(self) -> NDArray[np.int64]:
        """(n_blocks + 1,) where the values of each block begin, when they are laid out block after block."""
        sizes = np.diff(self.row_offsets) * np.diff(self.column_offsets)
        return np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)


class MatrixKernels(Protocol):
    """Signatures that every backend's `matrices` module has."""

    def keep(self, matrix: NDArray[Any] | sp.csr_matrix[Any], *, resources: Resources) -> Any:
        """Bring a matrix to where kernels read it fastest, so that several calls need not bring it one by one.

        Parameters
        ----------
        matrix
            (n_rows, n_columns) float32 or float64, dense or canonical CSR, on the host or a device.
        resources
            A matrix that takes more than `memory` stays where it is.

        Returns
        -------
        What all kernels of the backend take in place of the matrix: `shape`, `dtype`, and for CSR `nnz`.
        """
        ...

    def take_rows(self, matrix: Any, rows: NDArray[np.int64], *, resources: Resources) -> Any:
        """Copy some rows, in any order, into a matrix of the same kind.

        Parameters
        ----------
        matrix
            As `keep` takes or returns it.
        rows
            (n,) int64 on the host.
        resources
            Threads.

        Returns
        -------
        (n, n_columns), beside `matrix`.
        """
        ...

    def read_blocks(self, matrix: Any, blocks: Blocks, *, resources: Resources) -> Any:
        """Read blocks of a matrix.

        Parameters
        ----------
        matrix
            As `keep` takes or returns it.
        blocks
            What to read; blocks may be empty.
        resources
            Threads; temporaries are in proportion to the result and to the number of columns.

        Returns
        -------
        (n_values,) float64, flat: each block is (n_columns, n_rows) in C order, from ``blocks.value_offsets[b]`` on. An
        array of the backend's device.
        """
        ...
