"""Passes over the CSR entries of a count matrix on the current device."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cupy as cp
import numpy as np

from ptg.kernels.cuda.source import kernel, type_options
from ptg.kernels.cuda.transfer import to_device

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ptg.kernels.contract.resources import Resources

_THREADS = 256
_ZERO = np.uint64(0xFFFFFFFFFFFFFFFF)
"""Key of an entry without count."""


def tally(indices: Any, counts: Any, resources: Resources) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Count how often each guide has each count.

    Returns
    -------
    keys
        ``guide << 32 | count``, ascending, of the counts that occur; on the host.
    numbers
        How often each occurs.
    """
    indices, counts = to_device(indices, resources), to_device(counts, resources)
    keys = cp.empty(len(indices), dtype=np.uint64)
    kernel("counts.cu", "make_keys", type_options(Index=indices.dtype, Count=counts.dtype))(
        (-(-len(keys) // _THREADS),), (_THREADS,), (indices, counts, np.int64(len(keys)), keys)
    )
    keys.sort()
    starts = _run_starts(keys)
    distinct, numbers = keys[starts].get(), cp.diff(starts, append=len(keys)).get()
    n_counts = len(distinct) - int(distinct[-1] == _ZERO)
    return distinct[:n_counts], numbers[:n_counts]


def merge_tallies(
    tallies: list[tuple[NDArray[np.uint64], NDArray[np.int64]]], resources: Resources
) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Add up what `tally` returned for several blocks."""
    if len(tallies) == 1:
        return tallies[0]
    keys, numbers = (to_device(np.concatenate(parts), resources) for parts in zip(*tallies, strict=True))
    if not len(keys):
        return tallies[0]
    order = cp.argsort(keys)
    keys = keys[order]
    starts = _run_starts(keys)
    before = cp.concatenate([cp.zeros(1, dtype=np.int64), cp.cumsum(numbers[order])])
    return keys[starts].get(), cp.diff(before[starts], append=before[-1:]).get()


def _run_starts(ascending: Any) -> Any:
    """Positions where a new value begins; of at least one value."""
    return cp.flatnonzero(cp.concatenate([cp.ones(1, dtype=bool), ascending[1:] != ascending[:-1]]))


def entries_above(
    indptr: NDArray[np.int64], indices: Any, counts: Any, thresholds: NDArray[Any], resources: Resources
) -> tuple[NDArray[np.int64], NDArray[Any]]:
    """Return the number of guides that reach their threshold in each cell, and these guides, on the host."""
    if counts.size == 0:
        return np.zeros(len(indptr) - 1, dtype=np.int64), cp.asnumpy(indices)
    indices, counts = to_device(indices, resources), to_device(counts, resources)
    reached = counts >= cp.asarray(thresholds)[indices]  # never for NaN
    before = cp.concatenate([cp.zeros(1, dtype=np.int64), cp.cumsum(reached, dtype=np.int64)])
    return cp.diff(before[cp.asarray(indptr - indptr[0])]).get(), indices[reached].get()


def largest_counts(
    indptr: NDArray[np.int64], indices: Any, counts: Any, resources: Resources
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the guide with the largest count of each cell, and that count, on the host."""
    n_cells = len(indptr) - 1
    if counts.size == 0:
        return np.full(n_cells, -1), np.zeros(n_cells)
    indices, counts = to_device(indices, resources), to_device(counts, resources)
    guides, largest = cp.empty(n_cells, dtype=np.int64), cp.empty(n_cells)
    kernel("counts.cu", "largest_counts", type_options(Index=indices.dtype, Count=counts.dtype))(
        (-(-n_cells * 32 // _THREADS),),
        (_THREADS,),
        (cp.asarray(indptr), indices, counts, np.int64(n_cells), guides, largest),
    )
    return guides.get(), largest.get()
