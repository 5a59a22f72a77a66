"""The mean distance between the cells of two groups."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ptg.distance.metrics.cell_pairs import CELL_WISE_METRIC, Pairs, cell_wise_sums, without_direction
from ptg.distance.metrics.registry import Metric, MetricRecord, register

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ptg.distance.sample import Sample
    from ptg.execute import Run


@register(
    MetricRecord(
        name="mean_pairwise",
        formula="E|X-Y|, Euclidean distances between cells",
        source="10.1101/2023.12.26.572833",
        needs="cells",
        zero_self=False,
        invariances=frozenset({"translation", "rotation"}),
        options=(CELL_WISE_METRIC,),
    )
)
class MeanPairwise(Metric):
    """Mean distance between a cell of one group and a cell of the other.

    It contains the spread within the groups: two samples of the same population are not at 0. Compare groups by
    `edistance`, which takes the spread off.
    """

    undefined_because = "have a cell that is zero (with correlation: constant), and so has no direction"

    def values(
        self,
        sample: Sample,
        left: NDArray[np.int64],
        right: NDArray[np.int64],
        *,
        weights: NDArray[Any] | None = None,
        run: Run,
    ) -> NDArray[np.float64]:
        """Divide the sums between the groups by the number of pairs of cells."""
        sums = cell_wise_sums(self.options["cell_wise_metric"])(sample, Pairs(left, right, weights), run)
        sizes = run.arrays.asarray(sample.sizes, dtype=np.float64)
        means: NDArray[np.float64] = run.arrays.asarray(sums) / (sizes[left] * sizes[right])
        return means

    def undefined_groups(self, sample: Sample, run: Run) -> NDArray[np.bool_]:
        """Mark groups with a cell that has no direction where one is needed."""
        return without_direction(self.options["cell_wise_metric"], sample, run)
