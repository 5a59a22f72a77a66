"""Distances between group means."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from ptg.distance.metrics.registry import Metric, MetricRecord, register
from ptg.execute import to_host

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ptg.distance.sample import Sample
    from ptg.execute import Run

    Floats: TypeAlias = NDArray[np.float64]

_SOURCE = "10.1101/2023.12.26.572833"
_CHUNK = 1 << 17
"""Values of group means gathered at once: they stay in the cache."""


class _MeanMetric(Metric):
    """A distance between the means of two groups."""

    @abstractmethod
    def _between(self, x: Floats, y: Floats) -> Floats:
        """Compute the distance of each row of `x` to the same row of `y`, both (n, n_columns)."""

    def values(
        self,
        sample: Sample,
        left: NDArray[np.int64],
        right: NDArray[np.int64],
        *,
        weights: NDArray[Any] | None = None,
        run: Run,
    ) -> Floats:
        """Compute the distances on the host: group means first, as many draws at once as memory allows."""
        left, right = to_host(left), to_host(right)
        if weights is None:
            of_means: Floats = self._of_means(_means(sample, run, None)[None], left, right, run)[0]
            return of_means
        n_at_once = max(1, run.resources.memory // (4 * 8 * len(sample.names) * sample.cells.shape[1]))
        distances = np.empty((len(weights), len(left)))
        for start in range(0, len(weights), n_at_once):
            draws = slice(start, start + n_at_once)
            distances[draws] = self._of_means(_means(sample, run, weights[draws]), left, right, run)
        return distances

    def _of_means(self, means: Floats, left: NDArray[np.int64], right: NDArray[np.int64], run: Run) -> Floats:
        """(n_draws, n_groups, n_columns) to (n_draws, n_pairs), a chunk of pairs at a time."""
        run.resources.progress.start(len(left))
        n_at_once = max(1, _CHUNK // means.shape[2])
        distances = np.empty((len(means), len(left)))
        for start in range(0, len(left), n_at_once):
            pairs = slice(start, start + n_at_once)
            for draw, of_draw in enumerate(means):
                distances[draw, pairs] = self._between(of_draw[left[pairs]], of_draw[right[pairs]])
            run.resources.progress.advance(len(left[pairs]))
        return distances

    def undefined_groups(self, sample: Sample, run: Run) -> NDArray[np.bool_]:
        """Mark groups with the same mean in every column."""
        means = _means(sample, run, None)
        return np.asarray(means.max(axis=1) == means.min(axis=1))


def _means(sample: Sample, run: Run, weights: NDArray[Any] | None) -> Floats:
    sums: Floats = run.kernels.moments.group_sums(
        sample.cells, sample.offsets, weights=weights, resources=run.resources
    )
    sums /= sample.sizes[:, None]
    return sums


class _DefinedMetric(_MeanMetric):
    """A distance that every pair of means has."""

    undefined_because = "have no defined distance"


@register(
    MetricRecord(
        name="euclidean",
        formula="||x - y||_2",
        source=_SOURCE,
        needs="means",
        invariances=frozenset({"translation", "rotation"}),
    )
)
class Euclidean(_DefinedMetric):
    """Euclidean distance of the means."""

    def _between(self, x: Floats, y: Floats) -> Floats:
        return np.sqrt(_sum_of_squares(x - y))


@register(
    MetricRecord(
        name="root_mean_squared_error",
        aliases=("rmse",),
        formula="||x - y||_2 (as in pertpy: not divided by the number of columns; the same as euclidean)",
        source=_SOURCE,
        needs="means",
        invariances=frozenset({"translation", "rotation"}),
    )
)
class RootMeanSquaredError(Euclidean):
    """The same number as `Euclidean`, under the name that the field's software gives it."""


@register(
    MetricRecord(
        name="mse",
        aliases=("mean_squared_error",),
        formula="||x - y||_2² / d",
        source=_SOURCE,
        needs="means",
        invariances=frozenset({"translation", "rotation"}),
    )
)
class MeanSquaredError(_DefinedMetric):
    """Mean squared difference of the means."""

    def _between(self, x: Floats, y: Floats) -> Floats:
        distances: Floats = _sum_of_squares(x - y) / x.shape[1]
        return distances


@register(
    MetricRecord(
        name="mean_absolute_error",
        aliases=("mae",),
        formula="||x - y||_1 / d",
        source=_SOURCE,
        needs="means",
        invariances=frozenset({"translation"}),
    )
)
class MeanAbsoluteError(_DefinedMetric):
    """Mean absolute difference of the means."""

    def _between(self, x: Floats, y: Floats) -> Floats:
        distances: Floats = np.abs(x - y).sum(axis=1) / x.shape[1]
        return distances


@register(
    MetricRecord(
        name="pearson_distance",
        formula="1 - r, r the correlation of x and y over the columns",
        source=_SOURCE,
        needs="means",
        invariances=frozenset({"constant shift", "scaling"}),
    )
)
class PearsonDistance(_MeanMetric):
    """One minus the correlation of the means."""

    undefined_because = "have the same mean in every column, and so no correlation"

    def _between(self, x: Floats, y: Floats) -> Floats:
        return _one_minus_cosine(_centred(x), _centred(y))


@register(
    MetricRecord(
        name="cosine_distance",
        formula="1 - <x, y> / (||x||_2 ||y||_2)",
        source=_SOURCE,
        needs="means",
        invariances=frozenset({"rotation", "scaling"}),
    )
)
class CosineDistance(_MeanMetric):
    """One minus the cosine of the angle between the means."""

    undefined_because = "have a mean of zero in every column, and so no direction"

    def _between(self, x: Floats, y: Floats) -> Floats:
        return _one_minus_cosine(x, y)

    def undefined_groups(self, sample: Sample, run: Run) -> NDArray[np.bool_]:
        """Mark groups with a mean of zero in every column."""
        return np.asarray(~_means(sample, run, None).any(axis=1))


@register(
    MetricRecord(
        name="r2_distance",
        formula="1 - R² = ||x - y||_2² / ||x - mean(x)||_2², x the truth (row) and y the prediction (column)",
        source=_SOURCE,
        needs="means",
        symmetric=False,
        invariances=frozenset({"constant shift", "scaling"}),
    )
)
class R2Distance(_MeanMetric):
    """One minus the coefficient of determination of Y's mean as a prediction of X's."""

    undefined_because = "have the same mean in every column, and so no variance to explain"

    def _between(self, x: Floats, y: Floats) -> Floats:
        return _ratio(_sum_of_squares(x - y), _sum_of_squares(_centred(x)))


def _sum_of_squares(x: Floats) -> Floats:
    total: Floats = np.square(x).sum(axis=1)
    return total


def _centred(x: Floats) -> Floats:
    """Subtract each row's mean; a constant row becomes exactly 0."""
    centred: Floats = x - x.mean(axis=1, keepdims=True)
    centred[x.max(axis=1) == x.min(axis=1)] = 0.0
    return centred


def _one_minus_cosine(x: Floats, y: Floats) -> Floats:
    """1 - cos as half the squared distance of the unit vectors: nothing cancels, and it is never negative."""
    distances: Floats = _sum_of_squares(_unit(x) - _unit(y)) / 2.0
    return distances


def _unit(x: Floats) -> Floats:
    """Divide each row by its norm, NaN for a row of zeros; by its largest value first, so that no square overflows."""
    scaled = _ratio(x, np.abs(x).max(axis=1, keepdims=True))
    unit: Floats = scaled / np.sqrt(_sum_of_squares(scaled))[:, None]
    return unit


def _ratio(numerator: Floats, denominator: Floats) -> Floats:
    """Divide; NaN where the denominator is 0."""
    ratio: Floats = np.divide(numerator, denominator, out=np.full_like(numerator, np.nan), where=denominator != 0)
    return ratio
