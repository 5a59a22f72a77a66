"""Confidence intervals from bootstrap draws, by the conventions of `scipy.stats.bootstrap`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np
import pandas as pd
from scipy.special import ndtr, ndtri

from ptg.data import check_choice, check_number, entry_point

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ptg.distance.metrics import Metric
    from ptg.distance.sample import Sample
    from ptg.execute import Run

    Floats: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True)
class BootstrapDraws:
    """Distances of bootstrap draws: what ``return_draws=True`` adds to a result.

    Attributes
    ----------
    draws
        DataFrame, one row per draw and one column per pair of groups: the distance of the resampled cells.
    distance
        Series, the distance of the cells themselves, by pair.
    plug_in
        Series, the distance of the two groups of cells taken as whole populations, by pair: what the draws are
        estimates of. It differs from `distance` for an unbiased estimator only, and is its biased one then.
    """

    draws: pd.DataFrame
    distance: pd.Series[float]
    plug_in: pd.Series[float]
    _accelerations: Callable[[], Floats] = field(repr=False, compare=False)

    @property
    def standard_error(self) -> pd.Series[float]:
        """Standard deviation of the draws, by pair (divided by the number of draws less 1, as in SciPy)."""
        return self.draws.std(ddof=1)

    @entry_point
    def interval(self, confidence_level: float = 0.95, method: str = "percentile") -> pd.DataFrame:
        r"""Make confidence intervals of the distances.

        Parameters
        ----------
        confidence_level
            Between 0 and 1.
        method
            ``"percentile"``, ``"basic"`` (reverse percentile) or ``"bca"`` (bias-corrected and accelerated), as in
            `scipy.stats.bootstrap`; capital letters do not matter.

        Returns
        -------
        DataFrame with columns ``low`` and ``high``, indexed by pair. NaN where a draw is NaN, and from ``"bca"`` where
        all draws lie on one side of the distance or the distance without one of the cells is not defined.

        Notes
        -----
        A resample holds cells more than once, so draws of an unbiased distance estimate the biased one (`plug_in`).
        Their difference is known, and the draws are moved by it, ``draws - plug_in + distance``, before anything else.
        Without that, intervals of groups that do not differ would lie above 0: of 200 samples of 30 and 40 cells with a
        weak effect in 20 columns, no 90 % interval held the true distance, and 196 or more do with it (intervals are
        cautious where the effect is small against the spread of the cells). For all other metrics the difference is 0,
        and the intervals are those of `scipy.stats.bootstrap` from the same draws.

        ``"bca"`` leaves each cell of both groups out once [1]_: cheap for the energy distance and for distances of
        means, as slow as so many draws for others. It computes that when it is asked for, from the cells as they are
        then: do not change them in between.

        References
        ----------
        .. [1] Efron and Tibshirani, An Introduction to the Bootstrap, 1993, 10.1201/9780429246593

        Examples
        --------
        >>> import numpy as np, ptg
        >>> x = np.random.default_rng(0).normal(size=(50, 2))
        >>> _, draws = ptg.Distance("euclidean").bootstrap(x, x + 2.0, return_draws=True)
        >>> draws.interval(0.9).columns.tolist()
        ['low', 'high']
        """
        level = check_number("confidence_level", confidence_level, minimum=0.0, maximum=1.0, open_ends=True)
        name = method.lower() if isinstance(method, str) else method
        limits = _METHODS[check_choice("method", name, list(_METHODS))]
        observed, plug_in = (np.asarray(column, dtype=np.float64) for column in (self.distance, self.plug_in))
        moved = self.draws.to_numpy(dtype=np.float64) + (observed - plug_in)
        low, high = limits(_Given(moved, observed, self._accelerations), (1.0 - level) / 2.0)
        return pd.DataFrame({"low": low, "high": high}, index=self.draws.columns)


def acceleration(metric: Metric, sample: Sample, left: NDArray[np.int64], right: NDArray[np.int64], run: Run) -> Floats:
    """Compute the acceleration of each pair of groups from the distances without each of their cells.

    Parameters
    ----------
    metric, sample, run
        What to compute, on which cells, and with what.
    left, right
        (n_pairs,) group numbers, on the host.

    Returns
    -------
    (n_pairs,): 0 for a group and itself.
    """
    sample = sample.on_device(run)
    found = np.zeros(len(left))
    for pair in np.flatnonzero(left != right):
        found[pair] = _acceleration(metric.values_without_each_cell(sample, int(left[pair]), int(right[pair]), run=run))
    return found


def _acceleration(without_each: tuple[Floats, Floats]) -> float:
    """Sixth of the skewness of the influence of single cells, over both groups; 0 where no cell has any."""
    cubes = squares = 0.0
    for values in without_each:
        influence = (len(values) - 1) * (values.mean() - values)
        cubes += float((influence**3).sum()) / len(values) ** 3
        squares += float((influence**2).sum()) / len(values) ** 2
    return cubes / (6.0 * squares**1.5) if squares != 0.0 else 0.0


class _Given(NamedTuple):
    """What intervals are made from: (n_draws, n_pairs) draws, the rest (n_pairs,)."""

    draws: Floats
    observed: Floats
    accelerations: Callable[[], Floats]


def _percentile(given: _Given, tail: float) -> tuple[Floats, Floats]:
    low, high = np.percentile(given.draws, [100.0 * tail, 100.0 * (1.0 - tail)], axis=0)
    return low, high


def _basic(given: _Given, tail: float) -> tuple[Floats, Floats]:
    low, high = _percentile(given, tail)
    return 2.0 * given.observed - high, 2.0 * given.observed - low


def _bca(given: _Given, tail: float) -> tuple[Floats, Floats]:
    """Percentiles of the draws, at levels moved by the bias and the acceleration."""
    draws, observed = given.draws, given.observed
    below = ((draws < observed).mean(axis=0) + (draws <= observed).mean(axis=0)) / 2.0
    bias, a = ndtri(below), given.accelerations()
    limits = []
    for level in (tail, 1.0 - tail):
        with np.errstate(invalid="ignore"):
            z = bias + ndtri(level)
            levels = ndtr(bias + z / (1.0 - a * z))
        usable = np.isfinite(bias) & np.isfinite(levels)
        at = [
            np.percentile(column, 100.0 * position) if ok else np.nan
            for column, position, ok in zip(draws.T, levels, usable, strict=True)
        ]
        limits.append(np.array(at))
    return limits[0], limits[1]


_METHODS: dict[str, Callable[[_Given, float], tuple[Floats, Floats]]] = {
    "percentile": _percentile,
    "basic": _basic,
    "bca": _bca,
}
