"""Passes over the CSR entries of a count matrix: histograms, largest guide, entries above thresholds."""

from __future__ import annotations

import numpy as np

from ptg.kernels.cpu.compilation import jit

# Counts below this are tallied in a table, larger ones (few) are sorted.
TABLE = 256


@jit
def sort(entries, size):  # type: ignore[no-untyped-def]
    """Sort the first `size` entries in place (Shell's method: a tenth of the time to compile np.sort)."""
    gap = 1
    while gap < size // 3:
        gap = 3 * gap + 1
    while gap > 0:
        for i in range(gap, size):
            entry = entries[i]
            j = i
            while j >= gap and entries[j - gap] > entry:
                entries[j] = entries[j - gap]
                j -= gap
            entries[j] = entry
        gap //= 3


@jit
def block_histograms(indices, counts, n_guides):  # type: ignore[no-untyped-def]
    """Histogram every guide over a block of entries; return (values, multiplicities, offsets)."""
    starts = np.zeros(n_guides + 1, dtype=np.int64)
    for i in range(indices.size):
        if counts[i] > 0:
            starts[indices[i] + 1] += 1
    for guide in range(n_guides):
        starts[guide + 1] += starts[guide]
    by_guide = np.empty(starts[n_guides], dtype=np.int64)
    fill = starts[:-1].copy()
    for i in range(indices.size):
        if counts[i] > 0:
            guide = indices[i]
            by_guide[fill[guide]] = np.int64(counts[i])
            fill[guide] += 1
    multiplicities = np.empty(by_guide.size, dtype=np.int64)
    offsets = np.zeros(n_guides + 1, dtype=np.int64)
    table = np.zeros(TABLE, dtype=np.int64)
    end = 0
    for guide in range(n_guides):
        # The bins replace the entries, of which there are at least as many, from the front.
        end = tally(by_guide[starts[guide] : starts[guide + 1]].copy(), table, by_guide, multiplicities, end)
        offsets[guide + 1] = end
    return by_guide[:end].copy(), multiplicities[:end].copy(), offsets


@jit
def tally(entries, table, values, multiplicities, end):  # type: ignore[no-untyped-def]
    """Append the distinct `entries` of a guide and their number to the bins from `end` on; return the new end."""
    largest, n_large = 0, 0
    for entry in entries:
        if entry < TABLE:
            table[entry] += 1
            largest = max(largest, entry)
        else:
            entries[n_large] = entry
            n_large += 1
    for value in range(1, largest + 1):
        if table[value] > 0:
            values[end], multiplicities[end] = value, table[value]
            table[value] = 0
            end += 1
    previous = 0
    sort(entries, n_large)
    for i in range(n_large):
        value = entries[i]
        if value == previous:
            multiplicities[end - 1] += 1
        else:
            values[end], multiplicities[end] = value, 1
            previous = value
            end += 1
    return end


@jit
def merge_histograms(left, right):  # type: ignore[no-untyped-def]
    """Add up two sets of histograms, each (values, multiplicities, offsets)."""
    offsets = np.zeros_like(left[2])
    values = np.empty(left[0].size + right[0].size, dtype=np.int64)
    multiplicities = np.empty(values.size, dtype=np.int64)
    end = 0
    for guide in range(offsets.size - 1):
        i, i_stop = left[2][guide], left[2][guide + 1]
        j, j_stop = right[2][guide], right[2][guide + 1]
        while i < i_stop or j < j_stop:
            from_left = j >= j_stop or (i < i_stop and left[0][i] <= right[0][j])
            from_right = i >= i_stop or (j < j_stop and right[0][j] <= left[0][i])
            values[end] = left[0][i] if from_left else right[0][j]
            multiplicities[end] = (left[1][i] if from_left else 0) + (right[1][j] if from_right else 0)
            i += from_left
            j += from_right
            end += 1
        offsets[guide + 1] = end
    return values[:end].copy(), multiplicities[:end].copy(), offsets


@jit
def largest_entries(indptr, indices, counts, cells, out):  # type: ignore[no-untyped-def]
    """Fill ``out = (guides, largest)`` for cells `cells[0]` to `cells[1] - 1`."""
    guides, largest = out
    for cell in range(cells[0], cells[1]):
        guide, best = -1, 0.0
        for i in range(indptr[cell], indptr[cell + 1]):
            count = np.float64(counts[i])
            if count > best or (count == best and guide > indices[i]):
                guide, best = indices[i], count
        guides[cell], largest[cell] = guide, best


@jit
def entries_above(csr, thresholds, first, stop, n_above):  # type: ignore[no-untyped-def]
    """Return the guides of cells `first` to `stop - 1` that reach their threshold; fill the number per cell."""
    indptr, indices, counts = csr
    kept = np.empty(indptr[stop] - indptr[first], dtype=indices.dtype)
    end = 0
    for cell in range(first, stop):
        before = end
        for i in range(indptr[cell], indptr[cell + 1]):
            if counts[i] >= thresholds[indices[i]]:  # never for NaN
                kept[end] = indices[i]
                end += 1
        n_above[cell] = end - before
    return kept[:end].copy()
