"""Metrics that compare the mean and the variance of every column in two groups."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from ptg.data import check_number
from ptg.distance.metrics.registry import MetricRecord, Option, register
from ptg.distance.metrics.statistics import MomentMetric, population

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ptg.distance.metrics.statistics import Statistics

    Floats: TypeAlias = NDArray[np.float64]


def _epsilon(added_to: str) -> Option:
    return Option(
        "epsilon",
        1e-8,
        (),
        f"added to {added_to}, so that columns without variance have a value",
        check=partial(check_number, minimum=0.0),
        accepts="a number of at least 0",
    )


@register(
    MetricRecord(
        name="sym_kldiv",
        aliases=("symmetric_kldiv",),
        formula="mean over columns of KL(N(x, s_x) || N(y, s_y)) + KL(N(y, s_y) || N(x, s_x)), s = SD + epsilon",
        source="10.1214/aoms/1177729694",
        needs="moments",
        invariances=frozenset({"translation", "scaling"}),
        law_options=(("epsilon", 0.0),),
        options=(_epsilon("every standard deviation"),),
    )
)
class SymmetricKLDivergence(MomentMetric):
    """Jeffreys' divergence of two Normals per column, fitted by maximum likelihood; the mean over the columns.

    With ``epsilon=0`` it is invariant to the scale of a column, and a column that is constant in one group makes it
    infinite, unless it has the same constant in both, which counts 0. pertpy's 1e-8 replaces the infinite by the
    arbitrary (the squared difference over 1e-16), so it is worth looking for constant columns; on others it acts in the
    eighth digit.
    """

    def _between(self, x: Statistics, y: Statistics) -> Floats:
        epsilon = self.options["epsilon"]
        sd_x, sd_y = (np.sqrt(population(variances, sizes)) + epsilon for _, variances, sizes in (x, y))
        difference = np.square(x[0] - y[0])
        # KL + KL reversed: the logarithms cancel. Written with differences, so that equal groups are at exactly 0.
        of_spread = np.square(_limit(np.abs(sd_x - sd_y) * (sd_x + sd_y), sd_x * sd_y))
        of_mean = _limit(difference, np.square(sd_x)) + _limit(difference, np.square(sd_y))
        divergences = (of_spread + of_mean) / 2.0
        return np.asarray(divergences.mean(axis=1))


@register(
    MetricRecord(
        name="t_test",
        formula="mean over columns of |x - y| / sqrt(v_x / n_x + v_y / n_y), v = variance + epsilon (Welch's t)",
        source="10.1093/biomet/34.1-2.28",
        needs="moments",
        invariances=frozenset({"translation", "scaling"}),
        law_options=(("epsilon", 0.0),),
        options=(_epsilon("every variance"),),
    )
)
class TTestDistance(MomentMetric):
    """Mean absolute t statistic for unequal variances. It grows with the square root of the group sizes.

    With ``epsilon=0`` a column that is constant in both groups counts 0 if the constants are equal, else it makes the
    value infinite.
    """

    def _between(self, x: Statistics, y: Statistics) -> Floats:
        epsilon = self.options["epsilon"]
        error_x, error_y = ((variances + epsilon) / sizes for _, variances, sizes in (x, y))
        return np.asarray(_limit(np.abs(x[0] - y[0]), np.sqrt(error_x + error_y)).mean(axis=1))


def _limit(numerator: Floats, denominator: Floats) -> Floats:
    """Divide; 0 / 0 is 0, anything else over 0 is infinite."""
    quotient = np.where(numerator == 0, 0.0, np.inf)
    return np.divide(numerator, denominator, out=quotient, where=denominator != 0)
