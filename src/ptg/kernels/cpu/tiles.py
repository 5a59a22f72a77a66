"""Sums over pairs of groups of any symmetric value of two cells, tile by tile.

The cells, sorted by group, are cut into blocks of 512, whatever the groups. A tile is a pair of blocks (row block not
after column block); only tiles that hold a wanted pair of groups are computed, and summed by pair of groups.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ptg.kernels.blocks import Block, cut_blocks
from ptg.kernels.cpu.energy_tiles import add_parts, find_wanted, segment_sums, wanted_blocks, weighted_row_sums
from ptg.kernels.cpu.threads import run_tasks

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from ptg.kernels.contract.resources import Resources

_BLOCK = 512
_TILES_PER_TASK = 16
_DRAWS = 32
"""Draws multiplied at once, always as many (padded with zeros): a draw's bits do not depend on their number."""


class _Tile(NamedTuple):
    """A pair of blocks and, for each of its pairs of groups, the position among the wanted ones, or -1."""

    rows: Block
    columns: Block
    wanted: NDArray[np.int64]
    factor: NDArray[np.float64]


@dataclass(frozen=True)
class _Plan:
    """What the tasks share. `keys` are the wanted pairs, sorted: lower group * n_groups + higher group."""

    offsets: NDArray[np.int64]
    keys: NDArray[np.int64]
    blocks: list[Block]

    def tile(self, row_block: int, column_block: int) -> _Tile:
        rows, columns = self.blocks[row_block], self.blocks[column_block]
        wanted = find_wanted(rows.groups, columns.groups, self.keys, len(self.offsets) - 1)
        # A group that reaches into both blocks: the mirrored tile, which is not computed, holds as much.
        factor = np.ones(wanted.shape)
        if row_block != column_block and rows.groups[-1] == columns.groups[0]:
            factor[-1, 0] = 2.0
        return _Tile(rows, columns, wanted, factor)

    def tasks(self) -> list[tuple[int, NDArray[np.int64]]]:
        """Cut the tiles with a wanted pair into tasks: a row block and some of its column blocks."""
        tasks = []
        for number, block in enumerate(self.blocks):
            wanted = wanted_blocks((block.groups[0], block.groups[-1] + 1), self.keys, self.offsets, _BLOCK)
            wanted[:number] = False
            columns = np.flatnonzero(wanted)
            tasks += [(number, columns[a : a + _TILES_PER_TASK]) for a in range(0, len(columns), _TILES_PER_TASK)]
        return tasks


def sum_tiles(
    values_of: Callable[[slice, slice], NDArray[Any]],
    offsets: NDArray[Any],
    pairs: tuple[NDArray[Any], NDArray[Any]],
    *,
    weights: NDArray[Any] | None,
    resources: Resources,
) -> NDArray[np.float64]:
    """Sum values of two cells over pairs of groups.

    Parameters
    ----------
    values_of
        Computes the values of the cells of a block (rows) with those of another: a new C-ordered array, float32 or
        float64. Called from threads.
    offsets, pairs, weights, resources
        As in the contract of `energy`; `pairs` are its left and right.

    Returns
    -------
    (n_pairs,) or, with weights, (n_draws, n_pairs).
    """
    offsets = np.asarray(offsets, dtype=np.int64)
    low, high = np.minimum(*pairs).astype(np.int64), np.maximum(*pairs).astype(np.int64)
    n_draws = 1 if weights is None else len(weights)
    keys, position = np.unique(low * (len(offsets) - 1) + high, return_inverse=True)
    sums, lost = np.zeros((n_draws, len(keys))), np.zeros((n_draws, len(keys)))
    if offsets[-1] > 0:
        plan = _Plan(offsets, keys, cut_blocks(offsets, _BLOCK))
        sum_tile = _plain_sums if weights is None else _weighted_sums(np.asarray(weights))

        def add(task: tuple[int, NDArray[np.int64]]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
            tiles = [plan.tile(task[0], int(block)) for block in task[1]]
            parts = [sum_tile(values_of(tile.rows.cells, tile.columns.cells), tile) for tile in tiles]
            return np.concatenate([tile.wanted[tile.wanted >= 0] for tile in tiles]), np.concatenate(parts, axis=1)

        tasks = plan.tasks()
        for positions, part in run_tasks(add, tasks, resources, work=[len(blocks) for _, blocks in tasks]):
            add_parts(sums, lost, positions, part)
    sums += lost
    return sums[0, position] if weights is None else sums[:, position]


def _plain_sums(values: NDArray[Any], tile: _Tile) -> NDArray[np.float64]:
    """Sum the wanted pairs of a tile: (1, n_wanted)."""
    sums = np.empty(tile.wanted.shape)
    segment_sums(values, tile.rows.bounds, tile.columns.bounds, sums)
    return (sums * tile.factor)[tile.wanted >= 0][None]


def _weighted_sums(weights: NDArray[Any]) -> Callable[[NDArray[Any], _Tile], NDArray[np.float64]]:
    """Make the function that sums the wanted pairs of a tile for every draw, (n_draws, n_wanted): ``W V W'``."""
    n_draws = len(weights)
    padding = ((0, -n_draws % _DRAWS), (0, 0))

    def sum_tile(values: NDArray[Any], tile: _Tile) -> NDArray[np.float64]:
        values = values.astype(np.float64, copy=False)
        row_weights = np.pad(weights[:, tile.rows.cells].astype(np.float64), padding)
        column_weights = weights[:, tile.columns.cells].astype(np.float64)
        sums = np.zeros((n_draws, *tile.wanted.shape))
        products = np.empty((len(row_weights), values.shape[1]))
        for a in np.flatnonzero((tile.wanted >= 0).any(axis=1)):
            segment = slice(tile.rows.bounds[a], tile.rows.bounds[a + 1])
            for draw in range(0, len(row_weights), _DRAWS):
                panel = np.ascontiguousarray(row_weights[draw : draw + _DRAWS, segment])
                np.matmul(panel, values[segment], out=products[draw : draw + _DRAWS])
            weighted_row_sums(products, column_weights, tile.columns.bounds, sums[:, a])
        return (sums * tile.factor)[:, tile.wanted >= 0]

    return sum_tile
