"""Sums, means and variances by group, on a CPU: see `ptg.kernels.contract.moments`.

Groups are cut into segments of at most 1,024 cells. Each is summed row by row into a row of partial sums, and these
are added in order: the rounding error does not grow with the group, and the bits do not depend on the threads.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from ptg.kernels.contract.moments import GroupMoments
from ptg.kernels.cpu.compilation import jit
from ptg.kernels.cpu.threads import run_tasks

if TYPE_CHECKING:
    import scipy.sparse as sp
    from numpy.typing import NDArray

    from ptg.kernels.contract.resources import Resources

_SEGMENT_CELLS = 1024
_TASK_CELLS = 8192


def group_sums(
    cells: NDArray[Any] | sp.csr_matrix[Any],
    offsets: NDArray[Any],
    *,
    weights: NDArray[Any] | None = None,
    out: Any = None,
    resources: Resources,
) -> NDArray[Any]:
    """Sum every column over the cells of each group: see the contract."""
    bounds = _segments(offsets)
    draws = _draws(weights)
    partial = np.zeros((len(draws), len(bounds) - 1, cells.shape[1]))

    def add(segments: slice) -> None:
        some = bounds[segments.start : segments.stop + 1]
        if isinstance(cells, np.ndarray):
            _dense_sums(cells, some, draws, partial[:, segments])
        else:
            _sparse_sums(_arrays(cells), some, draws, partial[:, segments])

    run_tasks(add, _tasks(bounds), resources)
    sums = _by_group(partial, bounds, offsets)
    result: NDArray[Any] = sums[0] if weights is None else sums
    if out is None:
        return result
    out[...] = result
    return np.asarray(out)


def group_moments(
    cells: NDArray[Any] | sp.csr_matrix[Any],
    offsets: NDArray[Any],
    *,
    weights: NDArray[Any] | None = None,
    resources: Resources,
) -> GroupMoments:
    """Compute mean and variance of every column in each group: see the contract."""
    bounds = _segments(offsets)
    draws = _draws(weights)
    sizes = _sizes(offsets, weights)
    sums = group_sums(cells, offsets, weights=weights, resources=resources).reshape(len(draws), -1, cells.shape[1])
    means = np.divide(sums, sizes, out=np.full_like(sums, np.nan), where=sizes > 0)
    group_of = np.searchsorted(offsets, bounds[:-1], side="right") - 1
    squares = np.zeros((len(draws), len(bounds) - 1, cells.shape[1]))

    def add(segments: slice) -> None:
        some, centre = bounds[segments.start : segments.stop + 1], group_of[segments]
        if isinstance(cells, np.ndarray):
            _dense_squares(cells, some, draws, (means, centre), squares[:, segments])
        else:
            _sparse_squares(_arrays(cells), some, draws, (means, centre), squares[:, segments])

    run_tasks(add, _tasks(bounds), resources)
    total = _by_group(squares, bounds, offsets)
    variances = np.divide(total, sizes - 1, out=np.full_like(total, np.nan), where=sizes > 1)
    return GroupMoments(means[0], variances[0]) if weights is None else GroupMoments(means, variances)


def _draws(weights: NDArray[Any] | None) -> NDArray[Any]:
    """One draw without cells stands for one draw of ones."""
    return np.empty((1, 0), np.float64) if weights is None else _numbers(weights)


def _sizes(offsets: NDArray[Any], weights: NDArray[Any] | None) -> NDArray[np.float64]:
    """(n_draws, n_groups, 1): the sum of the weights of each group."""
    if weights is None:
        return np.diff(offsets).astype(np.float64)[None, :, None]
    total = np.zeros((len(weights), len(offsets) - 1, 1))
    filled = np.flatnonzero(np.diff(offsets) > 0)
    if len(filled):
        total[:, filled, 0] = np.add.reduceat(weights, offsets[filled], axis=1, dtype=np.float64)
    return total


def _numbers(weights: NDArray[Any]) -> NDArray[Any]:
    """View booleans as bytes: numba does not turn them into numbers."""
    weights = np.asarray(weights)
    return weights.view(np.uint8) if weights.dtype == np.bool_ else weights


def _arrays(csr: sp.csr_matrix[Any]) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Unpack what numba understands."""
    return csr.data, csr.indices, csr.indptr


def _segments(offsets: NDArray[Any]) -> NDArray[np.int64]:
    """Bounds of the segments: every group's own bounds, and every 1,024 cells inside a group."""
    starts = [np.arange(start, stop, _SEGMENT_CELLS) for start, stop in pairwise(offsets)]
    return np.concatenate([*starts, offsets[-1:]]).astype(np.int64)


def _tasks(bounds: NDArray[np.int64]) -> list[slice]:
    """Cut the segments into runs with about as many cells each."""
    cuts = np.unique(np.searchsorted(bounds, np.arange(bounds[0], bounds[-1], _TASK_CELLS))).tolist()
    return [slice(a, b) for a, b in pairwise([*cuts, len(bounds) - 1])]


def _by_group(partial: NDArray[Any], bounds: NDArray[np.int64], offsets: NDArray[Any]) -> NDArray[Any]:
    """Add the segments of each group in order; (n_draws, n_segments, n_columns) to (n_draws, n_groups, n_columns)."""
    first = np.searchsorted(bounds, offsets)
    out = np.zeros((len(partial), len(offsets) - 1, partial.shape[2]))
    _add_segments(partial, first, out)
    return out


@jit
def _add_segments(partial, first, out):  # type: ignore[no-untyped-def]
    for draw in range(out.shape[0]):
        for group in range(out.shape[1]):
            for segment in range(first[group], first[group + 1]):
                for column in range(out.shape[2]):
                    out[draw, group, column] += partial[draw, segment, column]


@jit
def _dense_sums(cells, bounds, weights, out):  # type: ignore[no-untyped-def]
    for segment in range(bounds.size - 1):
        for i in range(bounds[segment], bounds[segment + 1]):
            for draw in range(out.shape[0]):
                weight = 1.0 if weights.shape[1] == 0 else float(weights[draw, i])
                if weight != 0.0:
                    for column in range(cells.shape[1]):
                        out[draw, segment, column] += weight * cells[i, column]


@jit
def _sparse_sums(csr, bounds, weights, out):  # type: ignore[no-untyped-def]
    data, indices, indptr = csr
    for segment in range(bounds.size - 1):
        for i in range(bounds[segment], bounds[segment + 1]):
            for draw in range(out.shape[0]):
                weight = 1.0 if weights.shape[1] == 0 else float(weights[draw, i])
                if weight != 0.0:
                    for p in range(indptr[i], indptr[i + 1]):
                        out[draw, segment, indices[p]] += weight * data[p]


@jit
def _dense_squares(cells, bounds, weights, centres, out):  # type: ignore[no-untyped-def]
    means, group_of = centres
    for segment in range(bounds.size - 1):
        for i in range(bounds[segment], bounds[segment + 1]):
            for draw in range(out.shape[0]):
                weight = 1.0 if weights.shape[1] == 0 else float(weights[draw, i])
                mean = means[draw, group_of[segment]]
                if weight != 0.0:
                    for column in range(cells.shape[1]):
                        deviation = cells[i, column] - mean[column]
                        out[draw, segment, column] += weight * (deviation * deviation)


@jit
def _sparse_squares(csr, bounds, weights, centres, out):  # type: ignore[no-untyped-def]
    means, group_of = centres
    data, indices, indptr = csr
    stored = np.zeros(out.shape[2])
    for segment in range(bounds.size - 1):
        for draw in range(out.shape[0]):
            mean = means[draw, group_of[segment]]
            stored[:] = 0.0
            n_cells = 0.0
            for i in range(bounds[segment], bounds[segment + 1]):
                weight = 1.0 if weights.shape[1] == 0 else float(weights[draw, i])
                n_cells += weight
                if weight != 0.0:
                    for p in range(indptr[i], indptr[i + 1]):
                        column = indices[p]
                        deviation = data[p] - mean[column]
                        out[draw, segment, column] += weight * (deviation * deviation)
                        stored[column] += weight
            for column in range(out.shape[2]):
                out[draw, segment, column] += (n_cells - stored[column]) * mean[column] * mean[column]
