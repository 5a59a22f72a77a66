"""Guide counts on a CPU: see the contract in `ptg.kernels.contract.mixture`."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from ptg.kernels.contract.mixture import Assignments, CountHistograms, FitStatus, MixtureFit
from ptg.kernels.cpu.counts import block_histograms, entries_above, largest_entries, merge_histograms
from ptg.kernels.cpu.mixture_fit import AT_BOUND, STATIONARY, UNFINISHED, fit_guides
from ptg.kernels.cpu.mixture_posterior import posterior_thresholds
from ptg.kernels.cpu.threads import run_tasks

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ptg.kernels.contract.resources import Resources

_BYTES_PER_ENTRY = 32
"""Temporaries of a histogram per entry: guide-major copy, multiplicities and their trimmed copies."""
_ENTRIES_PER_THREAD = 1 << 22
"""Below this, merging two blocks costs as much as a second thread gains."""
_BINS_PER_TASK = 1024
"""About 1 ms of fitting."""
_ENTRIES_PER_TASK = 1 << 18

_STATUS = {
    STATIONARY: FitStatus.FITTED,
    AT_BOUND: FitStatus.NO_MAXIMUM,
    UNFINISHED: FitStatus.NOT_CONVERGED,
}


def _slices(edges: NDArray[Any]) -> list[tuple[int, int]]:
    return [(int(first), int(stop)) for first, stop in pairwise(edges) if first < stop]


def _row_blocks(offsets: NDArray[Any], entries: int) -> list[tuple[int, int]]:
    """Cut rows into blocks of about `entries` entries (at least one row) by their offsets."""
    n_rows = len(offsets) - 1
    marks = np.arange(0, int(offsets[-1]), entries)[1:]
    return _slices(np.concatenate([[0], np.searchsorted(offsets, marks), [n_rows]]))


def count_histograms(
    indices: NDArray[Any], counts: NDArray[Any], n_guides: int, *, resources: Resources
) -> CountHistograms:
    """See `MixtureKernels.count_histograms`."""
    affordable = resources.memory // (_BYTES_PER_ENTRY * resources.n_threads)
    block = max(min(affordable, max(_ENTRIES_PER_THREAD, -(-indices.size // resources.n_threads))), 1 << 16)
    blocks = _slices(np.append(np.arange(0, indices.size, block), indices.size))

    def histogram(part: tuple[int, int]) -> Any:
        return block_histograms(indices[slice(*part)], counts[slice(*part)], n_guides)

    empty = np.zeros(0, dtype=np.int64)
    total = (empty, empty, np.zeros(n_guides + 1, dtype=np.int64))
    # A round of blocks at a time, so that no more than one histogram per thread waits to be merged.
    for first in range(0, len(blocks), resources.n_threads):
        parts = run_tasks(histogram, blocks[first : first + resources.n_threads], resources)
        for part in parts:
            total = part if total[0].size == 0 else merge_histograms(total, part)
    return CountHistograms(*total)


def fit_mixture(histograms: CountHistograms, *, max_iter: int, tol: float, resources: Resources) -> MixtureFit:
    """See `MixtureKernels.fit_mixture`."""
    values, multiplicities, offsets = histograms
    n_guides = len(offsets) - 1
    parameters = np.full((n_guides, 4), np.nan)
    loss = np.full(n_guides, np.nan)
    n_iterations = np.zeros(n_guides, dtype=np.int64)
    ends = np.zeros(n_guides, dtype=np.int64)
    out = (parameters, loss, n_iterations, ends)
    blocks = _row_blocks(offsets, _BINS_PER_TASK)

    def fit(guides: tuple[int, int]) -> None:
        fit_guides((values, multiplicities, offsets), guides, max_iter, tol, out)

    run_tasks(fit, blocks, resources, work=[float(offsets[stop] - offsets[first]) for first, stop in blocks])
    status = _status(histograms, ends)
    not_fitted = status != FitStatus.FITTED
    parameters[not_fitted], loss[not_fitted], n_iterations[not_fitted] = np.nan, np.nan, 0
    rate, mean, std, weight = parameters.T.copy()
    return MixtureFit(rate, mean, std, weight, loss, n_iterations, status)


def _status(histograms: CountHistograms, ends: NDArray[Any]) -> NDArray[Any]:
    """Translate what `fit_guides` returned, and name the guides that it left out."""
    status = np.array([_STATUS[end] for end in range(len(_STATUS))], dtype=np.int64)[ends]
    status[histograms.max_counts < 2] = FitStatus.COUNTS_BELOW_TWO
    status[histograms.n_cells < 2] = FitStatus.TOO_FEW_CELLS
    return np.asarray(status)


def mixture_thresholds(
    fit: MixtureFit, max_counts: NDArray[Any], *, posterior_threshold: float, resources: Resources
) -> NDArray[Any]:
    """See `MixtureKernels.mixture_thresholds`."""
    del resources
    parameters = np.stack([fit.poisson_rate, fit.normal_mean, fit.normal_std, fit.normal_weight], axis=1)
    thresholds = np.full(len(parameters), np.nan)
    log_odds = float(np.log(posterior_threshold) - np.log1p(-posterior_threshold))
    posterior_thresholds(parameters, np.asarray(max_counts, dtype=np.int64), log_odds, thresholds)
    return thresholds


def assign_above(
    indptr: NDArray[Any],
    indices: NDArray[Any],
    counts: NDArray[Any],
    thresholds: NDArray[Any],
    *,
    resources: Resources,
) -> Assignments:
    """See `MixtureKernels.assign_above`."""
    n_above = np.zeros(len(indptr) - 1, dtype=np.int64)
    csr = (indptr, indices, counts)

    def assign(cells: tuple[int, int]) -> Any:
        return entries_above(csr, thresholds, *cells, n_above)

    kept = run_tasks(assign, _row_blocks(indptr, _ENTRIES_PER_TASK), resources)
    return Assignments(np.concatenate([[0], np.cumsum(n_above)]), np.concatenate([indices[:0], *kept]))


def max_guide(
    indptr: NDArray[Any], indices: NDArray[Any], counts: NDArray[Any], *, resources: Resources
) -> tuple[NDArray[Any], NDArray[Any]]:
    """See `MixtureKernels.max_guide`."""
    n_cells = len(indptr) - 1
    out = (np.empty(n_cells, dtype=np.int64), np.empty(n_cells))

    def largest(cells: tuple[int, int]) -> None:
        largest_entries(indptr, indices, counts, cells, out)

    run_tasks(largest, _row_blocks(indptr, _ENTRIES_PER_TASK), resources)
    return out
