"""The Kolmogorov-Smirnov statistic, column by column."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ptg.distance.metrics.registry import Metric, MetricRecord, register

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ptg.distance.sample import Sample
    from ptg.execute import Run


@register(
    MetricRecord(
        name="ks_test",
        formula="mean over columns of max_t |F_X(t) - F_Y(t)|, F the distribution functions of the cells",
        source="10.1214/aoms/1177730256",
        needs="cells",
        invariances=frozenset({"translation", "scaling", "monotone"}),
    )
)
class KSTestDistance(Metric):
    """Mean two-sided Kolmogorov-Smirnov statistic. It lies between 0 and 1 and grows as groups get smaller."""

    undefined_because = "have no defined distance"

    def values(
        self,
        sample: Sample,
        left: NDArray[np.int64],
        right: NDArray[np.int64],
        *,
        weights: NDArray[Any] | None = None,
        run: Run,
    ) -> NDArray[np.float64]:
        """Average the statistics over the columns."""
        sums = run.kernels.distribution.ks_sums(
            sample.cells, sample.offsets, left, right, weights=weights, resources=run.resources
        )
        distances: NDArray[np.float64] = np.asarray(sums) / sample.cells.shape[1]
        return distances

    def undefined_groups(self, sample: Sample, run: Run) -> NDArray[np.bool_]:  # noqa: ARG002
        """Mark none: every group has distribution functions."""
        return np.zeros(len(sample.names), dtype=bool)
