"""Distances within subsets of cells, on a GPU: see `ptg.kernels.contract.permutation`.

A subset of up to 240 cells of 50 float32 columns fits in the shared memory of a block of threads, which takes a draw;
larger ones go through tiles of 64 cells. Everything is computed on the first device.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import cupy as cp
import numpy as np

from ptg.kernels.cuda.matrices import here
from ptg.kernels.cuda.memory import reports_memory
from ptg.kernels.cuda.source import kernel, type_options
from ptg.kernels.cuda.transfer import to_device

if TYPE_CHECKING:
    import scipy.sparse as sp
    from numpy.typing import NDArray

    from ptg.kernels.contract.resources import Resources

_SHARED = 44 << 10
"""Bytes that a block's cells may take: every device has 48 KiB without asking, of which sums need 2."""

_SIDE = 4
_TILE = 64
_THREADS = 256


@reports_memory
def members(weights: NDArray[Any], n_chosen: int, *, resources: Resources) -> Any:
    """List the cells that each draw chooses: see the contract."""
    n_draws, n_cells = weights.shape
    with cp.cuda.Device(resources.devices[0]):
        chosen = cp.empty((n_draws, n_chosen), dtype=np.int32)
        if chosen.size:
            kernel("permutation.cu", "members")(
                (-(-n_draws // (_THREADS // 32)),),
                (_THREADS,),
                (
                    cp.ascontiguousarray(cp.asarray(weights)),
                    np.int64(n_draws),
                    np.int64(n_cells),
                    np.int32(n_chosen),
                    chosen,
                ),
            )
        return chosen


@reports_memory
def subset_sums(
    cells: NDArray[Any] | sp.csr_matrix[Any],
    offsets: NDArray[Any],
    groups: Sequence[int],
    contrast: int,
    subsets: Sequence[NDArray[Any]],
    *,
    resources: Resources,
) -> Any:
    """Sum the distances within subsets of two groups together: see the contract."""
    offsets = np.asarray(offsets, dtype=np.int64)
    with cp.cuda.Device(resources.devices[0]):
        sums = cp.zeros((len(groups), len(subsets[0]) if len(groups) else 0))
        if not sums.size:
            return sums
        cells = here(cells, resources)
        unit = _unit(cells)
        first = _dense(cells, _rows(offsets, contrast), resources)
        resources.progress.start(float(len(groups)))
        for group, chosen, out in zip(groups, subsets, sums, strict=True):
            if chosen.shape[1]:
                second = _dense(cells, _rows(offsets, group), resources)
                _launch(first, second, cp.ascontiguousarray(cp.asarray(chosen), dtype=np.int32), unit, out)
            resources.progress.advance(1.0)
        sums *= unit
        return sums


def _launch(first: Any, second: Any, chosen: Any, unit: float, out: Any) -> None:
    n_draws, n_chosen = chosen.shape
    n_columns, options = first.shape[1], type_options(Value=first.dtype)
    n_fours = -(-n_chosen // _SIDE)
    stride = _SIDE * (n_fours | 1)
    n_bytes = stride * n_columns * first.dtype.itemsize
    factor = first.dtype.type(1.0 / unit)
    arguments = (first, np.int64(len(first)), second, chosen, np.int32(n_chosen), np.int32(n_columns), factor)
    if n_bytes <= _SHARED:
        n_squares = n_fours * (n_fours + 1) // 2
        n_threads = min(32 * -(-n_squares // 32), _THREADS)
        summed = kernel("permutation.cu", "subset_sums", options)
        summed((n_draws,), (n_threads,), (*arguments, np.int32(stride), out), shared_mem=n_bytes)
    else:
        kernel("permutation.cu", "large_subset_sums", options)((n_draws,), (_THREADS,), (*arguments, out))


@reports_memory
def cell_sums(
    cells: NDArray[Any] | sp.csr_matrix[Any],
    offsets: NDArray[Any],
    left: NDArray[Any],
    right: NDArray[Any],
    *,
    resources: Resources,
) -> Any:
    """Sum the distances of each cell of a group to all cells of another: see the contract."""
    offsets = np.asarray(offsets, dtype=np.int64)
    left, right = np.asarray(left, dtype=np.int64), np.asarray(right, dtype=np.int64)
    sizes = np.diff(offsets)[left]
    with cp.cuda.Device(resources.devices[0]):
        sums = cp.zeros(int(sizes.sum()))
        if not sums.size:
            return sums
        cells = here(cells, resources)
        rows = _dense(cells, slice(0, int(offsets[-1])), resources)
        tasks, unit = cp.asarray(_tasks(offsets, left, right)), _unit(cells)
        kernel("permutation.cu", "cell_sums", type_options(Value=rows.dtype))(
            (len(tasks),),
            (_THREADS,),
            (rows, tasks, np.int32(rows.shape[1]), rows.dtype.type(1.0 / unit), sums),
        )
        sums *= unit
        return sums


def _tasks(offsets: NDArray[np.int64], left: NDArray[np.int64], right: NDArray[np.int64]) -> NDArray[np.int64]:
    """Cut the cells of each `left` into tiles: (n_tasks, 5), see ``permutation.cu``."""
    sizes = np.diff(offsets)[left]
    n_tiles = -(-sizes // _TILE)
    pair = np.repeat(np.arange(len(left)), n_tiles)
    tile = np.arange(len(pair)) - np.repeat(np.cumsum(n_tiles) - n_tiles, n_tiles)
    begin = offsets[left][pair] + _TILE * tile
    end = np.minimum(begin + _TILE, offsets[left + 1][pair])
    out = (np.cumsum(sizes) - sizes)[pair] + _TILE * tile
    return np.stack([begin, end, offsets[right][pair], offsets[right + 1][pair], out], axis=1)


def _unit(cells: Any) -> float:
    """Return a power of two near the largest value."""
    values = cells if isinstance(cells, (np.ndarray, cp.ndarray)) else cells.data
    largest = max(float(values.max()), -float(values.min())) if values.size else 0.0
    limits = np.finfo(values.dtype)
    return float(np.ldexp(1.0, int(np.clip(np.frexp(largest)[1], limits.minexp + 1, limits.maxexp - 2))))


def _rows(offsets: NDArray[np.int64], group: int) -> slice:
    return slice(int(offsets[group]), int(offsets[group + 1]))


def _dense(cells: Any, rows: slice, resources: Resources) -> Any:
    """Return some rows as a C-ordered array on the device."""
    if isinstance(cells, (np.ndarray, cp.ndarray)):
        return to_device(cells[rows], resources)
    n_bytes = (rows.stop - rows.start) * cells.shape[1] * cells.dtype.itemsize
    if n_bytes > resources.memory:
        raise MemoryError(
            f"{rows.stop - rows.start} sparse cells of {cells.shape[1]} columns would take {n_bytes >> 20} MiB on "
            f"the GPU when spelled out, of {resources.memory >> 20} MiB for temporaries. "
            "Pass an embedding with obsm_key, or device='cpu'."
        )
    dense = cells[rows].toarray()
    return cp.ascontiguousarray(cp.asarray(dense))
