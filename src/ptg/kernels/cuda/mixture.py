"""Guide counts on GPUs: see the contract in `ptg.kernels.contract.mixture`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import cupy as cp
import numpy as np

from ptg.kernels.contract.mixture import Assignments, CountHistograms, FitStatus, MixtureFit
from ptg.kernels.cuda.counts import entries_above, largest_counts, merge_tallies, tally
from ptg.kernels.cuda.devices import in_blocks, on_devices
from ptg.kernels.cuda.memory import reports_memory, with_fitting_size
from ptg.kernels.cuda.mixture_fit import BYTES_PER_GUIDE, Bins, posterior_thresholds
from ptg.kernels.cuda.pieces import cut_runs

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ptg.kernels.contract.resources import Resources

Result = TypeVar("Result")

_BYTES_PER_ENTRY = 64
"""Temporaries of a pass over entries: the entry, its key, a sort, where the keys change."""

_FEWEST_ENTRIES = 1 << 16


@reports_memory
def count_histograms(
    indices: NDArray[Any], counts: NDArray[Any], n_guides: int, *, resources: Resources
) -> CountHistograms:
    """See `MixtureKernels.count_histograms`."""
    if indices.size == 0:
        empty = np.zeros(0, dtype=np.int64)
        return CountHistograms(empty, empty.copy(), np.zeros(n_guides + 1, dtype=np.int64))

    def cut(entries: int) -> list[tuple[int, int]]:
        return [(first, min(first + entries, indices.size)) for first in range(0, indices.size, entries)]

    def tally_block(first: int, stop: int) -> Any:
        return tally(indices[first:stop], counts[first:stop], resources)

    tallies = _pass_over(indices.size, cut, tally_block, resources)
    with cp.cuda.Device(resources.devices[0]):
        keys, numbers = merge_tallies(tallies, resources)
    offsets = np.searchsorted(keys, np.arange(n_guides + 1, dtype=np.uint64) << np.uint64(32))
    return CountHistograms((keys & np.uint64(0xFFFFFFFF)).astype(np.int64), numbers, offsets.astype(np.int64))


@reports_memory
def fit_mixture(histograms: CountHistograms, *, max_iter: int, tol: float, resources: Resources) -> MixtureFit:
    """See `MixtureKernels.fit_mixture`."""
    n_guides = len(histograms.offsets) - 1
    parameters, loss = np.full((n_guides, 4), np.nan), np.full(n_guides, np.nan)
    n_iterations = np.zeros(n_guides, dtype=np.int64)
    status = np.where(histograms.max_counts < 2, FitStatus.COUNTS_BELOW_TWO, FitStatus.FITTED).astype(np.int64)
    status[histograms.n_cells < 2] = FitStatus.TOO_FEW_CELLS
    n_bins = np.diff(histograms.offsets)
    guides = np.flatnonzero(status == FitStatus.FITTED)
    guides = guides[np.argsort(-n_bins[guides], kind="stable")]  # the longest work first
    resources.progress.start(float(n_bins[guides].sum()))

    def fit_some(guides: NDArray[np.int64], at_once: int) -> None:
        bins = Bins(histograms)
        for first in range(0, len(guides), at_once):
            some = guides[first : first + at_once]
            fits = bins.fit(some, max_iter=max_iter, tol=tol)
            parameters[some], loss[some], n_iterations[some], status[some] = fits
            resources.progress.advance(float(n_bins[some].sum()))

    def fit_share(guides: NDArray[np.int64]) -> None:
        if len(guides) == 0:
            return
        at_once = max(min(resources.memory // BYTES_PER_GUIDE, len(guides)), 1)
        with_fitting_size(partial(fit_some, guides), at_once, smallest=1, what="guides at once")

    n_devices = len(resources.devices)
    on_devices(fit_share, [guides[number::n_devices] for number in range(n_devices)], resources.devices)
    log_rate, mean, log_std, logit = parameters.T
    return MixtureFit(
        np.exp(log_rate), mean.copy(), np.exp(log_std), 1.0 / (1.0 + np.exp(-logit)), loss, n_iterations, status
    )


@reports_memory
def mixture_thresholds(
    fit: MixtureFit, max_counts: NDArray[Any], *, posterior_threshold: float, resources: Resources
) -> NDArray[Any]:
    """See `MixtureKernels.mixture_thresholds`."""
    parameters = np.stack([fit.poisson_rate, fit.normal_mean, fit.normal_std, fit.normal_weight])
    log_odds = float(np.log(posterior_threshold) - np.log1p(-posterior_threshold))
    with cp.cuda.Device(resources.devices[0]):
        return posterior_thresholds(parameters, np.asarray(max_counts, dtype=np.int64), log_odds)


@reports_memory
def assign_above(
    indptr: NDArray[Any],
    indices: NDArray[Any],
    counts: NDArray[Any],
    thresholds: NDArray[Any],
    *,
    resources: Resources,
) -> Assignments:
    """See `MixtureKernels.assign_above`."""

    def assign(starts: NDArray[np.int64], entries: slice) -> Any:
        return entries_above(starts, indices[entries], counts[entries], thresholds, resources)

    parts = _pass_over_cells(indptr, assign, resources)
    n_above, guides = (np.concatenate(part) for part in zip(*parts, strict=True))
    return Assignments(np.concatenate([[0], np.cumsum(n_above)]), guides)


@reports_memory
def max_guide(
    indptr: NDArray[Any], indices: NDArray[Any], counts: NDArray[Any], *, resources: Resources
) -> tuple[NDArray[Any], NDArray[Any]]:
    """See `MixtureKernels.max_guide`."""

    def largest(starts: NDArray[np.int64], entries: slice) -> Any:
        return largest_counts(starts, indices[entries], counts[entries], resources)

    parts = _pass_over_cells(indptr, largest, resources)
    guides, counts_of_guides = (np.concatenate(part) for part in zip(*parts, strict=True))
    return guides, counts_of_guides


def _pass_over_cells(
    indptr: NDArray[Any], function: Callable[[NDArray[np.int64], slice], Result], resources: Resources
) -> list[Result]:
    """Call ``function(starts, entries)`` for blocks of cells: starts of their entries, and the entries."""
    starts = np.asarray(cp.asnumpy(indptr), dtype=np.int64)

    def call(first: int, stop: int) -> Result:
        return function(starts[first : stop + 1], slice(int(starts[first]), int(starts[stop])))

    return _pass_over(int(starts[-1]), lambda entries: cut_runs(starts, entries) or [(0, 0)], call, resources)


def _pass_over(
    n_entries: int,
    cut: Callable[[int], list[tuple[int, int]]],
    function: Callable[[int, int], Result],
    resources: Resources,
) -> list[Result]:
    """Call ``function(*block)`` for the blocks that ``cut(entries at once)`` gives, with as many as fit."""
    at_once = min(resources.memory // _BYTES_PER_ENTRY, -(-n_entries // len(resources.devices)))
    return with_fitting_size(
        lambda entries: in_blocks(function, cut(entries), resources),
        max(at_once, _FEWEST_ENTRIES),
        smallest=_FEWEST_ENTRIES,
        what="entries at once",
    )
