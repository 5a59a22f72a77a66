"""Which fragments of padded rows hold which pairs of groups."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cupy as cp
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

FRAGMENT = 16
"""Rows of a fragment; every group is padded to a multiple of it."""

TILE = 128
"""Rows that one block of threads holds."""

CHUNK = 8192
"""Columns that one block of threads streams past, about: whole groups."""

TASK = np.dtype(
    [("tile", "i4"), ("group_begin", "i4"), ("group_end", "i4"), ("unused", "i4"), ("slot", "i8")], align=True
)


@dataclass(frozen=True)
class FragmentPlan:
    """Padded rows, and the tasks that cover all wanted pairs.

    Attributes
    ----------
    padded_offsets
        (n_groups + 1,) int32: rows of each group after padding.
    source
        (n_padded,) int32: sorted cell of each row, -1 for padding.
    fragment_group
        (n_padded / 16,) int32.
    chunk_bounds
        (n_chunks + 1,) int32: groups of each chunk of columns.
    tasks
        Array of `TASK`, tile after tile.
    slots
        (n_tiles, n_chunks) int64: first partial sum of each task, -1 where there is none.
    n_partial
        Number of partial sums.
    """

    padded_offsets: NDArray[np.int32]
    source: NDArray[np.int32]
    fragment_group: NDArray[np.int32]
    chunk_bounds: NDArray[np.int32]
    tasks: NDArray[Any]
    slots: NDArray[np.int64]
    n_partial: int

    @property
    def n_rows(self) -> int:
        """Number of padded rows."""
        return len(self.source)

    @property
    def chunk_of_group(self) -> NDArray[np.int32]:
        """Chunk of each group's columns."""
        return np.repeat(np.arange(len(self.chunk_bounds) - 1), np.diff(self.chunk_bounds)).astype(np.int32)

    def work(self) -> NDArray[np.int64]:
        """Distances that each task computes."""
        begin, end = self.tasks["group_begin"], self.tasks["group_end"]
        columns: NDArray[np.int64] = (self.padded_offsets[end] - self.padded_offsets[begin]).astype(np.int64) * TILE
        return columns


def plan_fragments(offsets: NDArray[np.int64], low: Any, high: Any) -> FragmentPlan:
    """Plan the tasks for pairs of groups ``low[p] <= high[p]``, arrays of NumPy or CuPy."""
    sizes = np.diff(offsets)
    n_fragments = -(-sizes // FRAGMENT)
    padded = np.concatenate([[0], np.cumsum(n_fragments * FRAGMENT)])
    source = np.full(padded[-1], -1, dtype=np.int32)
    source[np.arange(offsets[-1]) + np.repeat(padded[:-1] - offsets[:-1], sizes)] = np.arange(offsets[-1])
    chunk_bounds = _chunks(padded)
    tile, chunk, shape = _wanted(padded, chunk_bounds, low, high)
    n_groups = np.diff(chunk_bounds)[chunk]
    slots = np.concatenate([[0], np.cumsum(n_groups * (TILE // FRAGMENT))])
    tasks = np.zeros(len(tile), dtype=TASK)
    tasks["tile"], tasks["slot"] = tile, slots[:-1]
    tasks["group_begin"], tasks["group_end"] = chunk_bounds[chunk], chunk_bounds[chunk + 1]
    slot_of = np.full(shape, -1, dtype=np.int64)
    slot_of[tile, chunk] = slots[:-1]
    return FragmentPlan(
        padded.astype(np.int32),
        source,
        np.repeat(np.arange(len(sizes)), n_fragments).astype(np.int32),
        chunk_bounds.astype(np.int32),
        tasks,
        slot_of,
        int(slots[-1]),
    )


def _chunks(padded: NDArray[np.int64]) -> NDArray[np.int64]:
    """Cut the groups into runs of about `CHUNK` rows."""
    bounds = [0]
    last = len(padded) - 1
    while bounds[-1] < last:
        fits = int(np.searchsorted(padded, padded[bounds[-1]] + CHUNK, side="right")) - 1
        bounds.append(min(max(fits, bounds[-1] + 1), last))
    return np.array(bounds)


def _wanted(
    padded: NDArray[np.int64], chunk_bounds: NDArray[np.int64], low: Any, high: Any
) -> tuple[NDArray[np.int64], NDArray[np.int64], tuple[int, int]]:
    """Find the tiles of rows and chunks of columns that hold a wanted pair."""
    n_groups, n_chunks = len(padded) - 1, len(chunk_bounds) - 1
    chunk_of = np.repeat(np.arange(n_chunks), np.diff(chunk_bounds))
    arrays = cp.get_array_module(low)
    marked = arrays.zeros((n_groups, n_chunks), dtype=bool)
    marked[low, arrays.asarray(chunk_of)[high]] = True
    by_group = cp.asnumpy(marked)
    sizes = np.diff(padded)
    by_group[sizes == 0] = False
    n_tiles = int(-(-padded[-1] // TILE))
    first = np.searchsorted(padded, np.arange(n_tiles) * TILE, side="right") - 1
    last = np.searchsorted(padded, np.minimum(np.arange(1, n_tiles + 1) * TILE, padded[-1]), side="left")
    counts = np.concatenate([np.zeros((1, n_chunks), dtype=np.int64), np.cumsum(by_group, axis=0)])
    tile, chunk = np.nonzero((counts[last] > counts[first]) & (np.diff(padded[chunk_bounds]) > 0))
    return tile, chunk, (n_tiles, n_chunks)
