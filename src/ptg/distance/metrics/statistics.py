"""Metrics of two groups that depend on a few statistics of each: means, variances, ranks."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from ptg.distance.metrics.aggregation import aggregate, check_aggregation
from ptg.distance.metrics.registry import Metric, Option
from ptg.execute import to_host

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ptg.distance.sample import Sample
    from ptg.execute import Run

    Floats: TypeAlias = NDArray[np.float64]
    Statistics: TypeAlias = tuple[Floats, ...]

_CHUNK = 1 << 17
"""Values of a statistic gathered at once: they stay in the cache."""

AGGREGATION = Option(
    "agg_fct",
    "mean",
    (),
    "how the cells of a group become one profile",
    check=check_aggregation,
    accepts="mean, median, min, max, sum, or a function such as numpy.mean, called with cells and axis=0",
)


class StatisticMetric(Metric):
    """A metric of statistics of each group."""

    @abstractmethod
    def _statistics(self, sample: Sample, run: Run, weights: NDArray[Any] | None) -> Statistics:
        """Compute the statistics: each (n_draws, n_groups, any), one draw without weights, on the host."""

    @abstractmethod
    def _of_pairs(self, statistics: Statistics, left: NDArray[np.int64], right: NDArray[np.int64], run: Run) -> Floats:
        """Compute the value of each pair of groups from statistics of one draw, each (n_groups, any)."""

    def values(
        self,
        sample: Sample,
        left: NDArray[np.int64],
        right: NDArray[np.int64],
        *,
        weights: NDArray[Any] | None = None,
        run: Run,
    ) -> Floats:
        """Compute the values on the host: statistics first, of as many draws at once as memory allows."""
        left, right = to_host(left), to_host(right)
        if weights is None:
            return self._of_draw(self._statistics(sample, run, None), 0, left, right, run)
        n_at_once = max(1, run.resources.memory // (8 * 8 * len(sample.names) * sample.cells.shape[1]))
        distances = np.empty((len(weights), len(left)))
        for start in range(0, len(weights), n_at_once):
            statistics = self._statistics(sample, run, weights[start : start + n_at_once])
            for draw in range(len(statistics[0])):
                distances[start + draw] = self._of_draw(statistics, draw, left, right, run)
        return distances

    def _of_draw(
        self, statistics: Statistics, draw: int, left: NDArray[np.int64], right: NDArray[np.int64], run: Run
    ) -> Floats:
        of_draw = tuple(statistic[draw] for statistic in statistics)
        return self._of_pairs(of_draw, left, right, run)


class RowwiseMetric(StatisticMetric):
    """A metric of statistics whose pairs have nothing in common."""

    @abstractmethod
    def _between(self, x: Statistics, y: Statistics) -> Floats:
        """Compute the value of each row of the statistics `x` and the same row of `y`, all (n, any)."""

    def _of_pairs(self, statistics: Statistics, left: NDArray[np.int64], right: NDArray[np.int64], run: Run) -> Floats:
        """Gather a chunk of pairs at a time."""
        run.resources.progress.start(len(left))
        n_at_once = max(1, _CHUNK // max(statistic.shape[1] for statistic in statistics))
        distances = np.empty(len(left))
        for start in range(0, len(left), n_at_once):
            pairs = slice(start, start + n_at_once)
            x = tuple(statistic[left[pairs]] for statistic in statistics)
            y = tuple(statistic[right[pairs]] for statistic in statistics)
            distances[pairs] = self._between(x, y)
            run.resources.progress.advance(len(left[pairs]))
        return distances


class ProfileMetric(StatisticMetric):
    """A metric of the profiles of two groups: means over their cells, or what `agg_fct` makes of them."""

    def _profiles(self, sample: Sample, run: Run, weights: NDArray[Any] | None = None) -> Floats:
        """(n_draws, n_groups, n_columns)."""
        return aggregate(self.options["agg_fct"], sample, run, weights)

    def _prepare(self, profiles: Floats) -> Floats:
        """Do with each profile what does not depend on the other."""
        return profiles

    def _statistics(self, sample: Sample, run: Run, weights: NDArray[Any] | None) -> Statistics:
        return (self._prepare(self._profiles(sample, run, weights)),)

    def undefined_groups(self, sample: Sample, run: Run) -> NDArray[np.bool_]:
        """Mark groups with the same value in every column of their profile."""
        profiles = self._profiles(sample, run)[0]
        return np.asarray(profiles.max(axis=1) == profiles.min(axis=1))


class MomentStatistics(StatisticMetric):
    """A metric of the means and variances of two groups; its statistics are means, variances (n - 1) and sizes."""

    def _statistics(self, sample: Sample, run: Run, weights: NDArray[Any] | None) -> Statistics:
        moments = run.kernels.moments.group_moments(
            sample.cells, sample.offsets, weights=weights, resources=run.resources
        )
        means, variances = (part if weights is not None else part[None] for part in moments)
        sizes = np.broadcast_to(np.asarray(sample.sizes, dtype=np.float64)[:, None], (len(means), len(sample.sizes), 1))
        return means, variances, sizes


class MomentMetric(MomentStatistics, RowwiseMetric):
    """Such a metric whose pairs have nothing in common, defined for groups of two cells or more."""

    undefined_because = "have one cell, and so no variance"

    def undefined_groups(self, sample: Sample, run: Run) -> NDArray[np.bool_]:  # noqa: ARG002
        """Mark groups of one cell."""
        return np.asarray(sample.sizes < 2)


def population(variances: Floats, sizes: Floats) -> Floats:
    """Turn variances with n - 1 in the denominator into those with n; NaN for one cell."""
    return variances * ((sizes - 1) / sizes)


def sum_of_squares(x: Floats) -> Floats:
    """Sum the squares of each row, the last axis."""
    total: Floats = np.square(x).sum(axis=-1)
    return total


def centred(x: Floats) -> Floats:
    """Subtract each row's mean; a constant row becomes exactly 0."""
    rows: Floats = x - x.mean(axis=-1, keepdims=True)
    rows[x.max(axis=-1) == x.min(axis=-1)] = 0.0
    return rows


def unit(x: Floats) -> Floats:
    """Divide each row by its norm, NaN for a row of zeros; by its largest value first, so that no square overflows."""
    scaled = ratio(x, np.broadcast_to(np.abs(x).max(axis=-1, keepdims=True), x.shape))
    rows: Floats = scaled / np.sqrt(sum_of_squares(scaled))[..., None]
    return rows


def one_minus_cosine(x: Floats, y: Floats) -> Floats:
    """1 - cos of unit rows as half their squared distance: nothing cancels, and it is never negative."""
    distances: Floats = sum_of_squares(x - y) / 2.0
    return distances


def ratio(numerator: Floats, denominator: Floats) -> Floats:
    """Divide; NaN where the denominator is 0."""
    result: Floats = np.divide(numerator, denominator, out=np.full_like(numerator, np.nan), where=denominator != 0)
    return result
