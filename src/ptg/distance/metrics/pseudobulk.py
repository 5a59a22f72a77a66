"""Distances between group means."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from ptg.distance.metrics.registry import MetricRecord, register
from ptg.distance.metrics.statistics import (
    AGGREGATION,
    ProfileMetric,
    RowwiseMetric,
    centred,
    one_minus_cosine,
    ratio,
    sum_of_squares,
    unit,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ptg.distance.metrics.statistics import Statistics
    from ptg.distance.sample import Sample
    from ptg.execute import Run

    Floats: TypeAlias = NDArray[np.float64]

SOURCE = "10.1101/2023.12.26.572833"


class MeanMetric(ProfileMetric, RowwiseMetric):
    """A distance between the profiles of two groups, which are means unless `agg_fct` says otherwise."""

    @abstractmethod
    def between(self, x: Floats, y: Floats) -> Floats:
        """Compute the distance of each row of `x` to the same row of `y`, both (n, n_columns)."""

    def _between(self, x: Statistics, y: Statistics) -> Floats:
        return self.between(x[0], y[0])


class _DefinedMetric(MeanMetric):
    """A distance that every pair of means has."""

    undefined_because = "have no defined distance"


@register(
    MetricRecord(
        name="euclidean",
        formula="||x - y||_2",
        source=SOURCE,
        needs="means",
        invariances=frozenset({"translation", "rotation"}),
        options=(AGGREGATION,),
    )
)
class Euclidean(_DefinedMetric):
    """Euclidean distance of the means."""

    def between(self, x: Floats, y: Floats) -> Floats:
        """Compute the norm of the difference."""
        return np.sqrt(sum_of_squares(x - y))


@register(
    MetricRecord(
        name="root_mean_squared_error",
        aliases=("rmse",),
        formula="||x - y||_2 (as in pertpy: not divided by the number of columns; the same as euclidean)",
        source=SOURCE,
        needs="means",
        invariances=frozenset({"translation", "rotation"}),
        options=(AGGREGATION,),
    )
)
class RootMeanSquaredError(Euclidean):
    """The same number as `Euclidean`, under the name that the field's software gives it."""


@register(
    MetricRecord(
        name="mse",
        aliases=("mean_squared_error",),
        formula="||x - y||_2² / d",
        source=SOURCE,
        needs="means",
        invariances=frozenset({"translation", "rotation"}),
        options=(AGGREGATION,),
    )
)
class MeanSquaredError(_DefinedMetric):
    """Mean squared difference of the means."""

    def between(self, x: Floats, y: Floats) -> Floats:
        """Average the squared differences."""
        distances: Floats = sum_of_squares(x - y) / x.shape[1]
        return distances


@register(
    MetricRecord(
        name="mean_absolute_error",
        aliases=("mae",),
        formula="||x - y||_1 / d",
        source=SOURCE,
        needs="means",
        invariances=frozenset({"translation"}),
        options=(AGGREGATION,),
    )
)
class MeanAbsoluteError(_DefinedMetric):
    """Mean absolute difference of the means."""

    def between(self, x: Floats, y: Floats) -> Floats:
        """Average the absolute differences."""
        distances: Floats = np.abs(x - y).sum(axis=1) / x.shape[1]
        return distances


@register(
    MetricRecord(
        name="pearson_distance",
        formula="1 - r, r the correlation of x and y over the columns",
        source=SOURCE,
        needs="means",
        invariances=frozenset({"constant shift", "scaling"}),
        options=(AGGREGATION,),
    )
)
class PearsonDistance(MeanMetric):
    """One minus the correlation of the means."""

    undefined_because = "have the same mean in every column, and so no correlation"

    def _prepare(self, profiles: Floats) -> Floats:
        return unit(centred(profiles))

    def between(self, x: Floats, y: Floats) -> Floats:
        """Compute one minus the cosine of centred means."""
        return one_minus_cosine(x, y)


@register(
    MetricRecord(
        name="cosine_distance",
        formula="1 - <x, y> / (||x||_2 ||y||_2)",
        source=SOURCE,
        needs="means",
        invariances=frozenset({"rotation", "scaling"}),
        options=(AGGREGATION,),
    )
)
class CosineDistance(MeanMetric):
    """One minus the cosine of the angle between the means."""

    undefined_because = "have a mean of zero in every column, and so no direction"

    def _prepare(self, profiles: Floats) -> Floats:
        return unit(profiles)

    def between(self, x: Floats, y: Floats) -> Floats:
        """Compute one minus the cosine."""
        return one_minus_cosine(x, y)

    def undefined_groups(self, sample: Sample, run: Run) -> NDArray[np.bool_]:
        """Mark groups with a mean of zero in every column."""
        return np.asarray(~self._profiles(sample, run)[0].any(axis=1))


@register(
    MetricRecord(
        name="r2_distance",
        formula="1 - R² = ||x - y||_2² / ||x - mean(x)||_2², x the truth (row) and y the prediction (column)",
        source=SOURCE,
        needs="means",
        symmetric=False,
        invariances=frozenset({"constant shift", "scaling"}),
        options=(AGGREGATION,),
    )
)
class R2Distance(MeanMetric):
    """One minus the coefficient of determination of Y's mean as a prediction of X's."""

    undefined_because = "have the same mean in every column, and so no variance to explain"

    def between(self, x: Floats, y: Floats) -> Floats:
        """Divide the squared error by the variation of the truth."""
        return ratio(sum_of_squares(x - y), sum_of_squares(centred(x)))
