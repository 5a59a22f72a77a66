"""Some genes of some cells of the perturbation signature: see `ptg.kernels.contract.neighbors`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ptg.kernels.contract.matrices import Blocks
from ptg.kernels.cpu.compilation import jit
from ptg.kernels.cpu.matrices import BlockPart, each_part, read_blocks, take_rows
from ptg.kernels.cpu.threads import run_tasks

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ptg.kernels.contract.resources import Resources

_TASK_ROWS = 256
"""Neighbours whose genes a task brings together."""


def signature_blocks(
    matrix: Any,
    blocks: Blocks,
    neighbor_offsets: NDArray[np.int64],
    neighbors: NDArray[np.int64],
    *,
    resources: Resources,
) -> NDArray[np.float64]:
    """Compute blocks of the signature: see the contract."""
    values: NDArray[np.float64] = read_blocks(matrix, blocks, resources=resources)
    table, row_of, column_of = _exponentials(matrix, blocks, neighbor_offsets, neighbors, resources)

    def subtract(part: BlockPart) -> None:
        means = np.empty((len(part.rows), len(part.columns)))
        _means(table, column_of[part.columns], part.rows, (neighbor_offsets, neighbors, row_of), means)
        np.log1p(means, out=means)
        own = part.of(values)
        np.subtract(means.T, own, out=own)

    each_part(subtract, blocks, resources)
    return values


def _exponentials(
    matrix: Any, blocks: Blocks, offsets: NDArray[np.int64], neighbors: NDArray[np.int64], resources: Resources
) -> tuple[NDArray[Any], NDArray[np.int64], NDArray[np.int64]]:
    """``expm1`` of the blocks' genes in the blocks' neighbours, and the row of each cell and column of each gene."""
    is_used = np.zeros(matrix.shape[0], dtype=bool)
    _mark(offsets, neighbors, blocks.rows, is_used)
    is_wanted = np.zeros(matrix.shape[1], dtype=bool)
    is_wanted[blocks.columns] = True
    row_of, column_of = np.cumsum(is_used) - 1, np.cumsum(is_wanted) - 1
    rows, columns = np.flatnonzero(is_used), np.flatnonzero(is_wanted)
    table = np.empty((len(rows), len(columns)), dtype=matrix.dtype)

    def fill(start: int) -> None:
        part = take_rows(matrix, rows[start : start + _TASK_ROWS], resources=type(resources)())
        dense = part if isinstance(part, np.ndarray) else part.toarray()
        np.expm1(dense[:, columns], out=table[start : start + _TASK_ROWS])

    run_tasks(fill, range(0, len(rows), _TASK_ROWS), resources)
    return table, row_of, column_of


@jit
def _mark(offsets, neighbors, cells, is_used):  # type: ignore[no-untyped-def]
    for cell in cells:
        for entry in range(offsets[cell], offsets[cell + 1]):
            is_used[neighbors[entry]] = True


@jit
def _means(table, columns, cells, graph, means):  # type: ignore[no-untyped-def]
    offsets, neighbors, row_of = graph
    for i in range(cells.size):
        mean = means[i]
        mean[:] = 0.0
        begin, end = offsets[cells[i]], offsets[cells[i] + 1]
        for entry in range(begin, end):
            row = table[row_of[neighbors[entry]]]
            for j in range(columns.size):
                mean[j] += row[columns[j]]
        for j in range(columns.size):
            mean[j] /= end - begin
