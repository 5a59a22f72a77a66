"""Linear discriminants of projections on GPUs: see `ptg.kernels.contract.projection`.

Cells are taken in folds of a fixed size, whose projections and triangular factors do not depend on the devices.
"""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Any

import cupy as cp
import numpy as np
from cupyx.scipy.linalg import solve_triangular

from ptg.kernels.contract.projection import Discriminants
from ptg.kernels.cuda.devices import on_devices
from ptg.kernels.cuda.download import Downloads
from ptg.kernels.cuda.matrix_parts import Part
from ptg.kernels.cuda.memory import within_memory
from ptg.kernels.cuda.pieces import share_out
from ptg.kernels.cuda.principal_axes import signed
from ptg.kernels.cuda.rows import RowReader
from ptg.kernels.cuda.transfer import to_device

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ptg.kernels.contract.resources import Resources

_FOLD = 16_384
"""Cells whose triangular factor is found at once."""


@within_memory
def discriminants(
    matrix: Any, codes: NDArray[Any], axes: NDArray[Any], *, tol: float, resources: Resources
) -> Discriminants:
    """Linear discriminants of ``matrix @ axes``; see the contract."""
    codes = cp.asnumpy(codes).astype(np.int64)
    n_cells, counts = matrix.shape[0], np.bincount(codes)
    n_folds = -(-n_cells // _FOLD)
    devices = resources.devices[:n_folds]
    resources.progress.start(3.0 * n_folds)
    shares = share_out(np.arange(n_folds + 1), len(devices))
    folds = on_devices(lambda share: _Folds(matrix, axes, share, resources), shares, devices)

    sums = on_devices(lambda some: some.class_sums(codes, len(counts)), folds, devices)
    means = sum(chain.from_iterable(sums)) / counts[:, None]
    triangles = on_devices(lambda some: some.triangles(codes, means), folds, devices)
    centre = counts / n_cells @ means
    with cp.cuda.Device(devices[0]):
        triangle = None
        for part in chain.from_iterable(triangles):
            here = cp.asarray(part)
            triangle = here if triangle is None else _triangle(cp.concatenate([triangle, here]))
        loadings = _loadings(triangle, cp.asarray(means - centre), counts, tol).get()
    coordinates = np.empty((n_cells, loadings.shape[1]))
    on_devices(lambda some: some.coordinates(loadings, centre @ loadings, coordinates), folds, devices)
    return Discriminants(coordinates, loadings)


class _Folds:
    """Some neighbouring folds of the cells, projected on the axes, on the current device."""

    def __init__(self, matrix: Any, axes: Any, share: tuple[int, int], resources: Resources) -> None:
        self._reader, self._resources = RowReader(matrix, resources), resources
        self._axes = to_device(axes, resources).astype(np.float64, copy=False)
        n_cells = matrix.shape[0]
        self._folds = [(fold * _FOLD, min((fold + 1) * _FOLD, n_cells)) for fold in range(*share)]
        n_bytes = 8 * self._axes.shape[1] * sum(stop - start for start, stop in self._folds)
        self._keep = n_bytes <= resources.memory // 2
        self._kept: dict[int, Any] = {}

    def _projection(self, start: int, stop: int) -> Any:
        """``matrix @ axes`` of one fold; computed again each time where all together are too large."""
        if start in self._kept:
            return self._kept[start]
        part = Part(self._reader.load(start, stop), start, stop, self._reader.n_columns)
        projection = cp.concatenate([block @ self._axes for block in part.blocks()])
        if self._keep:
            self._kept[start] = projection
        return projection

    def class_sums(self, codes: NDArray[np.int64], n_classes: int) -> list[NDArray[np.float64]]:
        """Add up the projections of each class: (n_classes, n_axes) for each fold."""
        sums = []
        for start, stop in self._folds:
            member = cp.asarray(codes[start:stop]) == cp.arange(n_classes)[:, None]
            sums.append((member.astype(np.float64) @ self._projection(start, stop)).get())
            self._resources.progress.advance(1.0)
        return sums

    def triangles(self, codes: NDArray[np.int64], means: NDArray[np.float64]) -> list[Any]:
        """Find triangular factors R with ``R'R`` the within-class scatter of each fold."""
        own_means = cp.asarray(means)
        triangles = []
        for start, stop in self._folds:
            residual = self._projection(start, stop) - own_means[cp.asarray(codes[start:stop])]
            triangles.append(_triangle(residual))
            self._resources.progress.advance(1.0)
        return triangles

    def coordinates(self, loadings: NDArray[np.float64], shift: NDArray[np.float64], out: NDArray[np.float64]) -> None:
        """Fill the rows of `out` that belong to these folds."""
        own_loadings, own_shift = cp.asarray(loadings), cp.asarray(shift)
        with Downloads(self._resources) as downloads:
            for start, stop in self._folds:
                downloads.start(self._projection(start, stop) @ own_loadings - own_shift, out[start:stop])
                self._resources.progress.advance(1.0)


def _triangle(rows: Any) -> Any:
    return cp.linalg.qr(rows, mode="r")


def _loadings(triangle: Any, deviations: Any, counts: NDArray[np.int64], tol: float) -> Any:
    """(n_axes, n_kept) loadings from the within-class triangle and the class means minus the centre."""
    n_cells, n_classes = int(counts.sum()), len(counts)
    deviation = cp.sqrt((triangle * triangle).sum(axis=0) / n_cells)
    deviation = cp.where(deviation == 0.0, 1.0, deviation)
    scalings = _whitening(triangle / deviation / np.sqrt(n_cells), tol) / deviation[:, None]
    if not scalings.shape[1]:
        return scalings
    weights = cp.asarray(np.sqrt(counts / max(n_classes - 1, 1)))
    # The right singular vectors of the spread, by way of a small square matrix.
    orthogonal, small = cp.linalg.qr(((weights[:, None] * deviations) @ scalings).T)
    left, between, _ = cp.linalg.svd(small, full_matrices=False)
    kept = min(int((between > tol * between.max()).sum()), n_classes - 1)
    return signed(scalings @ (orthogonal @ left[:, :kept]))


def _whitening(triangle: Any, tol: float) -> Any:
    """W with orthonormal ``triangle @ W``, without the directions whose singular values are not above `tol`.

    Which W it is does not matter: the discriminants are the same. If no singular value is that small, which
    ``1 / |inverse|`` bounds from below, the inverse will do.
    """
    n_rows, n_axes = triangle.shape
    if n_rows == n_axes:
        inverse = solve_triangular(triangle, cp.eye(n_axes), lower=False)
        if 1.0 / float(cp.sqrt((inverse * inverse).sum())) > tol:  # false for NaN
            return inverse
    _, within, rotation = cp.linalg.svd(triangle, full_matrices=False)
    kept = int((within > tol).sum())
    return rotation[:kept].T / within[:kept]
