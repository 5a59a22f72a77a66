"""The one path from pairs of groups to distances, plain or bootstrapped."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ptg.data import InputError, all_true, check_flag, check_integer, listed, warn
from ptg.distance.diagnostics import diagnosed
from ptg.distance.resampling import resampling_keys
from ptg.execute import to_host

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ptg.distance.metrics import Metric
    from ptg.distance.sample import Sample
    from ptg.execute import Run

_DRAWS_TOGETHER = 32
"""Draws are handed to the kernels in multiples of this, as the contract of `energy` asks."""


@dataclass(frozen=True)
class Bootstrap:
    """How many resamples to draw, from which seed, and whether the distance of every draw is kept."""

    n_bootstrap: int
    random_state: int
    keep_draws: bool = False

    @classmethod
    def checked(
        cls, bootstrap: object, n_bootstrap: object, random_state: object, return_draws: object = False
    ) -> Bootstrap | None:
        """Check what the caller passed; None unless `bootstrap`."""
        settings = cls(
            check_integer("n_bootstrap", n_bootstrap, minimum=1),
            check_integer("random_state", random_state, minimum=0),
            check_flag("return_draws", return_draws),
        )
        if check_flag("bootstrap", bootstrap):
            return settings
        if settings.keep_draws:
            raise InputError("return_draws=True without bootstrap=True: there are no draws. Pass both, or neither.")
        return None


class PairValues(NamedTuple):
    """One value per pair; `variances` is None unless the means are over bootstrap draws.

    `draws`, (n_bootstrap, n_pairs) on the host, is None unless they were to be kept.
    """

    means: NDArray[np.float64]
    variances: NDArray[np.float64] | None
    draws: NDArray[np.float64] | None = None


class _Pairs(NamedTuple):
    """The pairs to compute, on the device, and where each asked pair finds its value.

    Attributes
    ----------
    position
        On the host, -1 for a group and itself; None if the pairs are those that were asked for.
    """

    left: NDArray[np.int64]
    right: NDArray[np.int64]
    position: NDArray[np.int64] | None

    def spread(self, values: NDArray[np.float64], arrays: Any) -> NDArray[np.float64]:
        """Bring values into the order of the asked pairs."""
        if self.position is None:
            return values
        spread: NDArray[np.float64] = arrays.append(arrays.asarray(values), 0.0)[arrays.asarray(self.position)]
        return spread

    def spread_draws(self, draws: NDArray[np.float64] | None) -> NDArray[np.float64] | None:
        """Bring draws into that order."""
        if draws is None or self.position is None:
            return draws
        spread: NDArray[np.float64] = np.pad(draws, ((0, 0), (0, 1)))[:, self.position]
        return spread


@diagnosed
def evaluate(
    metric: Metric,
    sample: Sample,
    left: NDArray[np.int64],
    right: NDArray[np.int64],
    *,
    bootstrap: Bootstrap | None,
    run: Run,
    distinct: bool = False,
) -> PairValues:
    """Compute the distance of each (left, right) pair of groups.

    The distance of a group to itself is 0. Mirrored and repeated pairs are computed once where the metric is
    symmetric. Undefined distances are NaN, with one warning that lists the groups they come from.

    Parameters
    ----------
    metric, sample
        What to compute, on which cells.
    left, right
        (n_pairs,) group numbers: X and Y of each pair. Values come back as arrays of the run's device.
    bootstrap
        If given, means and population variances of the distance over resamples take the place of the distance.
    run
        Kernels and resources.
    distinct
        All pairs are of different groups, and none comes twice or, where the metric is symmetric, mirrored.
    """
    sample = sample.on_device(run)
    if distinct:
        pairs = _Pairs(run.arrays.asarray(left), run.arrays.asarray(right), None)
    else:
        pairs = _to_compute(left, right, len(sample.names), symmetric=metric.record.symmetric, arrays=run.arrays)
    if not len(pairs.left):
        values = _no_values(bootstrap)
    elif bootstrap is None:
        values = PairValues(metric.values(sample, pairs.left, pairs.right, run=run), None)
    else:
        values = _bootstrap(metric, sample, pairs, bootstrap, run)
    _warn_of_undefined(metric, sample, pairs, values.means, run)
    variances = None if values.variances is None else pairs.spread(values.variances, run.arrays)
    return PairValues(pairs.spread(values.means, run.arrays), variances, pairs.spread_draws(values.draws))


def _no_values(bootstrap: Bootstrap | None) -> PairValues:
    if bootstrap is None:
        return PairValues(np.empty(0), None)
    return PairValues(np.empty(0), np.empty(0), np.empty((bootstrap.n_bootstrap, 0)) if bootstrap.keep_draws else None)


def _to_compute(
    left: NDArray[np.int64], right: NDArray[np.int64], n_groups: int, *, symmetric: bool, arrays: Any
) -> _Pairs:
    """Find the pairs to compute, on the host: there are few unless they are known to be distinct."""
    left, right = to_host(left), to_host(right)
    first, second = (np.minimum(left, right), np.maximum(left, right)) if symmetric else (left, right)
    different = first != second
    keys, inverse = np.unique(first[different] * n_groups + second[different], return_inverse=True)
    position = np.full(len(left), -1, dtype=np.int64)
    position[different] = inverse
    return _Pairs(arrays.asarray(keys // n_groups), arrays.asarray(keys % n_groups), position)


def _bootstrap(metric: Metric, sample: Sample, pairs: _Pairs, bootstrap: Bootstrap, run: Run) -> PairValues:
    """Mean and population variance over draws, by Welford's updates in the order of the draws."""
    n_pairs = len(pairs.left)
    means, squares = run.arrays.zeros(n_pairs), run.arrays.zeros(n_pairs)
    draws = np.empty((bootstrap.n_bootstrap, n_pairs)) if bootstrap.keep_draws else None
    keys = resampling_keys(sample.names, bootstrap.random_state)
    n_at_once = _draws_at_once(sample, run.resources.memory)
    pairs_at_once = max(1, run.resources.memory // (64 * min(n_at_once, bootstrap.n_bootstrap)))
    if not metric.record.pairwise:  # all pairs make one value
        pairs_at_once = n_pairs
    for done in range(0, bootstrap.n_bootstrap, n_at_once):
        weights = run.kernels.resampling.bootstraps(
            sample.sizes, keys, done, min(n_at_once, bootstrap.n_bootstrap - done), resources=run.resources
        )
        for start in range(0, n_pairs, pairs_at_once):
            some = slice(start, start + pairs_at_once)
            values = metric.values(sample, pairs.left[some], pairs.right[some], weights=weights, run=run)
            if draws is not None:
                draws[done : done + len(values), some] = to_host(values)
            run.kernels.resampling.accumulate(
                run.arrays.asarray(values), done, means[some], squares[some], resources=run.resources
            )
    return PairValues(means, squares / bootstrap.n_bootstrap, draws)


def _draws_at_once(sample: Sample, memory: int) -> int:
    """Return how many draws of two bytes per cell take a quarter of the memory."""
    fit = memory // (4 * 2 * int(sample.offsets[-1]))
    return max(_DRAWS_TOGETHER, fit - fit % _DRAWS_TOGETHER)


def _warn_of_undefined(metric: Metric, sample: Sample, pairs: _Pairs, values: NDArray[np.float64], run: Run) -> None:
    if all_true(~np.isnan(values)):
        return
    undefined = np.isnan(to_host(values))
    involved = np.union1d(to_host(pairs.left)[undefined], to_host(pairs.right)[undefined])
    cause = involved[metric.undefined_groups(sample, run)[involved]]
    # In a bootstrap a resample can be undefined where the group itself is not.
    names = [sample.names[group] for group in (cause if len(cause) else involved)]
    warn(
        f"{int(undefined.sum())} {metric.record.name} value(s) are NaN: "
        f"{'groups' if len(cause) else 'resamples of groups'} {listed(names)} {metric.undefined_because}."
    )
