"""Blocks of cells and the wanted pairs in them, against a list of all pairs of cells."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from ptg.kernels.blocks import cut_blocks, find_pairs, pairs_of_blocks

OFFSETS = {
    "ragged": [0, 0, 1, 3, 3, 10, 23, 23],
    "one group": [0, 23],
    "a cell each": list(range(12)),
    "begin where blocks do": [0, 5, 10, 20],
    "no cells": [0, 0],
}


@pytest.mark.parametrize("n_rows", [1, 5, 100])
@pytest.mark.parametrize("name", OFFSETS)
def test_blocks_hold_every_cell_once(name: str, n_rows: int) -> None:
    offsets = np.array(OFFSETS[name])
    blocks = cut_blocks(offsets, n_rows)
    assert all(block.cells.stop - block.cells.start == n_rows for block in blocks[:-1])
    cells = [np.arange(block.cells.start, block.cells.stop) for block in blocks]
    np.testing.assert_array_equal(np.concatenate([np.empty(0, int), *cells]), np.arange(offsets[-1]))
    groups = [np.repeat(block.groups, np.diff(block.bounds)) for block in blocks]
    expected = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    np.testing.assert_array_equal(np.concatenate([np.empty(0, int), *groups]), expected)
    assert all((np.diff(block.bounds) > 0).all() for block in blocks)


@pytest.mark.parametrize("n_rows", [1, 5, 100])
@pytest.mark.parametrize("name", OFFSETS)
def test_tiles_hold_every_wanted_pair_of_cells_once(name: str, n_rows: int) -> None:
    """Both orders of the cells of a group count, one order of those of two groups."""
    offsets = np.array(OFFSETS[name])
    n_groups = len(offsets) - 1
    left, right = np.triu_indices(n_groups)
    keys = (left * n_groups + right)[::2]
    blocks, found = cut_blocks(offsets, n_rows), Counter[tuple[int, int]]()
    for number, rows in enumerate(blocks):
        for columns in blocks[number:]:
            tile = find_pairs(rows, columns, keys, n_groups)
            assert len(np.unique(tile.places)) == len(tile.places)
            for (a, b), place, factor in zip(tile.pairs, tile.places, tile.factor, strict=True):
                assert keys[place] == rows.groups[a] * n_groups + columns.groups[b]
                found[int(keys[place])] += factor * np.diff(rows.bounds)[a] * np.diff(columns.bounds)[b]
    sizes = np.diff(offsets)
    expected = {int(key): sizes[key // n_groups] * sizes[key % n_groups] for key in keys}
    assert found == Counter({key: n for key, n in expected.items() if n})


WANTED = {
    "all": lambda low, high, n: low >= 0,
    "with the first": lambda low, high, n: low == 0,
    "with the last": lambda low, high, n: high == n - 1,
    "with one between": lambda low, high, n: (low == n // 2) | (high == n // 2),
    "every seventh": lambda low, high, n: (low * n + high) % 7 == 0,
    "none but one": lambda low, high, n: (low == n - 1) & (high == n - 1),
}


@pytest.mark.parametrize("n_rows", [1, 5, 100])
@pytest.mark.parametrize("wanted", WANTED)
@pytest.mark.parametrize("name", OFFSETS)
def test_pairs_of_blocks_leave_out_no_tile_and_look_at_few(name: str, wanted: str, n_rows: int) -> None:
    offsets = np.array(OFFSETS[name])
    n_groups = len(offsets) - 1
    low, high = np.triu_indices(n_groups)
    keys = (low * n_groups + high)[WANTED[wanted](low, high, n_groups)]
    blocks = cut_blocks(offsets, n_rows)
    listed = pairs_of_blocks(blocks, keys, n_groups)
    tiles = [find_pairs(rows, columns, keys, n_groups) for k, rows in enumerate(blocks) for columns in blocks[k:]]
    expected = [(tile.rows.cells, tile.columns.cells) for tile in tiles if len(tile.pairs)]
    found = [(rows, columns) for rows, columns in listed if len(find_pairs(rows, columns, keys, n_groups).pairs)]
    assert [(rows.cells, columns.cells) for rows, columns in found] == expected
    assert len(listed) - len(found) <= (len(tiles) if wanted == "every seventh" else len(blocks))
