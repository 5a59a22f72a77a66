"""Differences of distribution functions, on a CPU: see `ptg.kernels.contract.distribution`.

A group's distribution function of a column is a list of steps: distinct values and the function at each. The zeros that
a sparse matrix does not store are one step. A merge of two lists makes 2e8 steps a second on a Zen 5 core.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import scipy.sparse as sp

from ptg.kernels.cpu.compilation import jit
from ptg.kernels.cpu.threads import run_tasks

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ptg.kernels.contract.resources import Resources

_DRAWS = 32
"""Draws whose steps are in memory at once."""

_PAIRS_PER_TASK = 256


class _Steps(NamedTuple):
    """Distribution functions of one column.

    Attributes
    ----------
    values
        (n_steps,) of all groups, one after the other, ascending in each.
    heights
        (n_steps, n_draws): the distribution function at these.
    starts
        (n_groups + 1,): group `g` has steps ``starts[g]`` to ``starts[g + 1] - 1``.
    """

    values: NDArray[np.float64]
    heights: NDArray[np.float64]
    starts: NDArray[np.int64]


def ks_sums(
    cells: NDArray[Any] | sp.csr_matrix[Any],
    offsets: NDArray[Any],
    left: NDArray[Any],
    right: NDArray[Any],
    *,
    weights: NDArray[Any] | None = None,
    resources: Resources,
) -> NDArray[np.float64]:
    """Sum the largest differences of two groups' distribution functions over the columns: see the contract."""
    offsets, left, right = (np.asarray(numbers, dtype=np.int64) for numbers in (offsets, left, right))
    matrix: Any = cells if isinstance(cells, np.ndarray) else sp.csc_matrix(cells)
    draws = np.ones((1, cells.shape[0])) if weights is None else np.asarray(weights)
    sums = np.zeros((len(draws), len(left)))
    for first in range(0, len(draws), _DRAWS):
        some = draws[first : first + _DRAWS].astype(np.float64)
        groups = _Groups(offsets, some, _totals(some, offsets))
        _add_columns(matrix, groups, (left, right), sums[first : first + _DRAWS], resources)
    return sums[0] if weights is None else sums


class _Groups(NamedTuple):
    """Bounds of the groups, weights of the cells (n_draws, n_cells), and of the groups (n_groups, n_draws)."""

    offsets: NDArray[np.int64]
    weights: NDArray[np.float64]
    totals: NDArray[np.float64]


def _add_columns(
    matrix: Any,
    groups: _Groups,
    pairs: tuple[NDArray[np.int64], NDArray[np.int64]],
    sums: NDArray[np.float64],
    resources: Resources,
) -> None:
    """Add the statistics of all columns to `sums`, (n_draws, n_pairs), a block of columns at a time."""
    n_columns = matrix.shape[1]
    at_once = max(1, resources.memory // (2 * 8 * (len(groups.weights) + 2) * max(matrix.shape[0], 1)))
    tasks = [slice(start, start + _PAIRS_PER_TASK) for start in range(0, len(pairs[0]), _PAIRS_PER_TASK)]

    def steps_of(column: int) -> _Steps:
        rows, values = _column(matrix, column)
        return _Steps(*_steps(rows, values, *groups))

    for start in range(0, n_columns, at_once):
        steps = run_tasks(steps_of, range(start, min(start + at_once, n_columns)), resources)

        def add(some: slice, steps: list[_Steps] = steps) -> None:
            for of_column in steps:
                _add_statistics(of_column, (pairs[0][some], pairs[1][some]), sums[:, some])

        run_tasks(add, tasks, resources)


def _column(matrix: Any, column: int) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """Return the rows with a stored value, ascending, and the values."""
    if isinstance(matrix, np.ndarray):
        return np.arange(matrix.shape[0]), matrix[:, column].astype(np.float64)
    entries = slice(matrix.indptr[column], matrix.indptr[column + 1])
    return matrix.indices[entries].astype(np.int64), matrix.data[entries].astype(np.float64)


def _totals(weights: NDArray[Any], offsets: NDArray[np.int64]) -> NDArray[np.float64]:
    """(n_groups, n_draws): the weight of each group."""
    totals = np.zeros((len(offsets) - 1, len(weights)))
    filled = np.flatnonzero(np.diff(offsets) > 0)
    if len(filled):
        totals[filled] = np.add.reduceat(weights, offsets[filled], axis=1, dtype=np.float64).T
    return totals


@jit
def _steps(rows, values, offsets, weights, totals):  # type: ignore[no-untyped-def]
    """Make the steps of every group from the stored values of a column."""
    n_groups, n_draws = totals.shape
    steps = (np.empty(rows.size + n_groups), np.empty((rows.size + n_groups, n_draws)))
    starts = np.zeros(n_groups + 1, np.int64)
    first = 0
    for group in range(n_groups):
        last = first
        while last < rows.size and rows[last] < offsets[group + 1]:
            last += 1
        unstored = np.empty(0)
        if last - first < offsets[group + 1] - offsets[group]:
            unstored = totals[group].copy()
            for row in rows[first:last]:
                for draw in range(n_draws):
                    unstored[draw] -= weights[draw, row]
        stop = _fill_steps(rows[first:last], values[first:last], (weights, unstored), steps, starts[group])
        for step in range(starts[group], stop):
            for draw in range(n_draws):
                steps[1][step, draw] /= totals[group, draw]
        starts[group + 1] = stop
        first = last
    return steps[0][: starts[-1]], steps[1][: starts[-1]], starts


@jit
def _fill_steps(rows, values, weights, steps, start):  # type: ignore[no-untyped-def]
    """Fill the steps of a group from number `start` on with cumulated weights; return the number after the last."""
    of_rows, unstored = weights
    last = start - 1
    order = np.argsort(values)
    zeros_left = unstored.size > 0
    for k in range(order.size + 1):
        # The zeros that are not stored come before the first value that is not negative.
        if zeros_left and (k == order.size or values[order[k]] >= 0.0):
            last = _step_at(0.0, steps, start, last)
            for draw in range(unstored.size):
                steps[1][last, draw] += unstored[draw]
            zeros_left = False
        if k < order.size:
            last = _step_at(values[order[k]], steps, start, last)
            for draw in range(of_rows.shape[0]):
                steps[1][last, draw] += of_rows[draw, rows[order[k]]]
    return last + 1


@jit
def _step_at(value, steps, start, last):  # type: ignore[no-untyped-def]
    """Return the number of the step at a value: the last one, or one more, as high as that."""
    values, heights = steps
    if last >= start and values[last] == value:
        return last
    values[last + 1] = value
    for draw in range(heights.shape[1]):
        heights[last + 1, draw] = heights[last, draw] if last >= start else 0.0
    return last + 1


@jit
def _add_statistics(steps, pairs, sums):  # type: ignore[no-untyped-def]
    """Add the Kolmogorov-Smirnov statistic of a column to ``sums[draw, pair]``."""
    (values, heights, starts), (left, right) = steps, pairs
    n_draws = heights.shape[1]
    largest = np.empty(n_draws)
    for pair in range(left.size):
        i, i_stop = starts[left[pair]], starts[left[pair] + 1]
        j, j_stop = starts[right[pair]], starts[right[pair] + 1]
        if i == i_stop or j == j_stop:
            for draw in range(n_draws):
                sums[draw, pair] = np.nan
            continue
        for draw in range(n_draws):
            largest[draw] = 0.0
        first_i, first_j = i, j
        # Once one function has reached 1, the difference only shrinks.
        while i < i_stop and j < j_stop:
            x, y = values[i], values[j]
            i += x <= y
            j += y <= x
            for draw in range(n_draws):
                below_x = heights[i - 1, draw] if i > first_i else 0.0
                below_y = heights[j - 1, draw] if j > first_j else 0.0
                difference = abs(below_x - below_y)
                if not difference <= largest[draw]:  # or NaN: an empty draw
                    largest[draw] = difference
        for draw in range(n_draws):
            sums[draw, pair] += largest[draw]
