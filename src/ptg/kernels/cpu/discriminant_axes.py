"""Principal axes of many targets that share their controls, and linear discriminants of projections.

Blocks of rows and tiles of columns have fixed sizes, so that sums do not depend on threads or memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.linalg
import scipy.sparse as sp
from scipy.sparse.linalg import LinearOperator, eigsh

from ptg.kernels.contract.projection import Discriminants
from ptg.kernels.contract.resources import Resources
from ptg.kernels.cpu.threads import run_tasks

if TYPE_CHECKING:
    from numpy.typing import NDArray

_EPS = float(np.finfo(np.float64).eps)
_BLOCK = 4096
"""Rows made dense at a time."""
_TILE = 512
"""Columns of a tile of the scatter matrix."""
_DIRECT = 768
"""Genes up to which all eigenvectors of a correlation matrix come from one direct decomposition."""
_SCATTER = 4096
"""Genes up to which the scatter matrix is formed (128 MiB); beyond, the data are applied to vectors instead."""
_FOLDS = 8
"""Parts of the cells whose triangular factors are found independently."""


def principal_axes(
    control: Any, cells: Any, offsets: NDArray[Any], n_axes: NDArray[Any], *, resources: Resources
) -> NDArray[Any]:
    """Leading principal axes of each target's cells with the controls; see the contract."""
    formed = control.shape[1] <= _SCATTER
    solve = _from_scatter(control, resources) if formed else _from_data(control)
    targets = list(zip(pairwise(offsets.tolist()), n_axes.tolist(), strict=True))

    def one(target: tuple[tuple[int, int], int]) -> NDArray[Any]:
        (start, stop), count = target
        return _signed(solve(cells[start:stop], count)) if count else np.empty((control.shape[1], 0))

    axes = run_tasks(one, targets, resources)
    return np.concatenate([np.empty((control.shape[1], 0)), *axes], axis=1)


def _from_scatter(control: Any, resources: Resources) -> Callable[[Any, int], NDArray[Any]]:
    """Find axes from the controls' scatter matrix, formed once, plus the target's."""
    n_control = control.shape[0]
    control_mean = _column_moments(control)[0]
    control_scatter = _scatter(control, control_mean, resources)

    def solve(cells: Any, count: int) -> NDArray[Any]:
        n_cells = cells.shape[0]
        mean = _column_moments(cells)[0]
        scatter = control_scatter.copy()
        for block in _dense_blocks(cells):
            centred = block - mean
            scatter += centred.T @ centred
        gap = mean - control_mean
        scatter += np.outer(gap, gap) * (n_control * n_cells / (n_control + n_cells))
        pooled = control_mean + gap * (n_cells / (n_control + n_cells))
        factor = _reciprocal_deviation(scatter.diagonal(), pooled, n_control + n_cells)
        scatter *= factor[:, None]
        scatter *= factor / (n_control + n_cells - 1)
        n_genes = len(mean)
        if n_genes <= _DIRECT:
            wanted = (n_genes - count, n_genes - 1)
            return np.asarray(scipy.linalg.eigh(scatter, subset_by_index=wanted)[1][:, ::-1])
        return _leading(scatter, n_genes, count)

    return solve


def _from_data(control: Any) -> Callable[[Any, int], NDArray[Any]]:
    """Find axes by applying controls and cells to vectors: nothing of genes x genes is formed."""
    control = control.astype(np.float64, copy=False)
    n_control, n_genes = control.shape
    control_mean, control_squares = _column_moments(control)

    def solve(cells: Any, count: int) -> NDArray[Any]:
        cells = cells.astype(np.float64, copy=False)
        n = n_control + cells.shape[0]
        mean, squares = _column_moments(cells)
        gap = mean - control_mean
        pooled = control_mean + gap * (cells.shape[0] / n)
        squares = control_squares + squares + gap * gap * (n_control * cells.shape[0] / n)
        factor = _reciprocal_deviation(squares, pooled, n)

        def apply(vector: NDArray[Any]) -> NDArray[Any]:
            scaled = factor * vector.ravel()
            result: NDArray[Any] = np.zeros(n_genes)
            for part in (control, cells):
                scores = part @ scaled - pooled @ scaled
                result += part.T @ scores - pooled * scores.sum()
            return np.asarray(factor * result / (n - 1))

        return _leading(LinearOperator((n_genes, n_genes), matvec=apply, dtype=np.float64), n_genes, count)

    return solve


def _leading(matrix: Any, n_genes: int, count: int) -> NDArray[Any]:
    """Eigenvectors of the `count` largest eigenvalues, largest first."""
    start = np.random.default_rng(0).uniform(0.5, 1.5, n_genes)
    values, vectors = eigsh(matrix, count, v0=start, which="LA")
    return np.asarray(vectors[:, np.argsort(-values, kind="stable")])


def _reciprocal_deviation(squares: NDArray[Any], mean: NDArray[Any], n: int) -> NDArray[Any]:
    """1 / sample standard deviation; 0 for a gene without variance, which leaves only the rounding of its mean."""
    deviation = np.sqrt(np.maximum(squares, 0.0) / (n - 1))
    varies = deviation > 8 * _EPS * np.abs(mean)
    return np.asarray(np.divide(1.0, deviation, out=np.zeros_like(deviation), where=varies))


def _signed(vectors: NDArray[Any]) -> NDArray[Any]:
    """Turn each column so that its largest entry is positive."""
    if not vectors.size:
        return vectors
    largest = np.abs(vectors).argmax(0)
    return vectors * np.where(vectors[largest, np.arange(vectors.shape[1])] < 0, -1.0, 1.0)


def _is_sparse(matrix: Any) -> bool:
    return sp.issparse(matrix)


def _dense_blocks(matrix: Any) -> Iterator[NDArray[Any]]:
    """Rows as dense float64, a block at a time."""
    for start in range(0, matrix.shape[0], _BLOCK):
        block = matrix[start : start + _BLOCK]
        yield np.asarray(block.toarray() if _is_sparse(block) else block, dtype=np.float64)


def _column_moments(matrix: Any) -> tuple[NDArray[Any], NDArray[Any]]:
    """Mean and centred sum of squares of each column, in float64; 0 without rows."""
    n, n_columns = matrix.shape
    if n == 0:
        return np.zeros(n_columns), np.zeros(n_columns)
    if _is_sparse(matrix):
        mean = np.bincount(matrix.indices, weights=matrix.data, minlength=n_columns) / n
        stored = np.bincount(matrix.indices, minlength=n_columns)
        away = (matrix.data - mean[matrix.indices]) ** 2
        squares = np.bincount(matrix.indices, weights=away, minlength=n_columns) + (n - stored) * mean**2
        return mean, squares
    mean = matrix.sum(axis=0, dtype=np.float64) / n
    squares = np.zeros(n_columns)
    for block in _dense_blocks(matrix):
        squares += ((block - mean) ** 2).sum(0)
    return mean, squares


def _scatter(matrix: Any, mean: NDArray[Any], resources: Resources) -> NDArray[Any]:
    """Centred sums of squares and products of the columns."""
    n_columns = matrix.shape[1]
    starts = range(0, n_columns, _TILE)
    by_column = matrix.tocsc() if _is_sparse(matrix) and len(starts) > 1 else matrix

    def tile(start: int) -> Any:
        if len(starts) == 1:
            return matrix
        columns = by_column[:, start : start + _TILE]
        return columns.tocsr() if _is_sparse(columns) else columns

    def one(pair: tuple[int, int]) -> NDArray[Any]:
        left, right = pair
        left_mean, right_mean = mean[left : left + _TILE], mean[right : right + _TILE]
        result = np.zeros((len(left_mean), len(right_mean)))
        for block, other in zip(_dense_blocks(tile(left)), _dense_blocks(tile(right)), strict=True):
            result += (block - left_mean).T @ (other - right_mean)
        return result

    pairs = [(left, right) for left in starts for right in starts if left <= right]
    scatter = np.empty((n_columns, n_columns))
    for (left, right), product in zip(pairs, run_tasks(one, pairs, resources), strict=True):
        scatter[left : left + _TILE, right : right + _TILE] = product
        scatter[right : right + _TILE, left : left + _TILE] = product.T
    return scatter


def discriminants(
    matrix: Any, codes: NDArray[Any], axes: NDArray[Any], *, tol: float, resources: Resources
) -> Discriminants:
    """Linear discriminants of ``matrix @ axes``; see the contract."""
    counts = np.bincount(codes)

    def class_means(_: int) -> NDArray[Any]:
        return np.asarray(_class_sums(matrix, codes, len(counts)) / counts[:, None] @ axes)

    # Single tasks keep BLAS to one thread: small products are faster so, and always have the same bits.
    (means,) = run_tasks(class_means, [0], resources)
    triangle = _within_triangle(matrix, codes, axes, means, resources)
    ((loadings, gene_loadings, centre),) = run_tasks(
        lambda _: _solve(triangle, means, counts, axes, tol), [0], resources
    )
    starts = range(0, matrix.shape[0], _BLOCK)
    blocks = run_tasks(lambda start: _rows(matrix, start) @ gene_loadings - centre, starts, resources)
    return Discriminants(np.concatenate(blocks), loadings)


def _solve(
    triangle: NDArray[Any], means: NDArray[Any], counts: NDArray[Any], axes: NDArray[Any], tol: float
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Find the loadings of axes and genes, and the coordinates of the mean, by scikit-learn's two decompositions."""
    n_cells = counts.sum()
    deviation = np.sqrt((triangle**2).sum(0) / n_cells)
    deviation[deviation == 0.0] = 1.0
    _, within, rotation = np.linalg.svd(triangle / deviation / np.sqrt(n_cells), full_matrices=False)
    kept = int(np.count_nonzero(within > tol))
    scalings = (rotation[:kept] / deviation).T / within[:kept]
    mean = counts / n_cells @ means
    spread = np.sqrt(counts / max(len(counts) - 1, 1))[:, None] * (means - mean) @ scalings
    _, between, rotation = np.linalg.svd(spread, full_matrices=False)
    kept = min(int(np.count_nonzero(between > tol * between.max(initial=0.0))), len(counts) - 1)
    loadings = _signed(scalings @ rotation[:kept].T)
    return loadings, axes @ loadings, mean @ loadings


def _rows(matrix: Any, start: int) -> Any:
    """One block of rows in float64, sparse or dense as it was."""
    return matrix[start : start + _BLOCK].astype(np.float64, copy=False)


def _class_sums(matrix: Any, codes: NDArray[Any], n_classes: int) -> NDArray[Any]:
    """Sum of the cells of each class; (n_classes, n_genes)."""
    sums = np.zeros((n_classes, matrix.shape[1]))
    for start in range(0, matrix.shape[0], _BLOCK):
        block = _rows(matrix, start)
        member = codes[start : start + _BLOCK]
        shape = (n_classes, len(member))
        indicator = sp.csr_matrix((np.ones(len(member)), (member, np.arange(len(member)))), shape=shape)
        product = indicator @ block
        sums += product.toarray() if _is_sparse(product) else product
    return sums


def _within_triangle(
    matrix: Any, codes: NDArray[Any], axes: NDArray[Any], means: NDArray[Any], resources: Resources
) -> NDArray[Any]:
    """Triangular factor R with ``R'R`` the within-class scatter of the projections, never forming that product."""
    blocks = list(range(0, matrix.shape[0], _BLOCK))
    folds = [fold.tolist() for fold in np.array_split(np.array(blocks), min(_FOLDS, len(blocks)))]

    def one(fold: list[int]) -> NDArray[Any]:
        triangle: NDArray[Any] = np.empty((0, axes.shape[1]))
        for start in fold:
            residual = _rows(matrix, start) @ axes - means[codes[start : start + _BLOCK]]
            triangle = _triangle([triangle, residual])
        return triangle

    return run_tasks(_triangle, [run_tasks(one, folds, resources)], resources)[0]


def _triangle(parts: list[NDArray[Any]]) -> NDArray[Any]:
    """Triangular factor of the rows of all parts."""
    return np.asarray(np.linalg.qr(np.concatenate(parts), mode="r"))
