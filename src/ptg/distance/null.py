"""The null distribution of distances under permuted labels."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np

from ptg.distance.diagnostics import warn_of_unfinished_permutations
from ptg.distance.relabel import BYTES_PER_DRAW, Pools
from ptg.distance.resampling import resampling_keys

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from ptg.distance.metrics import Metric
    from ptg.distance.sample import Sample
    from ptg.execute import Run

    Floats: TypeAlias = NDArray[np.float64]

_ROUNDING = {np.dtype(np.float32): 1e-6, np.dtype(np.float64): 1e-9}
"""Permuted distances this close to the observed one, relative to the largest of them, are taken as equal to it."""
_ITERATED = 1e-6
"""The same where values are found by iteration: the accuracy of the default `tol`."""


class NullSummary(NamedTuple):
    """What is kept of each pool's null distribution, (n_pools,) each; NaN where a permuted distance is undefined.

    Attributes
    ----------
    pvalues
        ``(1 + number of permuted distances >= the observed one) / (1 + n_perms)``.
    means, standard_deviations
        Of the permuted distances; population standard deviations, 0 where the distances differ by rounding alone.
    """

    pvalues: Floats
    means: Floats
    standard_deviations: Floats


def permutation_null(
    metric: Metric,
    sample: Sample,
    pairs: tuple[NDArray[np.int64], NDArray[np.int64]],
    *,
    n_perms: int,
    random_state: int,
    run: Run,
) -> NullSummary:
    """Permute the labels of X and Y within the cells of both, for each pair of groups.

    The permutations of a pair depend on `random_state` and the names of the two groups alone.
    """
    sample = sample.on_device(run)
    names = [f"{sample.names[x]}\x1f{sample.names[y]}" for x, y in zip(*pairs, strict=True)]
    pools = Pools(*pairs, resampling_keys(names, random_state))
    found, n_before = np.empty((3, len(pools))), len(run.reports)
    rounding = _ITERATED if metric.record.iterative else _ROUNDING[np.dtype(sample.cells.dtype)]
    for some, n_draws in _pieces(sample, pools, 1 + n_perms, run.resources.memory // 4):
        values = np.empty((some.stop - some.start, 1 + n_perms))
        for start in range(0, 1 + n_perms, n_draws):
            draws = range(start, min(start + n_draws, 1 + n_perms))
            values[:, draws.start : draws.stop] = metric.permuted_values(sample, pools[some], draws, run=run)
        found[:, some] = _summary(values, rounding)
    warn_of_unfinished_permutations(metric, run.reports[n_before:])
    return NullSummary(*found)


def _summary(values: Floats, rounding: float) -> NullSummary:
    """Compare (n_pools, 1 + n_perms) distances with the first of each pool."""
    observed, permuted = values[:, :1], values[:, 1:]
    margin = rounding * np.abs(values).max(axis=1, keepdims=True, where=np.isfinite(values), initial=0.0)
    n_reached = np.count_nonzero(permuted >= observed - margin, axis=1)
    pvalues = np.where(np.isnan(values).any(axis=1), np.nan, (1.0 + n_reached) / values.shape[1])
    with np.errstate(invalid="ignore"):  # an infinite distance has no deviation
        deviations = permuted.std(axis=1)
    deviations[deviations <= margin[:, 0]] = 0.0
    return NullSummary(pvalues, permuted.mean(axis=1), deviations)


def _pieces(sample: Sample, pools: Pools, n_draws: int, memory: int) -> Iterator[tuple[slice, int]]:
    """Cut the work: pools at once, and draws of them at once, that fit in memory together."""
    n_chosen = pools.n_chosen(sample)
    n_cells = sample.sizes[pools.left] + sample.sizes[pools.right]
    # Chosen cells as numbers and as gathered values; the weights they come from, of one pool at a time.
    per_draw = 16 * n_chosen + BYTES_PER_DRAW
    first = 0
    while first < len(pools):
        stop, taken = first, 0
        while stop < len(pools) and (stop == first or taken + per_draw[stop] * n_draws <= memory):
            taken += int(per_draw[stop]) * n_draws
            stop += 1
        of_weights = 4 * int(n_cells[first:stop].max())
        yield slice(first, stop), max(1, min(n_draws, memory // (int(per_draw[first:stop].sum()) + of_weights)))
        first = stop
