"""Parts of dense and CSR matrices: see `ptg.kernels.contract.matrices`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import scipy.sparse as sp

from ptg.kernels.contract.matrices import Blocks
from ptg.kernels.cpu.compilation import jit
from ptg.kernels.cpu.threads import run_tasks

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
    layout = (blocks.rows, blocks.row_offsets, blocks.columns, blocks.column_offsets, blocks.value_offsets)
    if isinstance(matrix, np.ndarray):
        values = np.empty(blocks.value_offsets[-1])
        _each_run(lambda parts: _read_dense(matrix, parts, layout, values), _cut(blocks), resources)
    else:
        values = np.zeros(blocks.value_offsets[-1])
        csr = (matrix.indptr, matrix.indices, matrix.data, matrix.shape[1])
        _each_run(lambda parts: _read_sparse(csr, parts, layout, values), _cut(blocks), resources)
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
    """Call a function on every part of some blocks."""
    begins, row_offsets, column_offsets = blocks.value_offsets, blocks.row_offsets, blocks.column_offsets

    def call(parts: NDArray[np.int64]) -> None:
        for block, first, stop in parts.tolist():
            rows = blocks.rows[row_offsets[block] : row_offsets[block + 1]]
            columns = blocks.columns[column_offsets[block] : column_offsets[block + 1]]
            function(BlockPart(rows[first:stop], columns, (len(columns), len(rows)), begins[block], first))

    _each_run(call, _cut(blocks), resources)


def _each_run(function: Callable[[NDArray[np.int64]], None], parts: NDArray[np.int64], resources: Resources) -> None:
    """Call a function on some parts at a time: a task costs as much as a small part."""
    n_together = max(len(parts) // (_TASKS_PER_THREAD * resources.n_threads), 1)
    runs = [parts[first : first + n_together] for first in range(0, len(parts), n_together)]
    run_tasks(function, runs, resources, work=[float(len(run)) for run in runs])


def _cut(blocks: Blocks) -> NDArray[np.int64]:
    """Cut the blocks into parts of a similar size, (n_parts, 3): block, its first row and the one after its last."""
    n_rows, n_columns = np.diff(blocks.row_offsets), np.diff(blocks.column_offsets)
    step = np.maximum(_TASK_VALUES // np.maximum(n_columns, 1), 16)
    n_parts = np.where(n_columns > 0, -(-n_rows // step), 0)
    block = np.repeat(np.arange(len(n_parts)), n_parts)
    first = (np.arange(len(block)) - (np.cumsum(n_parts) - n_parts)[block]) * step[block]
    return np.stack([block, first, np.minimum(first + step[block], n_rows[block])], axis=1)


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
def _read_dense(matrix, parts, layout, values):  # type: ignore[no-untyped-def]
    for p in range(len(parts)):
        rows, columns, out = _part(parts[p], layout, values)
        # Few rows at a time: the lines that they write to stay in the cache.
        for first in range(0, rows.size, 16):
            last = min(first + 16, rows.size)
            for j in range(columns.size):
                for i in range(first, last):
                    out[j, i] = matrix[rows[i], columns[j]]


@jit
def _read_sparse(csr, parts, layout, values):  # type: ignore[no-untyped-def]
    indptr, indices, data, n_columns = csr
    place = np.full(n_columns, -1, dtype=np.int32)
    for p in range(len(parts)):
        rows, columns, out = _part(parts[p], layout, values)
        for j in range(columns.size):
            place[columns[j]] = j
        for i in range(rows.size):
            for entry in range(indptr[rows[i]], indptr[rows[i] + 1]):
                j = place[indices[entry]]
                if j >= 0:
                    out[j, i] = data[entry]
        place[columns] = -1


@jit
def _part(part, layout, values):  # type: ignore[no-untyped-def]
    rows, row_offsets, columns, column_offsets, value_offsets = layout
    block, first, stop = part[0], part[1], part[2]
    n_rows = row_offsets[block + 1] - row_offsets[block]
    its_columns = columns[column_offsets[block] : column_offsets[block + 1]]
    out = values[value_offsets[block] : value_offsets[block + 1]].reshape((its_columns.size, n_rows))
    begin = row_offsets[block]
    return rows[begin + first : begin + stop], its_columns, out[:, first:stop]
