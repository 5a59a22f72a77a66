"""Cells, sorted by group, in blocks of rows: the groups in a block, the wanted pairs of groups in two. NumPy only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Block(NamedTuple):
    """Consecutive cells and the groups among them.

    Attributes
    ----------
    cells
        The cells.
    groups
        (n_groups,) the groups with cells in the block, ascending.
    bounds
        (n_groups + 1,) where these groups begin in the block, and its end.
    """

    cells: slice
    groups: NDArray[np.int64]
    bounds: NDArray[np.int64]


class Tile(NamedTuple):
    """Two blocks, rows not after columns, and the wanted pairs of groups in them.

    Attributes
    ----------
    rows, columns
        The blocks.
    pairs
        (n_pairs, 2) positions among the groups of `rows` and among those of `columns`.
    places
        (n_pairs,) positions among all wanted pairs; none comes twice.
    factor
        (n_pairs,) how often the tile's sum of a pair counts: twice for a group in both blocks, for which the mirrored
        tile, which is not computed, holds as much.
    """

    rows: Block
    columns: Block
    pairs: NDArray[np.int64]
    places: NDArray[np.int64]
    factor: NDArray[np.float64]


def cut_blocks(offsets: NDArray[np.int64], n_rows: int) -> list[Block]:
    """Cut the cells of groups that begin at `offsets`, (n_groups + 1,), into blocks of `n_rows`, the last shorter."""
    n_cells = int(offsets[-1])
    return [_block(offsets, start, min(start + n_rows, n_cells)) for start in range(0, n_cells, n_rows)]


def _block(offsets: NDArray[np.int64], start: int, stop: int) -> Block:
    first = int(np.searchsorted(offsets, start, side="right")) - 1
    last = int(np.searchsorted(offsets, stop, side="left"))
    bounds = np.clip(offsets[first : last + 1], start, stop) - start
    filled = np.flatnonzero(np.diff(bounds) > 0)
    return Block(slice(start, stop), filled + first, np.append(bounds[filled], stop - start))


def pairs_of_blocks(blocks: list[Block], keys: NDArray[Any], n_groups: int) -> list[tuple[Block, Block]]:
    """List the two blocks of every `Tile` that may have wanted pairs, in the order of rows, then of columns.

    Of many cells these are few where few pairs are wanted, so that not every two blocks should be looked at.
    """
    firsts, lasts = (np.array([block.groups[end] for block in blocks], dtype=np.int64) for end in (0, -1))
    found = []
    for number, rows in enumerate(blocks):
        begin, end = np.searchsorted(keys, [firsts[number] * n_groups, (lasts[number] + 1) * n_groups])
        higher = np.unique(keys[begin:end] % n_groups)
        is_met = np.searchsorted(higher, firsts[number:]) < np.searchsorted(higher, lasts[number:], side="right")
        found += [(rows, blocks[number + offset]) for offset in np.flatnonzero(is_met)]
    return found


def find_pairs(rows: Block, columns: Block, keys: NDArray[Any], n_groups: int) -> Tile:
    """Find the wanted pairs in two blocks; there may be none.

    Parameters
    ----------
    rows, columns
        Blocks, the first not after the second.
    keys
        Wanted pairs, ascending, at least one: lower group * `n_groups` + higher group.
    n_groups
        Number of all groups.
    """
    wanted = rows.groups[:, None] * n_groups + columns.groups
    places = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    a, b = np.nonzero(keys[places] == wanted)
    twice = (rows.groups[a] == columns.groups[b]) & (rows.cells.start != columns.cells.start)
    return Tile(rows, columns, np.stack([a, b], axis=1), places[a, b], np.where(twice, 2.0, 1.0))
