"""Distances within subsets of cells, on a CPU: see `ptg.kernels.contract.permutation`.

The distances of a tile, 512 x 512 cells, are computed once and added up for every subset; tiles of the contrast alone
serve all groups. A product with 0/1 weights would take as long for small subsets as for large ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations_with_replacement
from typing import TYPE_CHECKING, Any

import numpy as np

from ptg.kernels.cpu.compilation import jit
from ptg.kernels.cpu.energy_distances import CellDistances
from ptg.kernels.cpu.subsets import subsets_of
from ptg.kernels.cpu.threads import run_tasks

if TYPE_CHECKING:
    import scipy.sparse as sp
    from numpy.typing import NDArray

    from ptg.kernels.contract.resources import Resources

_BLOCK = 512
_WEIGHTS_PER_TASK = 1 << 20

_TASKS = 64
"""Tasks of a pool's tiles at most."""


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
    blocks = [[*shared, *_blocks(offsets, group)] for group in groups]
    sums = np.zeros((len(groups), len(subsets[0]) if groups else 0))
    if not groups or not cells.shape[0]:
        return sums
    distances = CellDistances(cells, resources)
    pools = [
        subsets_of(drawn, [block.stop - block.start for block in some])
        for drawn, some in zip(subsets, blocks, strict=True)
    ]
    every = range(len(pools))
    tasks: list[tuple[Sequence[tuple[int, int]], Sequence[int]]] = [
        (tiles, every) for tiles in _share_out(list(combinations_with_replacement(range(len(shared)), 2)))
    ]
    for number in every:
        own = [(row, column) for row in range(len(shared), len(blocks[number])) for column in range(row + 1)]
        tasks += [(tiles, [number]) for tiles in _share_out(own)]

    def add(task: tuple[Sequence[tuple[int, int]], Sequence[int]]) -> NDArray[np.float64]:
        tiles, some = task
        part = np.zeros((len(some), sums.shape[1]))
        places = blocks[some[0]]
        for row, column in tiles:
            tile = distances.between(places[row], places[column])
            for number, out in zip(some, part, strict=True):
                pools[number].add(tile, row, column, out)
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


@jit
def _fill_members(weights, out):  # type: ignore[no-untyped-def]
    n_chosen = out.shape[1]
    found = np.empty(weights.shape[1] + 1, dtype=out.dtype)
    for draw in range(weights.shape[0]):
        # Without a branch, which nobody could predict: what is not chosen is overwritten.
        position = 0
        for cell in range(weights.shape[1]):
            found[position] = cell
            position += weights[draw, cell] != 0
        out[draw] = found[:n_chosen]


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
