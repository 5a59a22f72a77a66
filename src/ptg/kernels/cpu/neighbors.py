"""Nearest neighbours and averages over them: see `ptg.kernels.contract.neighbors`.

The search is a brute-force one. All squared distances are computed first as float32 matrix products, ``|y|² - 2xy`` of
centred and scaled points. A rounding bound tells which of them may be below the query's k-th distance; only these
are computed in float64, as the contract defines them, and those numbers alone decide.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from ptg.kernels.contract.neighbors import ApproximateSearch
from ptg.kernels.contract.resources import Resources
from ptg.kernels.cpu.compilation import jit
from ptg.kernels.cpu.signature_blocks import signature_blocks
from ptg.kernels.cpu.threads import run_tasks

__all__ = ["APPROXIMATE", "nearest", "neighbor_signature", "signature_blocks"]

#: No approximate search.
APPROXIMATE: Mapping[str, ApproximateSearch] = {}

_CHUNK = 64
"""References looked at together when candidates are sought."""

_TILE = 4096
"""References in a matrix product, a multiple of `_CHUNK`."""

_QUERIES = 64
"""Queries in a matrix product; with `_TILE` references it fills half of a usual second-level cache."""

_BATCH_BYTES = 256 << 10
"""Signature rows computed at a time by one thread, in float64."""

_TASK_ROWS = 1024
"""Queries or signature rows in a task: enough to make its own cost small."""

_ROUNDING = 2.0**-22
"""Four times the rounding error of one float32 operation."""

_UNDERFLOW = 2.0**-120
"""More than what is lost where float32 numbers near zero lose their digits."""


def nearest(
    reference: NDArray[Any], query: NDArray[Any], k: int, *, resources: Resources
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Find the nearest reference points: see the contract."""
    exact = np.ascontiguousarray(reference, dtype=np.float64)
    centre = exact.mean(axis=0)
    largest = max(float(np.abs(exact - centre).max(initial=0.0)), float(np.abs(query - centre).max(initial=0.0)))
    # Points within 1 of the centre neither overflow nor vanish when squared; a power of two is exact.
    scale = 2.0 ** -max(np.ceil(np.log2(largest)), -500.0) if largest > 0 else 1.0
    references = _coarse_references((exact - centre) * scale, exact, scale)
    indices = np.zeros((len(query), k), dtype=np.int64)
    squared = np.full((len(query), k), np.inf)

    def search(start: int) -> None:
        points = np.asarray(query[start : start + _TASK_ROWS], dtype=np.float64)
        coarse = (points - centre) * scale
        norms = np.sqrt((coarse * coarse).sum(axis=1))
        extended = np.concatenate([coarse, np.ones((len(coarse), 1))], axis=1).astype(np.float32)
        for some in range(0, len(points), _QUERIES):
            part, found = slice(some, some + _QUERIES), slice(start + some, start + some + _QUERIES)
            for first in range(0, len(references.coarse), _TILE):
                products = extended[part] @ references.coarse[first : first + _TILE].T
                _select(products, first, references, (points[part], norms[part]), (squared[found], indices[found]))

    run_tasks(search, range(0, len(query), _TASK_ROWS), resources)
    if not np.isfinite(squared).all():
        raise FloatingPointError("squared distances overflow float64: scale the points down")
    return indices, squared


class _References(NamedTuple):
    """What one search shares.

    Attributes
    ----------
    coarse
        (n, n_dims + 1) float32: ``-2y, |y|²`` of the centred and scaled points, filled up to a multiple of 64 with
        points at infinity.
    norms
        (n / 64,) largest ``|y|`` in each chunk.
    exact
        (n_reference, n_dims) float64, as given.
    unit
        Square of the scale.
    """

    coarse: NDArray[np.float32]
    norms: NDArray[np.float64]
    exact: NDArray[np.float64]
    unit: float


def _coarse_references(points: NDArray[np.float64], exact: NDArray[np.float64], scale: float) -> _References:
    n, n_dims = points.shape
    squares = (points * points).sum(axis=1)
    coarse = np.zeros((-(-n // _CHUNK) * _CHUNK, n_dims + 1), dtype=np.float32)
    coarse[:n, :n_dims], coarse[:n, n_dims], coarse[n:, n_dims] = -2 * points, squares, np.inf
    norms = np.zeros(len(coarse))
    norms[:n] = np.sqrt(squares)
    return _References(coarse, norms.reshape(-1, _CHUNK).max(axis=1), exact, scale * scale)


@jit
def _select(products, first, references, queries, result):  # type: ignore[no-untyped-def]
    """Update the neighbours of some queries from one tile; `squared` is infinite before the first."""
    _, norms, exact, unit = references
    points, point_norms = queries
    squared, indices = result
    k, n_chunks = squared.shape[1], products.shape[1] // _CHUNK
    slack = (points.shape[1] + 8) * _ROUNDING
    lanes, smallest = np.empty(_CHUNK, np.float32), np.empty(k, np.float32)
    candidates = np.empty(products.shape[1] + 1, np.int64)
    for i in range(points.shape[0]):
        row, square = products[i], point_norms[i] ** 2
        bound = squared[i, k - 1] * unit - square
        if first == 0 and k <= _CHUNK:
            kth = np.float64(_kth_column_minimum(row, lanes, smallest))
            bound = kth + slack * (point_norms[i] + norms[:n_chunks].max()) ** 2 + _UNDERFLOW
        n_candidates = 0
        for chunk in range(n_chunks):
            # What is below `bound` in truth is below `cut` in float32: rounding adds at most `slack` (|x| + |y|)².
            furthest = point_norms[i] + norms[first // _CHUNK + chunk]
            cut = np.float32(bound + slack * (np.abs(bound) + furthest * furthest) + _UNDERFLOW)
            part = row[chunk * _CHUNK : (chunk + 1) * _CHUNK]
            near = 0
            for j in range(_CHUNK):
                near += part[j] <= cut
            if near > 0:
                for j in range(_CHUNK):
                    candidates[n_candidates] = first + chunk * _CHUNK + j
                    n_candidates += part[j] <= cut
        _insert(candidates[:n_candidates], exact, points[i], squared[i], indices[i])


@jit
def _kth_column_minimum(row, lanes, smallest):  # type: ignore[no-untyped-def]
    """Return the k-th smallest of 64 minima, each over every 64th entry of `row`: k entries are not above it."""
    k = smallest.shape[0]
    lanes[:] = np.inf
    for chunk in range(row.shape[0] // _CHUNK):
        part = row[chunk * _CHUNK : (chunk + 1) * _CHUNK]
        for j in range(_CHUNK):
            lanes[j] = min(lanes[j], part[j])
    smallest[:] = np.inf
    for x in lanes:
        if x < smallest[k - 1]:
            place = k - 1
            while place > 0 and smallest[place - 1] > x:
                smallest[place] = smallest[place - 1]
                place -= 1
            smallest[place] = x
    return smallest[k - 1]


@jit
def _insert(candidates, exact, point, squared, indices):  # type: ignore[no-untyped-def]
    """Insert the nearest candidates. They come in rising order, so that among equals the first ones stay."""
    k, n_dims = squared.shape[0], point.shape[0]
    for candidate in candidates:
        if candidate < exact.shape[0]:
            x = 0.0
            for d in range(n_dims):
                difference = point[d] - exact[candidate, d]
                x += difference * difference
            if x < squared[k - 1]:
                place = k - 1
                while place > 0 and squared[place - 1] > x:
                    squared[place] = squared[place - 1]
                    indices[place] = indices[place - 1]
                    place -= 1
                squared[place] = x
                indices[place] = candidate


def neighbor_signature(
    matrix: NDArray[Any] | sp.csr_matrix[Any],
    rows: NDArray[np.int64],
    neighbor_offsets: NDArray[np.int64],
    neighbors: NDArray[np.int64],
    *,
    out: NDArray[Any],
    resources: Resources,
    batch_size: int | None = None,
) -> None:
    """Subtract cells from the mean of their neighbours: see the contract."""
    used = np.zeros(matrix.shape[0], dtype=bool)
    used[neighbors] = True
    compact = np.cumsum(used) - 1  # position among the cells that are anybody's neighbour
    average, subtract = _row_operations(matrix, np.flatnonzero(used))
    row_bytes = 8 * matrix.shape[1]
    size = batch_size or max(_BATCH_BYTES // row_bytes, 16)
    size = max(min(size, resources.memory // (resources.n_threads * row_bytes)), 1)

    def compute(task: int) -> None:
        for start in range(task, min(task + _TASK_ROWS, len(rows)), size):
            stop = min(start + size, task + _TASK_ROWS, len(rows))
            values = out[start:stop] if out.dtype == np.float64 else np.empty((stop - start, matrix.shape[1]))
            average(neighbor_offsets[start : stop + 1], neighbors, compact, values)
            np.log1p(values, out=values)
            subtract(rows[start:stop], values)
            if out.dtype != np.float64:
                out[start:stop] = values

    run_tasks(compute, range(0, len(rows), _TASK_ROWS), resources)


def _row_operations(
    matrix: NDArray[Any] | sp.csr_matrix[Any], used: NDArray[np.int64]
) -> tuple[Callable[..., None], Callable[..., None]]:
    """Return how to average over ``expm1`` of the rows `used`, and how to subtract rows."""
    if isinstance(matrix, np.ndarray):
        table = np.expm1(matrix[used])

        def average_dense(*args: Any) -> None:
            _dense_means(table, *args)

        def subtract_dense(rows: NDArray[np.int64], values: NDArray[np.float64]) -> None:
            values -= matrix[rows]

        return average_dense, subtract_dense
    controls = matrix[used]
    csr = (controls.indptr, controls.indices, np.expm1(controls.data))
    cells = (matrix.indptr, matrix.indices, matrix.data)

    def average_sparse(*args: Any) -> None:
        _sparse_means(csr, *args)

    def subtract_sparse(rows: NDArray[np.int64], values: NDArray[np.float64]) -> None:
        _subtract_sparse(cells, rows, values)

    return average_sparse, subtract_sparse


@jit
def _dense_means(table, offsets, neighbors, compact, means):  # type: ignore[no-untyped-def]
    for i in range(means.shape[0]):
        mean = means[i]
        mean[:] = 0.0
        for entry in range(offsets[i], offsets[i + 1]):
            row = table[compact[neighbors[entry]]]
            for gene in range(mean.shape[0]):
                mean[gene] += row[gene]
        for gene in range(mean.shape[0]):
            mean[gene] /= offsets[i + 1] - offsets[i]


@jit
def _sparse_means(csr, offsets, neighbors, compact, means):  # type: ignore[no-untyped-def]
    indptr, indices, data = csr
    for i in range(means.shape[0]):
        mean = means[i]
        mean[:] = 0.0
        for entry in range(offsets[i], offsets[i + 1]):
            row = compact[neighbors[entry]]
            for stored in range(indptr[row], indptr[row + 1]):
                mean[indices[stored]] += data[stored]
        for gene in range(mean.shape[0]):
            mean[gene] /= offsets[i + 1] - offsets[i]


@jit
def _subtract_sparse(csr, rows, values):  # type: ignore[no-untyped-def]
    indptr, indices, data = csr
    for i in range(values.shape[0]):
        for stored in range(indptr[rows[i]], indptr[rows[i] + 1]):
            values[i, indices[stored]] -= data[stored]
