"""The Mahalanobis distance of two group means."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ptg.distance.metrics.aggregation import aggregate
from ptg.distance.metrics.registry import Metric, MetricRecord, register
from ptg.distance.metrics.statistics import AGGREGATION
from ptg.execute import to_host

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ptg.distance.sample import Sample
    from ptg.execute import Run


@register(
    MetricRecord(
        name="mahalanobis",
        formula="sqrt((x - y)' S^-1 (x - y)), S the covariance (n - 1) of X, the row",
        source="10.1007/s13171-019-00164-5",
        needs="moments",
        symmetric=False,
        invariances=frozenset({"translation", "rotation", "scaling", "affine"}),
        options=(AGGREGATION,),
    )
)
class MahalanobisDistance(Metric):
    """Distance of the means in units of the first group's spread.

    Not defined where that covariance is singular: with as many columns as cells or more, with a constant column, or
    with columns that depend on each other linearly. The value is then NaN, with a warning that names the groups; pertpy
    inverts the matrix all the same and gives what rounding makes of it, 1e7 and more. A pseudo-inverse would ignore the
    directions in which X does not vary, just those in which a difference is most telling. Take fewer principal
    components, or the group with more cells as X.
    """

    undefined_because = (
        "have a singular covariance: too few cells for so many columns, a constant column, or dependent columns"
    )

    def values(
        self,
        sample: Sample,
        left: NDArray[np.int64],
        right: NDArray[np.int64],
        *,
        weights: NDArray[Any] | None = None,
        run: Run,
    ) -> NDArray[np.float64]:
        """Compute the distances; with weights draw by draw, from each draw's own covariances."""
        left, right = to_host(left), to_host(right)
        profiles = aggregate(self.options["agg_fct"], sample, run, weights)
        draws: Any = [None] if weights is None else weights
        distances = np.array(
            [
                run.kernels.covariance.mahalanobis(
                    sample.cells, sample.offsets, of_draw, left, right, weights=draw, resources=run.resources
                )
                for of_draw, draw in zip(profiles, draws, strict=True)
            ]
        )
        return distances if weights is not None else distances[0]

    def undefined_groups(self, sample: Sample, run: Run) -> NDArray[np.bool_]:
        """Mark groups with a singular covariance."""
        groups = np.arange(len(sample.names))
        return np.isnan(self.values(sample, groups, groups, run=run))
