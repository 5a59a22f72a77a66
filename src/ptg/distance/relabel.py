"""Distances of two groups after their labels were permuted, or one of their cells was left out.

Pair-sum metrics need of a permutation only the sum s of the distances within the smaller side: with the sum r of the
distances of every cell to all others of both groups, those between the sides are ``sum of r over the side - s``, and
those within the other side are what is left.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np

from ptg.distance.sample import Sample
from ptg.execute import to_host

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ptg.distance.metrics import Metric
    from ptg.execute import Run

    Floats: TypeAlias = NDArray[np.float64]

BYTES_PER_DRAW = 1024
"""What a permutation takes besides its cells, at most: partial sums."""


class SideSums(NamedTuple):
    """Sums of cell-to-cell distances between X and Y and within each; within, every pair counts twice."""

    between: Any
    within_x: Any
    within_y: Any


@dataclass(frozen=True)
class Pools:
    """Pairs of groups whose cells are pooled to permute their labels.

    Attributes
    ----------
    left, right
        (n_pools,) group numbers: X and Y of each pair.
    keys
        (n_pools,) uint64: seeds of the permutations.
    """

    left: NDArray[np.int64]
    right: NDArray[np.int64]
    keys: NDArray[np.uint64]

    def __len__(self) -> int:
        return len(self.left)

    def __getitem__(self, some: slice) -> Pools:
        return Pools(self.left[some], self.right[some], self.keys[some])

    def n_chosen(self, sample: Sample) -> NDArray[np.int64]:
        """Return the size of the smaller side of each pool."""
        return np.minimum(sample.sizes[self.left], sample.sizes[self.right])

    def chooses_left(self, sample: Sample) -> NDArray[np.bool_]:
        """Tell in which pools the smaller side is X."""
        return np.asarray(sample.sizes[self.left] <= sample.sizes[self.right])

    def chosen(self, sample: Sample, pool: int, draws: range, run: Run) -> NDArray[np.int32]:
        """Return which cells of a pool make up the smaller side: (n_draws, n_chosen), on the device, ascending.

        They are numbered through Y, then X. Permutation 0 is the labels as they are.
        """
        n, m = (int(sample.sizes[group[pool]]) for group in (self.left, self.right))
        k = min(n, m)
        kernels, arrays = run.kernels, run.arrays
        chosen: NDArray[np.int32] = arrays.empty((len(draws), k), dtype=np.int32)
        n_true = int(draws.start == 0)
        if n_true:
            chosen[0] = arrays.arange(k) + (m if n <= m else 0)
        if len(draws) > n_true:
            weights = kernels.resampling.permutations(
                np.array([n + m]),
                np.array([k]),
                self.keys[pool : pool + 1],
                draws.start + n_true - 1,
                len(draws) - n_true,
                resources=run.resources,
            )
            chosen[n_true:] = kernels.permutation.members(weights, k, resources=run.resources)
        return chosen


def permuted_sums(sample: Sample, pools: Pools, draws: range, run: Run) -> SideSums:
    """Sum cell-to-cell distances between and within permuted groups: each (n_pools, n_draws), on the host."""
    arrays, kernels = run.arrays, run.kernels.permutation
    chosen = [pools.chosen(sample, pool, draws, run) for pool in range(len(pools))]
    within = np.empty((len(pools), len(draws)))
    for right in np.unique(pools.right):
        some = np.flatnonzero(pools.right == right)
        drawn = [chosen[pool] for pool in some]
        within[some] = to_host(
            kernels.subset_sums(
                sample.cells, sample.offsets, pools.left[some].tolist(), int(right), drawn, resources=run.resources
            )
        )
    all_of_chosen, total = np.empty(within.shape), np.empty((len(pools), 1))
    for pool, of_cells in enumerate(_sums_of_cells(sample, pools, run)):
        all_of_chosen[pool] = to_host(arrays.asarray(of_cells)[chosen[pool]].sum(axis=1))
        total[pool] = of_cells.sum()
    other = total - 2.0 * all_of_chosen + within
    is_left = pools.chooses_left(sample)[:, None]
    return SideSums(all_of_chosen - within, np.where(is_left, within, other), np.where(is_left, other, within))


def _sums_of_cells(sample: Sample, pools: Pools, run: Run) -> Iterator[Floats]:
    """Yield for each pool the sum of each cell's distances to all of the pool: the cells of Y, then those of X."""
    shared, position = np.unique(pools.right, return_inverse=True)
    pairs = [(shared, shared), (pools.right, pools.left), (pools.left, pools.right), (pools.left, pools.left)]
    left, right = (np.concatenate(side) for side in zip(*pairs, strict=True))
    found = to_host(
        run.kernels.permutation.cell_sums(sample.cells, sample.offsets, left, right, resources=run.resources)
    )
    parts = np.split(found, np.cumsum(sample.sizes[left])[:-1])
    n_shared, n_pools = len(shared), len(pools)
    for pool in range(n_pools):
        y_to_y, y_to_x = parts[position[pool]], parts[n_shared + pool]
        x_to_y, x_to_x = parts[n_shared + n_pools + pool], parts[n_shared + 2 * n_pools + pool]
        yield np.concatenate([y_to_y + y_to_x, x_to_y + x_to_x])


def sums_without_each_cell(sample: Sample, left: int, right: int, run: Run) -> tuple[SideSums, SideSums]:
    """Sum cell-to-cell distances of two groups without each cell of X, and without each cell of Y, on the host."""
    pairs = np.array([left, left, right, right]), np.array([left, right, left, right])
    found = run.kernels.permutation.cell_sums(sample.cells, sample.offsets, *pairs, resources=run.resources)
    x_to_x, x_to_y, y_to_x, y_to_y = np.split(to_host(found), np.cumsum(sample.sizes[pairs[0]])[:-1])
    between, within_x, within_y = x_to_y.sum(), x_to_x.sum(), y_to_y.sum()
    return (
        SideSums(between - x_to_y, within_x - 2.0 * x_to_x, within_y),
        SideSums(between - y_to_x, within_x, within_y - 2.0 * y_to_y),
    )


def permuted_values(metric: Metric, sample: Sample, pools: Pools, draws: range, run: Run) -> Floats:
    """Compute distances for permuted labels from the cells, or their means: see `Metric.permuted_values`."""
    values = np.empty((len(pools), len(draws)))
    for pool, is_left in enumerate(pools.chooses_left(sample)):
        n, m = (int(sample.sizes[group[pool]]) for group in (pools.left, pools.right))
        cells = _rows(sample, int(pools.right[pool]), int(pools.left[pool]), run)
        for first, stop in _runs(len(draws), n + m, cells, run):
            chosen = pools.chosen(sample, pool, range(draws.start + first, draws.start + stop), run)
            if _needs_means(metric):
                part = _sums_of_rows(cells, chosen, run)
                of_all = _sums_of_rows(cells, np.arange(n + m)[None], run)
                sums = (part, of_all - part) if is_left else (of_all - part, part)
                values[pool, first:stop] = _of_means(metric, sums[0] / n, sums[1] / m, run)
            else:
                sides = (chosen, _others(chosen, n + m, run))
                values[pool, first:stop] = _of_cells(metric, cells, sides if is_left else sides[::-1], run)
    return values


def values_without_each_cell(metric: Metric, sample: Sample, left: int, right: int, run: Run) -> tuple[Floats, Floats]:
    """Compute distances without each cell of X or Y: see `Metric.values_without_each_cell`."""
    cells = _rows(sample, left, right, run)
    n, m = int(sample.sizes[left]), int(sample.sizes[right])
    x, y = np.arange(n), n + np.arange(m)
    return (
        _without_each(metric, cells, x, y, run),
        _without_each(metric, cells, y, x, run, swapped=True),
    )


def _without_each(
    metric: Metric, cells: Any, changed: NDArray[np.int64], kept: NDArray[np.int64], run: Run, *, swapped: bool = False
) -> Floats:
    """Leave out each of the `changed` rows in turn; X are the changed ones unless swapped."""
    n, m, arrays = len(changed), len(kept), run.arrays
    values = np.full(n, np.nan)
    if n == 1:  # nothing would be left
        return values
    of_changed, of_kept = (_sums_of_rows(cells, rows[None], run) for rows in (changed, kept))
    for first, stop in _runs(n, n + m, cells, run):
        left_out = changed[first:stop, None]
        if _needs_means(metric):
            part = (of_changed - _sums_of_rows(cells, left_out, run)) / (n - 1)
            means = (part, np.broadcast_to(of_kept / m, part.shape))
            values[first:stop] = _of_means(metric, *(means[::-1] if swapped else means), run)
        else:
            rows = np.broadcast_to(changed, (stop - first, n))[changed != left_out].reshape(-1, n - 1)
            sides = arrays.asarray(rows), arrays.asarray(np.broadcast_to(kept, (stop - first, m)))
            values[first:stop] = _of_cells(metric, cells, sides[::-1] if swapped else sides, run)
    return values


def _rows(sample: Sample, first: int, second: int, run: Run) -> Any:
    """Cells of two groups, one after the other."""
    bounds = [(int(sample.offsets[group]), int(sample.offsets[group + 1])) for group in (first, second)]
    return sample.cells[run.arrays.concatenate([run.arrays.arange(*bound) for bound in bounds])]


def _runs(n_cases: int, n_cells: int, cells: Any, run: Run) -> Iterator[tuple[int, int]]:
    """Cut cases that take a copy of some cells each, so that copies and what metrics make of them fit in memory."""
    values = cells.shape[1] if isinstance(cells, np.ndarray) or not hasattr(cells, "nnz") else cells.nnz / n_cells + 1
    at_once = max(1, int(run.resources.memory // (64 * n_cells * values)))
    for first in range(0, n_cases, at_once):
        yield first, min(first + at_once, n_cases)


def _needs_means(metric: Metric) -> bool:
    return metric.record.needs == "means" and metric.options.get("agg_fct", np.mean) is np.mean


def _others(chosen: Any, n_cells: int, run: Run) -> Any:
    """Return the cells that are not chosen, row by row."""
    arrays = run.arrays
    left_over = arrays.ones((len(chosen), n_cells), dtype=bool)
    left_over[arrays.arange(len(chosen))[:, None], chosen] = False
    return arrays.nonzero(left_over)[1].reshape(len(chosen), -1)


def _sums_of_rows(cells: Any, rows: Any, run: Run) -> Floats:
    """Sum over each row of row numbers, (n_cases, n_rows): (n_cases, n_columns), on the host."""
    n_cases, n_rows = rows.shape
    gathered = cells[run.arrays.asarray(rows).ravel()]
    offsets = np.arange(n_cases + 1) * n_rows
    sums: Floats = to_host(run.kernels.moments.group_sums(gathered, offsets, resources=run.resources))
    return sums


def _of_means(metric: Metric, x: Floats, y: Floats, run: Run) -> Floats:
    """Compute the distance of each row of `x` to the same row of `y`: groups of one cell, which is their mean."""
    sample = Sample(np.concatenate([x, y]), np.arange(2 * len(x) + 1), ["X"] * len(x) + ["Y"] * len(x)).on_device(run)
    cases = run.arrays.arange(len(x))
    values: Floats = to_host(metric.values(sample, cases, cases + len(x), run=run))
    return values


def _of_cells(metric: Metric, cells: Any, sides: tuple[Any, Any], run: Run) -> Floats:
    """Compute the distance of X and Y in each case from the numbers of their rows, each (n_cases, any)."""
    n_cases = len(sides[0])
    order = run.arrays.concatenate(sides, axis=1).ravel()
    sizes = np.tile([side.shape[1] for side in sides], n_cases)
    sample = Sample(cells[order], np.concatenate([[0], np.cumsum(sizes)]), ["X", "Y"] * n_cases)
    left = run.arrays.arange(n_cases) * 2
    values: Floats = to_host(metric.values(sample, left, left + 1, run=run))
    return values
