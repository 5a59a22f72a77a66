"""Distances between the rankings of the columns by two group means."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from scipy.stats import rankdata

from ptg.distance.metrics.pseudobulk import SOURCE, MeanMetric
from ptg.distance.metrics.registry import MetricRecord, register
from ptg.distance.metrics.statistics import AGGREGATION, ProfileMetric, centred, one_minus_cosine, ratio, unit

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ptg.distance.metrics.statistics import Statistics
    from ptg.execute import Run

    Floats: TypeAlias = NDArray[np.float64]

_UNDEFINED = "have the same mean in every column, and so no ranking"


@register(
    MetricRecord(
        name="spearman_distance",
        formula="1 - r, r the correlation of the ranks of x and of y over the columns (equal values: their mean rank)",
        source=SOURCE,
        needs="means",
        invariances=frozenset({"constant shift", "scaling"}),
        options=(AGGREGATION,),
    )
)
class SpearmanDistance(MeanMetric):
    """One minus the rank correlation of the means."""

    undefined_because = _UNDEFINED

    def _prepare(self, profiles: Floats) -> Floats:
        return unit(centred(rankdata(profiles, axis=-1)))

    def between(self, x: Floats, y: Floats) -> Floats:
        """Compute one minus the cosine of centred ranks."""
        return one_minus_cosine(x, y)


@register(
    MetricRecord(
        name="kendalltau_distance",
        formula="(1 - tau_b) d(d-1)/4: the number of pairs of columns that x and y order differently, without ties",
        source=SOURCE,
        needs="means",
        invariances=frozenset({"constant shift", "scaling"}),
        options=(AGGREGATION,),
    )
)
class KendallTauDistance(ProfileMetric):
    """The number of pairs of columns whose order differs; with ties through Kendall's tau-b, as in pertpy.

    Source of tau-b: Kendall 1945, https://doi.org/10.1093/biomet/33.3.239.
    """

    undefined_because = _UNDEFINED

    def _of_pairs(self, statistics: Statistics, left: NDArray[np.int64], right: NDArray[np.int64], run: Run) -> Floats:
        (profiles,) = statistics
        excess = run.kernels.concordance.concordance(profiles, left, right, resources=run.resources)
        ordered = _ordered_pairs(profiles)
        n_columns = profiles.shape[1]
        # As in scipy.stats.kendalltau: the square roots one after the other, so that no product overflows.
        tau = ratio(ratio(excess.astype(np.float64), np.sqrt(ordered[left])), np.sqrt(ordered[right]))
        distances: Floats = (1.0 - np.clip(tau, -1.0, 1.0)) * (n_columns * (n_columns - 1) / 4)
        return distances


def _ordered_pairs(profiles: Floats) -> Floats:
    """(n_groups,): how many pairs of columns differ in each profile."""
    n_columns = profiles.shape[1]
    last = rankdata(profiles, method="max", axis=1)
    first = rankdata(profiles, method="min", axis=1)
    equal = (last - first).sum(axis=1) / 2.0  # every one of t equal values has t - 1 others
    ordered: Floats = n_columns * (n_columns - 1) / 2.0 - equal
    return ordered
