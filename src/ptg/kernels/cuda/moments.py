"""Sums, means and variances by group, on GPUs: see `ptg.kernels.contract.moments`.

Groups are cut into segments of at most 1,024 cells as on a CPU, and added up in the same order: the bits are the same.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import cupy as cp
import numpy as np

from ptg.kernels.contract.moments import GroupMoments
from ptg.kernels.cuda.devices import on_devices
from ptg.kernels.cuda.download import Downloads
from ptg.kernels.cuda.memory import reports_memory, with_fitting_size
from ptg.kernels.cuda.pieces import cut_runs, share_out
from ptg.kernels.cuda.rows import RowPieces, RowReader
from ptg.kernels.cuda.source import kernel, type_options
from ptg.kernels.cuda.transfer import to_device

if TYPE_CHECKING:
    import scipy.sparse as sp
    from numpy.typing import NDArray

    from ptg.kernels.contract.resources import Resources

_SEGMENT_CELLS = 1024
_COLUMNS = 64
"""Columns of a block of threads that sums dense rows."""

_DRAWS = 8
"""Draws that a thread sums at once."""

_LARGEST_GRID = 65_535
_FEWEST_ENTRIES = 1 << 20
_BYTES_PER_SEGMENT = 16
"""Of a column of a segment: a partial sum, the weight of the entries."""

_BYTES_PER_GROUP = 40
"""Of a column of a group: sum, mean, variance and what arises between them."""


@reports_memory
def group_sums(
    cells: NDArray[Any] | sp.csr_matrix[Any],
    offsets: NDArray[Any],
    *,
    weights: NDArray[Any] | None = None,
    out: Any = None,
    resources: Resources,
) -> NDArray[Any]:
    """Sum every column over the cells of each group: see the contract."""
    reader = RowReader(cells, resources)
    shape = (1 if weights is None else len(weights), len(offsets) - 1, reader.n_columns)
    sums: Any = np.empty(shape) if out is None else out.reshape(shape)
    sums[...] = 0.0

    def compute(run: _Run, entries: int) -> None:
        pieces = RowPieces(reader, run.bounds, entries)
        draws_at_once = min(max(resources.memory // run.n_bytes(reader.n_columns), 1), _LARGEST_GRID)
        with Downloads(resources) as downloads:
            for first in range(0, len(sums), draws_at_once):
                part = sums[first : first + draws_at_once, run.first : run.stop]
                some = None if weights is None else weights[first : first + draws_at_once]
                downloads.start(_sums(run, pieces, some, len(part), resources), part)

    _each_run(compute, reader, offsets, resources)
    result: NDArray[Any] = sums[0] if weights is None else sums
    return result


@reports_memory
def group_moments(
    cells: NDArray[Any] | sp.csr_matrix[Any],
    offsets: NDArray[Any],
    *,
    weights: NDArray[Any] | None = None,
    resources: Resources,
) -> GroupMoments:
    """Compute mean and variance of every column in each group: see the contract."""
    reader = RowReader(cells, resources)
    sizes = _sizes(np.asarray(cp.asnumpy(offsets), dtype=np.int64), weights)
    shape = (*sizes.shape[:2], reader.n_columns)
    moments = GroupMoments(np.full(shape, np.nan), np.full(shape, np.nan))

    def compute(run: _Run, entries: int) -> None:
        pieces = RowPieces(reader, run.bounds, entries)
        groups = slice(run.first, run.stop)
        draws_at_once = min(max(resources.memory // (2 * run.n_bytes(reader.n_columns)), 1), _LARGEST_GRID)
        with Downloads(resources) as downloads:
            for first in range(0, len(sizes), draws_at_once):
                draws = slice(first, first + draws_at_once)
                some = None if weights is None else weights[draws]
                n = cp.asarray(sizes[draws, groups])
                means = _sums(run, pieces, some, len(n), resources) / n  # 0 / 0 is NaN
                downloads.start(means, moments.means[draws, groups])
                variances = cp.where(n > 1, _squares(run, pieces, some, means, resources) / (n - 1), np.nan)
                downloads.start(variances, moments.variances[draws, groups])

    _each_run(compute, reader, offsets, resources)
    return GroupMoments(moments.means[0], moments.variances[0]) if weights is None else moments


def _sizes(offsets: NDArray[np.int64], weights: NDArray[Any] | None) -> NDArray[np.float64]:
    """(n_draws, n_groups, 1): the sum of the weights of each group."""
    if weights is None:
        return np.diff(offsets).astype(np.float64)[None, :, None]
    total = np.zeros((len(weights), len(offsets) - 1, 1))
    filled = np.flatnonzero(np.diff(offsets) > 0)
    if len(filled):
        total[:, filled, 0] = np.add.reduceat(cp.asnumpy(weights), offsets[filled], axis=1, dtype=np.float64)
    return total


@dataclass(frozen=True)
class _Run:
    """Groups `first` to ``stop - 1`` and their segments.

    Attributes
    ----------
    bounds
        (n_segments + 1,) int64: rows where the segments begin, and the end.
    first_segment
        (n_groups + 1,) int64.
    """

    first: int
    stop: int
    sizes: NDArray[np.int64]
    bounds: NDArray[np.int64]
    first_segment: NDArray[np.int64]

    @classmethod
    def of_groups(cls, offsets: NDArray[np.int64], first: int, stop: int) -> _Run:
        starts = offsets[first:stop]
        sizes = np.diff(offsets[first : stop + 1])
        n_segments = -(-sizes // _SEGMENT_CELLS)
        first_segment = np.concatenate([[0], np.cumsum(n_segments)])
        number = np.arange(first_segment[-1]) - np.repeat(first_segment[:-1], n_segments)
        bounds = np.append(np.repeat(starts, n_segments) + number * _SEGMENT_CELLS, offsets[stop])
        return cls(first, stop, sizes, bounds, first_segment)

    @property
    def n_segments(self) -> int:
        return len(self.bounds) - 1

    @property
    def group_of_segment(self) -> NDArray[np.int32]:
        return np.repeat(np.arange(len(self.sizes)), np.diff(self.first_segment)).astype(np.int32)

    def n_bytes(self, n_columns: int) -> int:
        """Bytes of the temporaries of one draw."""
        per_column = _BYTES_PER_SEGMENT * self.n_segments + _BYTES_PER_GROUP * len(self.sizes)
        return per_column * n_columns


def _each_run(
    compute: Callable[[_Run, int], None], reader: RowReader, offsets: NDArray[Any], resources: Resources
) -> None:
    """Call `compute` for runs of groups whose temporaries fit in memory, with the entries to bring at once."""
    offsets = np.asarray(cp.asnumpy(offsets), dtype=np.int64)
    entries = reader.starts[offsets]
    if len(offsets) < 2 or reader.n_columns == 0:
        return
    resources.progress.start(float(entries[-1] - entries[0]))

    def compute_share(share: tuple[int, int]) -> None:
        first, stop = share
        per_column = -(-np.diff(offsets) // _SEGMENT_CELLS) * _BYTES_PER_SEGMENT + _BYTES_PER_GROUP
        cost = np.concatenate([[0], np.cumsum(per_column[first:stop] * reader.n_columns)])
        for begin, end in cut_runs(cost, resources.memory):
            run = _Run.of_groups(offsets, first + begin, first + end)
            work = int(entries[run.stop] - entries[run.first])
            with_fitting_size(
                partial(compute, run),
                min(max(work, 1), reader.entries_at_once),
                smallest=_FEWEST_ENTRIES,
                what="stored values at once",
            )
            resources.progress.advance(float(work))

    on_devices(compute_share, share_out(entries, len(resources.devices)), resources.devices)


def _sums(run: _Run, pieces: RowPieces, weights: Any, n_draws: int, resources: Resources) -> Any:
    """(n_draws, n_groups, n_columns) on the current device."""
    reader = pieces.reader
    segment_sums = cp.zeros((n_draws, run.n_segments, reader.n_columns))
    bounds = cp.asarray(run.bounds)
    for first, stop, rows in pieces:
        some, options = _weights_of(run, weights, first, stop, resources)
        options = (*rows.options, *options)
        arguments = (*rows.arguments, bounds, np.int64(first), np.int64(run.n_segments), some)
        if reader.is_dense:
            draws_of_thread = 1 if n_draws == 1 else _DRAWS
            kernel("moments.cu", "dense_sums", (*options, f"-DDRAWS={draws_of_thread}"))(
                (stop - first, -(-reader.n_columns // _COLUMNS), -(-n_draws // draws_of_thread)),
                (_COLUMNS,),
                (*arguments, np.int64(n_draws), segment_sums),
            )
        else:
            kernel("moments.cu", "sparse_sums", options)(
                (stop - first, n_draws), (_threads(reader),), (*arguments, segment_sums)
            )
    return _add_segments(run, segment_sums)


def _squares(run: _Run, pieces: RowPieces, weights: Any, means: Any, resources: Resources) -> Any:
    """(n_draws, n_groups, n_columns) sums of squared deviations on the current device."""
    reader, n_draws, n_groups = pieces.reader, len(means), np.int64(means.shape[1])
    segment_sums = cp.zeros((n_draws, run.n_segments, reader.n_columns))
    bounds, group_of = cp.asarray(run.bounds), cp.asarray(run.group_of_segment)
    stored = None if reader.is_dense else cp.zeros_like(segment_sums)
    for first, stop, rows in pieces:
        some, options = _weights_of(run, weights, first, stop, resources)
        options = (*rows.options, *options)
        arguments = (
            *rows.arguments,
            bounds,
            np.int64(first),
            np.int64(run.n_segments),
            some,
            means,
            group_of,
            n_groups,
        )
        if reader.is_dense:
            draws_of_thread = 1 if n_draws == 1 else _DRAWS
            kernel("moments.cu", "dense_squares", (*options, f"-DDRAWS={draws_of_thread}"))(
                (stop - first, -(-reader.n_columns // _COLUMNS), -(-n_draws // draws_of_thread)),
                (_COLUMNS,),
                (*arguments, np.int64(n_draws), segment_sums),
            )
        else:
            kernel("moments.cu", "sparse_squares", options)(
                (stop - first, n_draws), (_threads(reader),), (*arguments, stored, segment_sums)
            )
    return _add_segments(run, segment_sums)


def _weights_of(run: _Run, weights: Any, first: int, stop: int, resources: Resources) -> tuple[Any, tuple[str, ...]]:
    """Weights of the cells of some segments on the current device, and the compiler option with their type."""
    if weights is None:
        return np.uint64(0), ()
    some = to_device(weights[:, int(run.bounds[first]) : int(run.bounds[stop])], resources)
    return some, type_options(Weight=some.dtype)


def _threads(reader: RowReader) -> int:
    """Threads of a block that sums sparse rows: about four entries of a row for each."""
    return int(np.clip(32 * np.ceil(reader.entries_per_row / 128), 32, 256))


def _add_segments(run: _Run, segment_sums: Any) -> Any:
    n_draws, n_segments, n_columns = segment_sums.shape
    out = cp.empty((n_draws, len(run.sizes), n_columns))
    kernel("moments.cu", "add_segments")(
        (len(run.sizes), -(-n_columns // 256), n_draws),
        (256,),
        (segment_sums, cp.asarray(run.first_segment), np.int64(n_segments), np.int32(n_columns), out),
    )
    return out
