"""The loops over one tile of cell-to-cell distances: squares to distances, distances to sums by pair of groups."""

from __future__ import annotations

import numpy as np

from ptg.kernels.cpu.compilation import jit


@jit
def take_roots(squares):  # type: ignore[no-untyped-def]
    """Turn ``|x - y|²`` into ``|x - y|`` in place."""
    for i in range(squares.shape[0]):
        row = squares[i]
        for j in range(row.size):
            row[j] = np.sqrt(row[j])


@jit
def wanted_blocks(group_range, keys, offsets, block):  # type: ignore[no-untyped-def]
    """Mark the column blocks that hold a wanted partner of any group in `group_range`."""
    n_groups = offsets.size - 1
    wanted = np.zeros((offsets[-1] + block - 1) // block, np.bool_)
    for group in range(group_range[0], group_range[1]):
        stop = np.searchsorted(keys, (group + 1) * n_groups)
        for p in range(np.searchsorted(keys, group * n_groups), stop):
            partner = keys[p] - group * n_groups
            if offsets[partner] < offsets[partner + 1]:
                wanted[offsets[partner] // block : (offsets[partner + 1] - 1) // block + 1] = True
    return wanted


@jit
def find_wanted(row_groups, column_groups, keys, n_groups):  # type: ignore[no-untyped-def]
    """Return the position in `keys` of every (row group, column group), -1 where the pair is not wanted.

    Keys name the lower group first: what lies below the diagonal is never found, and not counted twice.
    """
    found = np.full((row_groups.size, column_groups.size), -1, np.int64)
    for a in range(row_groups.size):
        for b in range(column_groups.size):
            key = row_groups[a] * n_groups + column_groups[b]
            position = np.searchsorted(keys, key)
            if position < keys.size and keys[position] == key:
                found[a, b] = position
    return found


@jit
def add_exactly(total, lost, value):  # type: ignore[no-untyped-def]
    """Add a value, and what rounding took away to `lost`: differences of nearly equal means keep their digits."""
    new = total + value
    if abs(total) >= abs(value):
        return new, lost + ((total - new) + value)
    return new, lost + ((value - new) + total)


@jit
def add_parts(sums, lost, positions, part):  # type: ignore[no-untyped-def]
    """Add the sums of some tiles, (n_draws, n_found), to those of the pairs at `positions`."""
    for draw in range(sums.shape[0]):
        for k in range(positions.size):
            p = positions[k]
            sums[draw, p], lost[draw, p] = add_exactly(sums[draw, p], lost[draw, p], part[draw, k])


@jit
def segment_sums(distances, row_bounds, column_bounds, out):  # type: ignore[no-untyped-def]
    """Fill ``out[a, b]`` with the sum over row segment `a` and column segment `b`, in float64."""
    by_column = np.empty(distances.shape[1])
    for a in range(row_bounds.size - 1):
        by_column[:] = 0.0
        for i in range(row_bounds[a], row_bounds[a + 1]):
            # Adding whole rows keeps the order fixed and still vectorises.
            row = distances[i]
            for j in range(distances.shape[1]):
                by_column[j] += row[j]
        for b in range(column_bounds.size - 1):
            total, lost = 0.0, 0.0
            for j in range(column_bounds[b], column_bounds[b + 1]):
                total, lost = add_exactly(total, lost, by_column[j])
            out[a, b] = total + lost


@jit
def weighted_row_sums(products, weights, bounds, out):  # type: ignore[no-untyped-def]
    """Fill ``out[draw, b]`` with ``sum(products[draw] * weights[draw])`` over column segment `b`."""
    for draw in range(out.shape[0]):
        for b in range(bounds.size - 1):
            total = 0.0
            for j in range(bounds[b], bounds[b + 1]):
                total += products[draw, j] * weights[draw, j]
            out[draw, b] = total
