"""Distances within subsets of cells, on a CPU: see `ptg.kernels.contract.permutation`.

The distances of a tile, 512 x 512 cells, are computed once and added up for every subset; tiles of the contrast alone
serve all groups. A product with 0/1 weights would take as long for small subsets as for large ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement
from typing import TYPE_CHECKING, Any

import numpy as np

from ptg.kernels.cpu.energy_distances import CellDistances
from ptg.kernels.cpu.threads import jit, run_tasks

if TYPE_CHECKING:
    import scipy.sparse as sp
    from numpy.typing import NDArray

    from ptg.kernels.contract.resources import Resources

_BLOCK = 512
_WEIGHTS_PER_TASK = 1 << 20

_TASKS = 64
"""Tasks of a pool's tiles at most."""

_FEW = 32
"""From so many chosen columns of a tile on, whole rows are added: that uses vectors, picking values does not."""


def members(weights: NDArray[Any], n_chosen: int, *, resources: Resources) -> NDArray[np.int32]:
    """List the cells that each draw chooses: see the contract."""
    chosen = np.empty((len(weights), n_chosen), dtype=np.int32)
    at_once = max(1, _WEIGHTS_PER_TASK // max(weights.shape[1], 1))

    def fill(start: int) -> None:
        _fill_members(weights[start : start + at_once], chosen[start : start + at_once])

    run_tasks(fill, range(0, len(weights), at_once), resources)
    return chosen


def subset_sums(
    cells: NDArray[Any] | sp.csr_matrix[Any],
    offsets: NDArray[Any],
    groups: Sequence[int],
    contrast: int,
    subsets: Sequence[NDArray[Any]],
    *,
    resources: Resources,
) -> NDArray[np.float64]:
    """Sum the distances within subsets of two groups together: see the contract."""
    offsets = np.asarray(offsets, dtype=np.int64)
    shared = _blocks(offsets, contrast)
    pools = [_Pool.of(offsets, group, shared, drawn) for group, drawn in zip(groups, subsets, strict=True)]
    sums = np.zeros((len(pools), len(subsets[0]) if pools else 0))
    if not pools or not cells.shape[0]:
        return sums
    distances = CellDistances(cells, resources)
    every = range(len(pools))
    tasks: list[tuple[Sequence[tuple[int, int]], Sequence[int]]] = [
        (tiles, every) for tiles in _share_out(list(combinations_with_replacement(range(len(shared)), 2)))
    ]
    for number, pool in enumerate(pools):
        own = [(row, column) for row in range(len(shared), len(pool.blocks)) for column in range(row + 1)]
        tasks += [(tiles, [number]) for tiles in _share_out(own)]

    def add(task: tuple[Sequence[tuple[int, int]], Sequence[int]]) -> NDArray[np.float64]:
        tiles, some = task
        part = np.zeros((len(some), sums.shape[1]))
        blocks = pools[some[0]].blocks
        for row, column in tiles:
            tile = distances.between(blocks[row], blocks[column])
            for number, out in zip(some, part, strict=True):
                pool = pools[number]
                _add_chosen(tile, (pool.subsets, pool.bounds, pool.starts), (row, column), out)
        return part

    work = [float(len(tiles) * len(some)) for tiles, some in tasks]
    for (_, some), part in zip(tasks, run_tasks(add, tasks, resources, work=work), strict=True):
        sums[list(some)] += part
    sums *= 2.0 * distances.unit
    return sums


def cell_sums(
    cells: NDArray[Any] | sp.csr_matrix[Any],
    offsets: NDArray[Any],
    left: NDArray[Any],
    right: NDArray[Any],
    *,
    resources: Resources,
) -> NDArray[np.float64]:
    """Sum the distances of each cell of a group to all cells of another: see the contract."""
    offsets = np.asarray(offsets, dtype=np.int64)
    blocks = {int(group): _blocks(offsets, int(group)) for group in np.union1d(left, right)}
    tasks, n_sums = [], 0
    for group, other in zip(np.asarray(left).tolist(), np.asarray(right).tolist(), strict=True):
        start = n_sums - offsets[group]
        tasks += [(block, other, slice(block.start + start, block.stop + start)) for block in blocks[group]]
        n_sums += int(offsets[group + 1] - offsets[group])
    sums = np.zeros(n_sums)
    if not tasks:
        return sums
    distances = CellDistances(cells, resources)

    def add(task: tuple[slice, int, slice]) -> None:
        rows, other, out = task
        for columns in blocks[other]:
            _add_row_sums(distances.between(rows, columns), sums[out])  # the tasks' parts do not overlap

    work = [float((rows.stop - rows.start) * (offsets[other + 1] - offsets[other])) for rows, other, _ in tasks]
    run_tasks(add, tasks, resources, work=work)
    sums *= distances.unit
    return sums


def _share_out(tiles: list[tuple[int, int]]) -> list[list[tuple[int, int]]]:
    """Cut tiles into tasks: not so many that their sums would take more memory than the subsets."""
    at_once = -(-len(tiles) // _TASKS)
    return [tiles[start : start + at_once] for start in range(0, len(tiles), max(at_once, 1))]


def _blocks(offsets: NDArray[np.int64], group: int) -> list[slice]:
    """Cut a group's cells into blocks."""
    first, last = int(offsets[group]), int(offsets[group + 1])
    return [slice(start, min(start + _BLOCK, last)) for start in range(first, last, _BLOCK)]


@dataclass(frozen=True)
class _Pool:
    """A group, the contrast and the subsets drawn from both.

    Attributes
    ----------
    blocks
        Of the contrast's cells, then of the group's.
    subsets
        (n_draws, n_chosen) int32 positions among these cells.
    starts
        (n_blocks,) int64: position of the first cell of each block.
    bounds
        (n_draws, n_blocks + 1) int64: where the members of each block begin in a subset.
    """

    blocks: list[slice]
    subsets: NDArray[np.int32]
    starts: NDArray[np.int64]
    bounds: NDArray[np.int64]

    @classmethod
    def of(cls, offsets: NDArray[np.int64], group: int, shared: list[slice], subsets: NDArray[Any]) -> _Pool:
        blocks = [*shared, *_blocks(offsets, group)]
        starts = np.cumsum([0] + [block.stop - block.start for block in blocks])
        subsets = np.ascontiguousarray(subsets, dtype=np.int32)
        bounds = np.empty((len(subsets), len(blocks) + 1), dtype=np.int64)
        _find_bounds(subsets, starts, bounds)
        return cls(blocks, subsets, starts[:-1], bounds)


@jit
def _fill_members(weights, out):  # type: ignore[no-untyped-def]
    n_chosen = out.shape[1]
    found = np.empty(n_chosen + 1, dtype=out.dtype)
    for draw in range(weights.shape[0]):
        # Without a branch, which nobody could predict: what is not chosen is overwritten.
        position = 0
        for cell in range(weights.shape[1]):
            found[position] = cell
            position = min(position + (weights[draw, cell] != 0), n_chosen)
        out[draw] = found[:n_chosen]


@jit
def _find_bounds(subsets, starts, out):  # type: ignore[no-untyped-def]
    for draw in range(subsets.shape[0]):
        position = 0
        for block in range(starts.size):
            while position < subsets.shape[1] and subsets[draw, position] < starts[block]:
                position += 1
            out[draw, block] = position


@jit
def _add_chosen(tile, chosen, blocks, out):  # type: ignore[no-untyped-def]
    """Add to ``out[draw]`` the distances between a subset's cells in two blocks; in one block, each pair once."""
    subsets, bounds, starts = chosen
    row_block, column_block = blocks
    factor = 0.5 if row_block == column_block else 1.0
    rows, columns = np.empty(tile.shape[0], np.int64), np.empty(tile.shape[1], np.int64)
    by_column = np.empty(tile.shape[1])
    for draw in range(subsets.shape[0]):
        n_rows = _members(subsets[draw], bounds[draw], row_block, starts[row_block], rows)
        n_columns = _members(subsets[draw], bounds[draw], column_block, starts[column_block], columns)
        if not n_rows or not n_columns:
            continue
        total = 0.0
        if n_columns < _FEW:
            for p in range(n_rows):
                row = tile[rows[p]]
                for q in range(n_columns):
                    total += row[columns[q]]
        else:
            _add_rows(tile, rows, n_rows, by_column)
            for q in range(n_columns):
                total += by_column[columns[q]]
        out[draw] += factor * total


@jit
def _members(subset, bounds, block, start, out):  # type: ignore[no-untyped-def]
    """Fill `out` with the positions in a block of a subset's cells; return how many there are."""
    first, stop = bounds[block], bounds[block + 1]
    for p in range(first, stop):
        out[p - first] = subset[p] - start
    return stop - first


@jit
def _add_rows(tile, rows, n_rows, out):  # type: ignore[no-untyped-def]
    """Fill `out` with the sum of some rows, in float64."""
    out[:] = 0.0
    whole = n_rows // 4 * 4
    for p in range(0, whole, 4):  # four at once: `out` is read and written a quarter as often
        r0, r1, r2, r3 = tile[rows[p]], tile[rows[p + 1]], tile[rows[p + 2]], tile[rows[p + 3]]
        for j in range(out.size):
            out[j] += (np.float64(r0[j]) + np.float64(r1[j])) + (np.float64(r2[j]) + np.float64(r3[j]))
    for p in range(whole, n_rows):
        row = tile[rows[p]]
        for j in range(out.size):
            out[j] += row[j]


@jit
def _add_row_sums(tile, out):  # type: ignore[no-untyped-def]
    for i in range(tile.shape[0]):
        t0, t1, t2, t3 = 0.0, 0.0, 0.0, 0.0
        row = tile[i]
        whole = row.size // 4 * 4
        for j in range(0, whole, 4):
            t0 += row[j]
            t1 += row[j + 1]
            t2 += row[j + 2]
            t3 += row[j + 3]
        for j in range(whole, row.size):
            t0 += row[j]
        out[i] += (t0 + t1) + (t2 + t3)
