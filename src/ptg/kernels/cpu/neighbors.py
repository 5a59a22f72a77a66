"""Nearest neighbours and averages over them: see `ptg.kernels.contract.neighbors`."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from ptg.kernels.contract.resources import Resources


def nearest(
    reference: NDArray[Any], query: NDArray[Any], k: int, *, resources: Resources
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Find the nearest reference points: see the contract."""
    indices = np.empty((len(query), k), dtype=np.int64)
    squared = np.empty((len(query), k))
    points = np.ascontiguousarray(reference.T, dtype=np.float64)
    for row, point in enumerate(np.asarray(query, dtype=np.float64)):
        distances = np.zeros(points.shape[1])
        for dimension in range(points.shape[0]):
            distances += (points[dimension] - point[dimension]) ** 2
        indices[row] = np.argsort(distances, kind="stable")[:k]
        squared[row] = distances[indices[row]]
    return indices, squared


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
    size = batch_size or 256
    for start in range(0, len(rows), size):
        part = slice(start, min(start + size, len(rows)))
        offsets = neighbor_offsets[part.start : part.stop + 1]
        weights = sp.csr_matrix(
            (
                np.repeat(1.0 / np.diff(offsets), np.diff(offsets)),
                neighbors[offsets[0] : offsets[-1]],
                offsets - offsets[0],
            ),
            shape=(part.stop - part.start, matrix.shape[0]),
        )
        transformed = matrix.expm1() if sp.issparse(matrix) else np.expm1(matrix)
        mean = weights @ transformed
        cells = matrix[rows[part]]
        if sp.issparse(mean):
            mean, cells = mean.toarray(), cells.toarray()
        out[part] = np.log1p(mean) - cells
