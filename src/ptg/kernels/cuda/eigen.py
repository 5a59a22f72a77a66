"""Eigenvectors of symmetric matrices: many small ones, and the leading ones of many large ones."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any

import cupy as cp
import numpy as np

from ptg.kernels.cuda.source import kernel

if TYPE_CHECKING:
    from numpy.typing import NDArray

_LARGEST = 1024
"""Rows of a matrix that `symmetric_eigen.cu` takes, at most."""

_STATIC_SHARED = 20 << 10
"""Bytes of shared memory that its kernel takes anyway, rounded up."""

BLOCK = 8
"""Vectors by which the subspace of a matrix grows, as in `orthonormal_rows.cu`."""

_THREADS = 512
_EIGEN_THREADS = 1024
_NO_ARRAY = np.uint64(0)

_SMALLEST_SUBSPACE = 96
_STALLED_TOLERANCE = 1e-10
"""Residuals that are accepted once they no longer shrink: products of many genes are not rounded better."""

_PATIENCE = 10
"""Cycles in which residuals must halve, else they have stalled."""

_MOST_CYCLES = 300
_TOLERANCE = 1e-12
"""Norm of the residual of an eigenvector, relative to the largest eigenvalue.

Rotations round: residuals of a subspace of 96 vectors get down to 2e-13, and a cycle makes them 50 times smaller."""


@cache
def _shared_bytes(device: int) -> int:
    """Shared memory that a block may have."""
    runtime = cp.cuda.runtime
    return int(runtime.deviceGetAttribute(runtime.cudaDevAttrMaxSharedMemoryPerBlockOptin, device))


def small_eigenvectors(matrices: Any) -> tuple[Any, Any]:
    """Return eigenvalues (n_matrices, n), largest first, and eigenvectors (n_matrices, n, n), one per row."""
    n_matrices, n, _ = matrices.shape
    if n > _LARGEST:
        return _by_cusolver(matrices)
    function = kernel("symmetric_eigen.cu", "symmetric_eigen")
    n_bytes = 16 * n * n
    in_shared = n_bytes + _STATIC_SHARED <= _shared_bytes(cp.cuda.runtime.getDevice())
    if in_shared:
        function.max_dynamic_shared_size_bytes = n_bytes
    values, vectors = cp.empty((n_matrices, n)), cp.empty((n_matrices, n, n))
    function(
        (n_matrices,),
        (_EIGEN_THREADS if n > 32 else 64,),
        (
            cp.ascontiguousarray(matrices),
            np.int32(n),
            np.int32(in_shared),
            cp.empty((1,) if in_shared else (n_matrices, 2, n, n)),
            values,
            vectors,
        ),
        shared_mem=n_bytes if in_shared else 0,
    )
    return values, vectors


def _by_cusolver(matrices: Any) -> tuple[Any, Any]:
    """Return the same, one matrix after another."""
    values, columns = (cp.stack(found) for found in zip(*map(cp.linalg.eigh, matrices), strict=True))
    return values[:, ::-1], columns.transpose(0, 2, 1)[:, ::-1]


def subspace_size(count: int) -> int:
    """Vectors of the subspace from which `count` leading eigenvectors are found."""
    return max(_SMALLEST_SUBSPACE, -(-(5 * count // 2 + 4 * BLOCK) // BLOCK) * BLOCK)


def leading_eigenvectors(apply: Callable[[Any], Any], active: Any, counts: NDArray[np.int64]) -> Any:
    """Find eigenvectors of the largest eigenvalues of several positive semidefinite matrices.

    Thick-restart block Lanczos with full orthogonalisation, for all matrices in step: the subspace grows by `BLOCK`
    vectors at a time, and is cut back to the best approximations when it is full, until the residuals of all wanted
    vectors are small. Small matrices are decomposed as they are.

    Parameters
    ----------
    apply
        Multiplies vectors (n_matrices, any number, n), each matrix its own.
    active
        (n_matrices, n) bool: rows and columns that are not zero. Eigenvectors vanish elsewhere.
    counts
        (n_matrices,) eigenvectors wanted of each.

    Returns
    -------
    (n_matrices, max(counts), n) float64, an eigenvector per row, that of the largest eigenvalue first.
    """
    n_matrices, n = active.shape
    count = int(counts.max())
    size = subspace_size(count)
    if n <= 2 * size:
        identity = cp.broadcast_to(cp.eye(n), (n_matrices, n, n))
        return small_eigenvectors(apply(identity))[1][:, :count]
    return _Subspace(apply, active, size).leading(counts)


class _Subspace:
    """Orthonormal vectors of each matrix, and their products with it; rows that are not used are zero."""

    def __init__(self, apply: Callable[[Any], Any], active: Any, size: int) -> None:
        self._apply = apply
        n_matrices, n = active.shape
        self._size = size
        self._basis = cp.zeros((n_matrices, size, n))
        self._image = cp.zeros((n_matrices, size, n))
        self._used = 0
        start, noise = np.random.RandomState(0).standard_normal((2, BLOCK, n)) / np.sqrt(n)
        self._noise = cp.ascontiguousarray(cp.asarray(noise)[None] * active[:, None])
        self._norm = cp.zeros(n_matrices)
        self._next = self._orthonormal(cp.asarray(start)[None] * active[:, None])

    def leading(self, counts: NDArray[np.int64]) -> Any:
        """Grow and restart until the wanted vectors have converged."""
        count = int(counts.max())
        kept = count + (self._size - count) // 3
        kept += (self._size - kept) % BLOCK
        wanted = cp.asarray(np.arange(count) < counts[:, None])
        largest = np.inf
        for cycle in range(_MOST_CYCLES):
            while self._used < self._size:
                self._grow()
            values = self._rotate(kept)
            residuals = self._image[:, :count] - values[:, :count, None] * self._basis[:, :count]
            norms = cp.sqrt((residuals * residuals).sum(axis=2))
            relative = float(
                (cp.where(wanted, norms, 0.0) / cp.maximum(values[:, :1], np.finfo(np.float64).tiny)).max()
            )
            if relative <= _TOLERANCE:
                return self._basis[:, :count]
            if cycle % _PATIENCE == _PATIENCE - 1:
                if largest / 2 < relative <= _STALLED_TOLERANCE:  # rounding keeps them from getting smaller
                    return self._basis[:, :count]
                largest = relative
        raise np.linalg.LinAlgError(
            f"principal axes have residuals of {relative:.1e} of the largest eigenvalue after {_MOST_CYCLES} cycles"
        )

    def _grow(self) -> None:
        """Take in the next block, and prepare the one after it."""
        block = slice(self._used, self._used + BLOCK)
        self._basis[:, block] = self._next
        image = self._apply(self._next)
        self._image[:, block] = image
        self._launch("raise_norms", image, self._norm)
        self._used += BLOCK
        self._next = self._orthonormal(image)

    def _rotate(self, kept: int) -> Any:
        """Replace the basis by the best approximations of eigenvectors it holds; their values."""
        projected = cp.matmul(self._basis, self._image.transpose(0, 2, 1))
        values, vectors = small_eigenvectors(projected)
        vectors = cp.ascontiguousarray(vectors[:, :kept])
        for rows in (self._basis, self._image):
            rows[:, :kept] = cp.matmul(vectors, rows)
            rows[:, kept:] = 0.0
        self._used = kept
        return values

    def _orthonormal(self, rows: Any) -> Any:
        """Orthonormalise a block against the basis and in itself; what vanishes is replaced by noise, then by zero."""
        for arguments in (
            (self._norm, np.float64(1e-12), self._noise),
            (_NO_ARRAY, np.float64(1e-10), _NO_ARRAY),
        ):
            # Products copy what is transposed: never the basis.
            coefficients = cp.matmul(self._basis, rows.transpose(0, 2, 1))
            rows = rows - cp.matmul(coefficients.transpose(0, 2, 1), self._basis)
            self._launch("orthonormalise", rows, *arguments)
        return rows

    def _launch(self, name: str, rows: Any, *arguments: Any) -> None:
        """Run a kernel with a block of threads for the rows of each matrix."""
        function = kernel("orthonormal_rows.cu", name)
        function((len(rows),), (_THREADS,), (rows, np.int64(rows.shape[2]), *arguments))
