"""The energy distance."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ptg.distance.metrics.cell_pairs import (
    CELL_WISE_METRIC,
    Pairs,
    between_and_within,
    cell_wise_sums,
    without_direction,
)
from ptg.distance.metrics.registry import Metric, MetricRecord, Option, register
from ptg.distance.relabel import SideSums, permuted_sums, sums_without_each_cell

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ptg.distance.relabel import Pools
    from ptg.distance.sample import Sample
    from ptg.execute import Run


@register(
    MetricRecord(
        name="edistance",
        aliases=("energy_distance",),
        formula="2 E|X-Y| - E|X-X'| - E|Y-Y'|, Euclidean distances between cells (not squared)",
        source="10.1038/s41592-023-02144-y",
        needs="cells",
        nonnegative=False,
        nonnegative_estimators=("biased",),
        invariances=frozenset({"translation", "rotation"}),
        options=(
            Option(
                "estimator",
                "unbiased",
                ("unbiased", "biased"),
                "mean distances within a group over its n(n-1) pairs of different cells, or over all n² pairs",
            ),
            CELL_WISE_METRIC,
        ),
    )
)
class EnergyDistance(Metric):
    """From sums of cell-to-cell distances between and within groups.

    A resample of n cells has the within-group mean of its n cells: the weighted sum over n(n-1), or n².
    """

    undefined_because = (
        "have one cell, and so no unbiased mean distance within the group (or a cell without direction, where the "
        "cell-wise metric needs one)"
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
        """Compute the distances: sums between and within the groups in one call."""
        sums_of = cell_wise_sums(self.options["cell_wise_metric"])
        between, within, _, (x, y) = between_and_within(sums_of, sample, Pairs(left, right, weights), run)
        sizes = run.arrays.asarray(sample.sizes, dtype=np.float64)
        return self.of_sums(SideSums(between, within[..., x], within[..., y]), sizes[left], sizes[right])

    def of_sums(self, sums: SideSums, n: NDArray[np.float64], m: NDArray[np.float64]) -> NDArray[np.float64]:
        """Compute the distances of groups of n and m cells from sums of cell-to-cell distances."""
        within = self._within(sums.within_x, n) + self._within(sums.within_y, m)
        distances: NDArray[np.float64] = 2.0 * (sums.between / (n * m)) - within
        return distances

    def permuted_values(self, sample: Sample, pools: Pools, draws: range, *, run: Run) -> NDArray[np.float64]:
        """Compute the distances for permuted labels from the sums within the smaller side."""
        if not self._is_euclidean:
            return super().permuted_values(sample, pools, draws, run=run)
        n, m = (sample.sizes[group][:, None].astype(np.float64) for group in (pools.left, pools.right))
        return self.of_sums(permuted_sums(sample, pools, draws, run), n, m)

    def values_without_each_cell(
        self, sample: Sample, left: int, right: int, *, run: Run
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Compute the distances without each cell from the sums of each cell's distances."""
        if not self._is_euclidean:
            return super().values_without_each_cell(sample, left, right, run=run)
        n, m = sample.sizes[[left, right], None].astype(np.float64)
        without_x, without_y = sums_without_each_cell(sample, left, right, run)
        return self.of_sums(without_x, n - 1, m), self.of_sums(without_y, n, m - 1)

    @property
    def _is_euclidean(self) -> bool:
        """Tell whether the sums over subsets and of single cells, which are Euclidean, can be used."""
        return self.options["cell_wise_metric"] in {"euclidean", "l2"}

    def _within(self, sums: NDArray[np.float64], sizes: NDArray[np.float64]) -> NDArray[np.float64]:
        n_pairs = {"unbiased": sizes * (sizes - 1), "biased": sizes**2}[self.options["estimator"]]
        n_pairs[n_pairs == 0] = np.nan
        within: NDArray[np.float64] = sums / n_pairs
        return within

    def undefined_groups(self, sample: Sample, run: Run) -> NDArray[np.bool_]:
        """Mark groups of one cell, and groups with a cell that has no direction where one is needed."""
        too_small = (sample.sizes < 2) & (self.options["estimator"] == "unbiased")
        return np.asarray(too_small | without_direction(self.options["cell_wise_metric"], sample, run))
