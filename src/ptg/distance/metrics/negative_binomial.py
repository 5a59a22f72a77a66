"""Log-likelihood of one group's counts under a negative binomial fitted to the other's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ptg.data import check_counts
from ptg.distance.metrics.registry import Metric, MetricRecord, register

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ptg.distance.sample import Sample
    from ptg.execute import Run


@register(
    MetricRecord(
        name="nb_ll",
        formula="- mean over columns of the mean log-likelihood of Y under a negative binomial fitted to X",
        source="10.1093/biostatistics/kxm030",
        needs="counts",
        symmetric=False,
        zero_self=False,
        on_gpu=False,
    )
)
class NegativeBinomialLogLikelihood(Metric):
    """Minus the mean log-likelihood of Y's counts in the negative binomials that fit X's best, column by column.

    It is a score, not a distance: of X under its own fit it is not 0, and the unit is nats per cell and column. Columns
    whose variance in X does not exceed their mean have no fit and do not count; columns that X does not express count
    0, as in pertpy, unless Y's mean is 10 or more. Where fewer than half of the columns count, the value is NaN
    (pertpy: an error). Likelihoods are computed without the 1e-8 that pertpy adds inside logarithms.
    """

    undefined_because = "have overdispersed counts in fewer than half of the columns"

    def values(
        self,
        sample: Sample,
        left: NDArray[np.int64],
        right: NDArray[np.int64],
        *,
        weights: NDArray[Any] | None = None,
        run: Run,
    ) -> NDArray[np.float64]:
        """Compute the scores; with weights draw by draw, from each draw's own fits."""
        stored = sample.cells if isinstance(sample.cells, np.ndarray) else sample.cells.data
        check_counts(stored, "the matrix of cells for metric='nb_ll'")
        if weights is None:
            return self._scores(sample, left, right, None, run)
        return np.array([self._scores(sample, left, right, draw, run) for draw in weights])

    @staticmethod
    def _scores(
        sample: Sample,
        left: NDArray[np.int64],
        right: NDArray[np.int64],
        weights: NDArray[Any] | None,
        run: Run,
    ) -> NDArray[np.float64]:
        found = run.kernels.negative_binomial.log_likelihoods(
            sample.cells, sample.offsets, left, right, weights=weights, resources=run.resources
        )
        scores = 0.0 - found.sums / np.maximum(found.n_columns, 1)  # not -0.0
        return np.where(2 * found.n_columns >= sample.cells.shape[1], scores, np.nan)

    def undefined_groups(self, sample: Sample, run: Run) -> NDArray[np.bool_]:
        """Mark groups whose own counts cannot be scored."""
        groups = np.arange(len(sample.names))
        return np.isnan(self._scores(sample, groups, groups, None, run))
