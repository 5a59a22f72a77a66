"""Maximum mean discrepancy."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from ptg.data import check_integer, check_number
from ptg.distance.metrics.cell_pairs import Pairs, between_and_within, function_sums, gather
from ptg.distance.metrics.registry import Metric, MetricRecord, Option, register
from ptg.kernels.contract.kernel_sums import CellFunction

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ptg.distance.sample import Sample
    from ptg.execute import Run

_SMALLEST_GAMMA = 1e-300


@register(
    MetricRecord(
        name="mmd",
        aliases=("maximum_mean_discrepancy",),
        formula="E k(X,X') + E k(Y,Y') - 2 E k(X,Y), the squared MMD; linear kernel: ||x - y||_2²",
        source="10.48550/arXiv.0805.2368",
        needs="cells",
        invariances=frozenset({"translation", "rotation"}),
        options=(
            Option(
                "kernel", "linear", ("linear", "rbf", "poly"), "<a, b>, exp(-gamma ||a - b||²) or (gamma <a, b>)^degree"
            ),
            Option(
                "gamma",
                1.0,
                (),
                "of the rbf and poly kernels",
                check=partial(check_number, minimum=_SMALLEST_GAMMA),
                accepts="a positive number",
            ),
            Option(
                "degree",
                2,
                (),
                "of the poly kernel",
                check=partial(check_integer, minimum=1),
                accepts="a whole number of at least 1",
            ),
        ),
    )
)
class MaximumMeanDiscrepancy(Metric):
    """The squared maximum mean discrepancy, with means within a group over all n² pairs of cells (the V form).

    This is pertpy's value, default kernel and default gamma. With ``kernel="rbf"`` the default gamma is far too large
    for 50 principal components: every cell is then alone, and what is left is 1/n + 1/m. Choose gamma near one over the
    median squared distance between cells.
    """

    undefined_because = "have no defined discrepancy"

    def values(
        self,
        sample: Sample,
        left: NDArray[np.int64],
        right: NDArray[np.int64],
        *,
        weights: NDArray[Any] | None = None,
        run: Run,
    ) -> NDArray[np.float64]:
        """Compute the discrepancies from kernel sums between and within groups; from means with the linear kernel."""
        if self.options["kernel"] == "linear":
            return self._of_means(sample, Pairs(left, right, weights), run)
        function = CellFunction(self.options["kernel"], self.options["gamma"], self.options["degree"])
        sums_of = partial(function_sums, function)
        between, within, groups, (x, y) = between_and_within(sums_of, sample, Pairs(left, right, weights), run)
        sizes = run.arrays.asarray(sample.sizes, dtype=np.float64)
        within = within / run.arrays.square(sizes[groups])
        between = between / (sizes[left] * sizes[right])
        discrepancies: NDArray[np.float64] = within[..., x] + within[..., y] - 2.0 * between
        return discrepancies

    @staticmethod
    def _of_means(sample: Sample, pairs: Pairs, run: Run) -> NDArray[np.float64]:
        sums = run.kernels.moments.group_sums(
            sample.cells, sample.offsets, weights=pairs.weights, resources=run.resources
        )
        means = sums / np.asarray(sample.sizes)[:, None]
        return gather(lambda x, y: np.square(means[..., x, :] - means[..., y, :]).sum(axis=-1), pairs, means)

    def undefined_groups(self, sample: Sample, run: Run) -> NDArray[np.bool_]:  # noqa: ARG002
        """Mark none."""
        return np.zeros(len(sample.names), dtype=bool)
