"""The distance between two groups' clouds of (mean, variance), one point per column."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from ptg.distance.metrics.registry import MetricRecord, register
from ptg.distance.metrics.statistics import MomentStatistics, population

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ptg.distance.metrics.statistics import Statistics
    from ptg.distance.sample import Sample
    from ptg.execute import Run

    Floats: TypeAlias = NDArray[np.float64]


@register(
    MetricRecord(
        name="mean_var_distribution",
        formula="mean over a 100 x 100 grid of (f_X - f_Y)², f the density of (log mean, log variance) over columns",
        source="10.1101/2023.12.26.572833",
        needs="moments",
        invariances=frozenset({"scaling"}),
        on_gpu=False,
    )
)
class MeanVarianceDistribution(MomentStatistics):
    """Mean squared difference of two kernel density estimates of the columns' (log mean, log population variance).

    The kernel is exp(-|t| / h) / (2 pi h²) with Silverman's h = n^(-1/6) for n columns. The grid covers the points of
    both groups. Columns count where mean and variance are above 0; pertpy keeps those with variance 0, whose logarithm
    is infinite, and is then NaN. On an embedding, where about half of the means are negative, the metric says little.
    """

    undefined_because = "have no column with a mean and a variance above 0"

    def _of_pairs(self, statistics: Statistics, left: NDArray[np.int64], right: NDArray[np.int64], run: Run) -> Floats:
        points, offsets = _points(statistics)
        found: Floats = run.kernels.density.density_differences(points, offsets, left, right, resources=run.resources)
        return found

    def undefined_groups(self, sample: Sample, run: Run) -> NDArray[np.bool_]:
        """Mark groups without a point."""
        means, variances, sizes = self._statistics(sample, run, None)
        return np.asarray(np.diff(_points((means[0], variances[0], sizes[0]))[1]) == 0)


def _points(statistics: Statistics) -> tuple[Floats, NDArray[np.int64]]:
    """(n_points, 2) log mean and log variance of the columns that count, by group, and the bounds of the groups."""
    means, variances, sizes = statistics
    spread = population(variances, sizes)
    counts = (means > 0) & (spread > 0)
    points = np.log(np.stack([means[counts], spread[counts]], axis=1))
    return points, np.append(0, np.cumsum(counts.sum(axis=1)))
