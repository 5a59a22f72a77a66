"""Which tiles of rows meet which groups of columns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cupy as cp
import numpy as np

from ptg.kernels.cuda.pieces import cut_runs, share_out
from ptg.kernels.cuda.source import kernel

if TYPE_CHECKING:
    from numpy.typing import NDArray

FRAGMENT = 16
"""Rows of a fragment; every group is padded to a multiple of it."""

_ALIGNMENT = 256
"""The padded rows are as many as fill tiles of rows and of columns."""

_CHUNK = (1024, 16384)
"""Columns that one block of threads streams past, about: at least, at most."""

_TASKS = 4096
"""As many make the most of a large GPU."""

_NONE = 2**31 - 1

TASK = np.dtype(
    [("fragment", "i4"), ("n_fragments", "i4"), ("group_begin", "i4"), ("group_end", "i4"), ("slot", "i8")], align=True
)


@dataclass(frozen=True)
class Layout:
    """Groups that have cells, each padded to whole fragments.

    Attributes
    ----------
    padded_offsets
        (n_groups + 1,) int32: first row of each.
    shifts
        (n_groups + 1,) int32: sorted cell of a row minus row.
    number
        Of each group of the caller among those with cells, -1 without.
    n_rows
        Number of padded rows, with some past the last group.
    """

    padded_offsets: NDArray[np.int32]
    shifts: NDArray[np.int32]
    number: NDArray[np.int32]
    n_rows: int

    @property
    def n_groups(self) -> int:
        """Number of groups with cells."""
        return len(self.padded_offsets) - 1

    @classmethod
    def of_groups(cls, offsets: NDArray[np.int64]) -> Layout:
        """Lay out the groups ``offsets[g]:offsets[g + 1]``."""
        sizes = np.diff(offsets)
        filled = sizes > 0
        starts = np.append(offsets[:-1][filled], offsets[-1])
        padded = np.concatenate([[0], np.cumsum(-(-sizes[filled] // FRAGMENT) * FRAGMENT)])
        n_rows = int(-(-padded[-1] // _ALIGNMENT) * _ALIGNMENT)
        if n_rows > _NONE:
            raise ValueError(f"{n_rows} padded cells are more than one call takes")
        number = np.where(filled, np.cumsum(filled) - 1, -1).astype(np.int32)
        return cls(padded.astype(np.int32), (starts - padded).astype(np.int32), number, n_rows)

    def chunks(self, tile_rows: int) -> NDArray[np.int32]:
        """Cut the groups into runs of columns for one block of threads: (n_chunks + 1,) group numbers."""
        n_tiles = self.n_rows / tile_rows
        columns = int(np.clip(self.n_rows * n_tiles / 2 / _TASKS, *_CHUNK))
        runs = cut_runs(self.padded_offsets, columns)
        return np.array([0, *(stop for _, stop in runs)], dtype=np.int32)


@dataclass(frozen=True)
class Batch:
    """Neighbouring tiles of rows whose partial sums are in memory together."""

    tiles: tuple[int, int]
    tasks: NDArray[Any]
    n_partial: int


@dataclass(frozen=True)
class Plan:
    """The pairs, and where their partial sums are; arrays on the current device.

    Attributes
    ----------
    row_group, column_group
        (n_pairs,) int32: -1 in `row_group` where one of the two has no cells.
    first, stop
        (n_tiles, n_chunks) int32: groups of columns that a tile of rows meets in a chunk.
    slots
        (n_tiles, n_chunks) int64: first partial sum, counted within a batch.
    chunk_of_group
        (n_groups,) int32.
    batches
        In the order of the rows.
    """

    row_group: Any
    column_group: Any
    first: Any
    stop: Any
    slots: Any
    chunk_of_group: Any
    batches: list[Batch]
    tile_rows: int
    work: NDArray[np.float64]

    @classmethod
    def of_pairs(cls, layout: Layout, left: Any, right: Any, *, tile_rows: int, n_at_once: int, n_devices: int) -> Plan:
        """Plan the pairs ``left[p], right[p]``, int64 arrays on the device, for at most `n_at_once` partial sums."""
        chunk_bounds = layout.chunks(tile_rows)
        n_tiles, n_chunks = -(-layout.n_rows // tile_rows), len(chunk_bounds) - 1
        chunk_of_group = cp.asarray(np.repeat(np.arange(n_chunks, dtype=np.int32), np.diff(chunk_bounds)))
        row_group, column_group = cp.empty(len(left), dtype=np.int32), cp.empty(len(left), dtype=np.int32)
        ranges = cp.empty((2, n_tiles, n_chunks), dtype=np.int32)
        ranges[0], ranges[1] = _NONE, 0
        kernel("energy_prepare.cu", "orient_pairs")(
            (-(-len(left) // 256),),
            (256,),
            (
                left,
                right,
                np.int64(len(left)),
                cp.asarray(layout.number),
                cp.asarray(layout.padded_offsets),
                chunk_of_group,
                np.int32(n_chunks),
                np.int32(tile_rows),
                row_group,
                column_group,
                ranges[0],
                ranges[1],
            ),
        )
        first, stop = ranges.get()
        slots, batches, work = _batches(layout, first, stop, tile_rows, (n_at_once, n_devices))
        return cls(
            row_group,
            column_group,
            ranges[0],
            ranges[1],
            cp.asarray(slots),
            chunk_of_group,
            batches,
            tile_rows,
            work,
        )


def _batches(
    layout: Layout, first: NDArray[np.int32], stop: NDArray[np.int32], tile_rows: int, limits: tuple[int, int]
) -> tuple[NDArray[np.int64], list[Batch], NDArray[np.float64]]:
    """Cut the tiles into batches; return the slots, the batches and their numbers of distances."""
    n_at_once, n_devices = limits
    wanted = stop > 0
    n_partial = np.where(wanted, stop - first, 0).astype(np.int64) * (tile_rows // FRAGMENT)
    padded = layout.padded_offsets
    columns = np.where(wanted, padded[np.where(wanted, stop, 0)] - padded[np.where(wanted, first, 0)], 0)
    work = columns.sum(axis=1, dtype=np.float64) * tile_rows
    by_tile = np.concatenate([[0], np.cumsum(n_partial.sum(axis=1))])
    runs = [
        (begin + a, begin + b)
        for begin, end in share_out(np.concatenate([[0.0], np.cumsum(work)]), n_devices)
        for a, b in cut_runs(by_tile[begin : end + 1], max(n_at_once, 1))
    ]
    slots = np.zeros(first.shape, dtype=np.int64)
    batches = []
    for begin, end in runs:
        some = slice(begin, end)
        within = np.cumsum(n_partial[some].ravel()) - n_partial[some].ravel()
        slots[some] = within.reshape(n_partial[some].shape)
        # Chunk after chunk: blocks that run at the same time share their columns in the cache.
        chunk, tile = np.nonzero(wanted[some].T)
        tasks = np.zeros(len(tile), dtype=TASK)
        tasks["fragment"], tasks["n_fragments"] = (tile + begin) * (tile_rows // FRAGMENT), tile_rows // FRAGMENT
        tasks["slot"] = slots[some][tile, chunk]
        tasks["group_begin"], tasks["group_end"] = first[some][tile, chunk], stop[some][tile, chunk]
        batches.append(Batch((begin, end), tasks, int(by_tile[end] - by_tile[begin])))
    return slots, batches, np.array([work[begin:end].sum() for begin, end in runs])
