"""Fit the mixtures of many guides at once (`mixture_fit.cu`), on the current device."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import cupy as cp
import numpy as np

from ptg.kernels.cuda.source import kernel

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ptg.kernels.contract.mixture import CountHistograms

_STARTS = 36
_LANES = 8
_RECORD_BYTES = 424
_THREADS = 128

BYTES_PER_GUIDE = _STARTS * _RECORD_BYTES
"""Temporaries of a guide while it is fitted."""


class GuideFits(NamedTuple):
    """Results of some guides: u (n, 4), loss, iterations and `FitStatus`, each (n,)."""

    parameters: Any
    losses: Any
    iterations: Any
    statuses: Any


class Bins:
    """The distinct counts of all guides on the current device."""

    def __init__(self, histograms: CountHistograms) -> None:
        values, multiplicities, offsets = (cp.asarray(part) for part in histograms)
        n_bins, n_guides = len(values), len(offsets) - 1
        y, log_gamma, cells = (cp.empty(n_bins) for _ in range(3))
        n, total = cp.empty(n_guides), cp.empty(n_guides)
        _launch("describe_bins", n_bins, (values, multiplicities, np.int64(n_bins), y, log_gamma, cells))
        _launch("describe_guides", n_guides, (y, cells, offsets, np.int64(n_guides), n, total))
        self._arguments = (y, log_gamma, cells, offsets, n, total)

    def fit(self, guides: NDArray[np.int64], *, max_iter: int, tol: float) -> GuideFits:
        """Fit some guides, all with at least two cells and a count above 1; the results are on the host."""
        n_guides = len(guides)
        records = cp.empty(n_guides * BYTES_PER_GUIDE, dtype=np.uint8)
        fits = GuideFits(
            cp.full((n_guides, 4), np.nan),
            cp.full(n_guides, np.nan),
            cp.zeros(n_guides, dtype=np.int64),
            cp.empty(n_guides, dtype=np.int64),
        )
        wanted = (cp.asarray(guides.astype(np.int32)), np.int64(n_guides))
        limits = (np.int32(min(max_iter, 2**31 - 1)), np.float64(tol))
        _launch("search", n_guides * _STARTS * _LANES, (*self._arguments, *wanted, *limits, records))
        _launch("choose", n_guides, (records, np.int64(n_guides), *fits))
        return GuideFits(*(part.get() for part in fits))


def _launch(name: str, n_threads: int, arguments: tuple[Any, ...]) -> None:
    if n_threads > 0:
        kernel("mixture_fit.cu", name)((-(-n_threads // _THREADS),), (_THREADS,), arguments)


def posterior_thresholds(parameters: Any, max_counts: NDArray[np.int64], log_odds: float) -> NDArray[np.float64]:
    """Find the smallest count whose log odds of the Normal exceed `log_odds`; `parameters` is (4, n_guides)."""
    n_guides = len(max_counts)
    found = cp.empty(n_guides)
    arguments = (cp.asarray(parameters), cp.asarray(max_counts), np.int64(n_guides), np.float64(log_odds), found)
    _launch("thresholds", 32 * n_guides, arguments)
    return np.asarray(found.get())
