"""Parts of dense and CSR matrices: see `ptg.kernels.contract.matrices`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import scipy.sparse as sp

from ptg.kernels.contract.matrices import Blocks
from ptg.kernels.cpu.threads import jit, run_tasks

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ptg.kernels.contract.resources import Resources

_TASK_VALUES = 1 << 16
"""Values that a task reads: half a megabyte, which a second-level cache holds."""

_TASKS_PER_THREAD = 8
_TASK_ROWS = 4096
"""Rows that a task copies."""


def keep(matrix: NDArray[Any] | sp.csr_matrix[Any], *, resources: Resources) -> Any:
    """Return the matrix; see the contract."""
    del resources
    return matrix


def take_rows(matrix: Any, rows: NDArray[np.int64], *, resources: Resources) -> Any:
    """Copy some rows; see the contract."""
    starts = range(0, len(rows), _TASK_ROWS)
    if isinstance(matrix, np.ndarray):
        dense = np.empty((len(rows), matrix.shape[1]), dtype=matrix.dtype)
        run_tasks(lambda start: _copy_dense(matrix, rows[start : start + _TASK_ROWS], dense[start:]), starts, resources)
        return dense
    indptr = np.concatenate([[0], np.cumsum(np.diff(matrix.indptr)[rows], dtype=np.int64)])
    indices = np.empty(indptr[-1], dtype=matrix.indices.dtype)
    data = np.empty(indptr[-1], dtype=matrix.dtype)
    source = (matrix.indptr, matrix.indices, matrix.data)

    def copy(start: int) -> None:
        _copy_sparse(source, rows[start : start + _TASK_ROWS], indptr[start:], (indices, data))

    run_tasks(copy, starts, resources)
    return sp.csr_matrix((data, indices, indptr), shape=(len(rows), matrix.shape[1]))


def read_blocks(matrix: Any, blocks: Blocks, *, resources: Resources) -> Any:
    """Read blocks of a matrix; see the contract."""
    dense = isinstance(matrix, np.ndarray)
    values = np.empty(blocks.value_offsets[-1]) if dense else np.zeros(blocks.value_offsets[-1])
    csr = None if dense else (matrix.indptr, matrix.indices, matrix.data)

    def read(part: BlockPart) -> None:
        if csr is None:
            _read_dense(matrix, part.rows, part.columns, part.of(values))
        else:
            place = np.full(matrix.shape[1], -1, dtype=np.int32)
            place[part.columns] = np.arange(len(part.columns))
            _read_sparse(csr, part.rows, place, part.of(values))

    each_part(read, blocks, resources)
    return values


class BlockPart(NamedTuple):
    """All columns of a block in some of its rows.

    Attributes
    ----------
    rows, columns
        In the matrix.
    shape
        (n_columns, n_rows) of the whole block.
    begin
        Where its values begin.
    first
        Number of the first row in the block.
    """

    rows: NDArray[np.int64]
    columns: NDArray[np.int64]
    shape: tuple[int, int]
    begin: int
    first: int

    def of(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """View the values of this part, (n_columns, n_rows)."""
        block = values[self.begin : self.begin + self.shape[0] * self.shape[1]].reshape(self.shape)
        return block[:, self.first : self.first + len(self.rows)]


def each_part(function: Callable[[BlockPart], None], blocks: Blocks, resources: Resources) -> None:
    """Call a function on every part of some blocks: several parts in a task, which costs as much as a small part."""
    parts = list(_block_parts(blocks))
    n_together = max(len(parts) // (_TASKS_PER_THREAD * resources.n_threads), 1)

    def call(first: int) -> None:
        for part in parts[first : first + n_together]:
            function(part)

    starts = range(0, len(parts), n_together)
    run_tasks(call, starts, resources, work=[float(len(parts[first : first + n_together])) for first in starts])


def _block_parts(blocks: Blocks) -> Iterator[BlockPart]:
    """Cut the blocks into parts of a similar size."""
    begins = blocks.value_offsets.tolist()
    row_offsets, column_offsets = blocks.row_offsets.tolist(), blocks.column_offsets.tolist()
    for block in range(len(row_offsets) - 1):
        rows = blocks.rows[row_offsets[block] : row_offsets[block + 1]]
        columns = blocks.columns[column_offsets[block] : column_offsets[block + 1]]
        if len(columns):
            step = max(_TASK_VALUES // len(columns), 16)
            for first in range(0, len(rows), step):
                shape = (len(columns), len(rows))
                yield BlockPart(rows[first : first + step], columns, shape, begins[block], first)


@jit
def _copy_dense(matrix, rows, out):  # type: ignore[no-untyped-def]
    for i in range(rows.size):
        out[i] = matrix[rows[i]]


@jit
def _copy_sparse(source, rows, indptr, out):  # type: ignore[no-untyped-def]
    starts, indices, data = source
    to_indices, to_data = out
    for i in range(rows.size):
        begin = starts[rows[i]]
        to = indptr[i]
        for entry in range(indptr[i + 1] - to):
            to_indices[to + entry] = indices[begin + entry]
            to_data[to + entry] = data[begin + entry]


@jit
def _read_dense(matrix, rows, columns, out):  # type: ignore[no-untyped-def]
    # Few rows at a time: the lines that they write to stay in the cache.
    for first in range(0, rows.size, 16):
        last = min(first + 16, rows.size)
        for j in range(columns.size):
            for i in range(first, last):
                out[j, i] = matrix[rows[i], columns[j]]


@jit
def _read_sparse(csr, rows, place, out):  # type: ignore[no-untyped-def]
    indptr, indices, data = csr
    for i in range(rows.size):
        for entry in range(indptr[rows[i]], indptr[rows[i] + 1]):
            j = place[indices[entry]]
            if j >= 0:
                out[j, i] = data[entry]
