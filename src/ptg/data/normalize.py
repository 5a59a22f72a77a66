"""Raw counts to log-normalised expression."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp

from ptg.data.checks import check_number
from ptg.data.errors import InputError
from ptg.data.matrix import Matrix, as_matrix, check_counts

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

_ROWS = 1 << 14
"""Rows of a dense matrix that are in float64 at a time."""


def log_normalize(counts: object, size_factors: ArrayLike | None = None, target_sum: float = 1e4) -> Matrix:
    """Scale each cell to the same depth and take the natural ``log1p``.

    Parameters
    ----------
    counts
        Raw counts, cells x genes, as `as_matrix` takes them: non-negative whole numbers. Never modified.
    size_factors
        Depth of each cell, shape (n_cells,), in counts; positive. By default the cell's own sum over all columns. Gene
        panels, where that sum is mostly a few genes, need the depth of the whole transcriptome here.
    target_sum
        Depth that every cell is scaled to.

    Returns
    -------
    Matrix of the same shape and kind (CSR stays CSR, zeros stay zeros); float32 counts give float32, everything else
    float64. Each value is computed in float64 and rounded once.

    Raises
    ------
    InputError
        Negative or fractional counts; cells without any count where `size_factors` is not given, because such cells
        have no depth; size factors of another length, missing, infinite, zero or negative.

    Notes
    -----
    ``log(1 + count * target_sum / size_factor)``.

    Examples
    --------
    >>> import numpy as np
    >>> log_normalize(np.array([[1, 1], [0, 4]]), target_sum=2)
    array([[0.69314718, 0.69314718],
           [0.        , 1.09861229]])
    """
    target_sum = check_number("target_sum", target_sum, minimum=0.0, open_ends=True)
    matrix = as_matrix(counts, "counts")
    check_counts(matrix.data if sp.issparse(matrix) else matrix, "counts")
    scale = target_sum / _depth(matrix, size_factors)
    if sp.issparse(matrix):
        values = np.log1p(matrix.data * np.repeat(scale, np.diff(matrix.indptr)))
        # Own index arrays: the caller may later drop zeros of the counts in place.
        parts = (values.astype(matrix.dtype), matrix.indices.copy(), matrix.indptr.copy())
        return sp.csr_matrix(parts, shape=matrix.shape)
    result = np.empty_like(matrix)
    for start in range(0, matrix.shape[0], _ROWS):
        rows = slice(start, start + _ROWS)
        result[rows] = np.log1p(matrix[rows] * scale[rows, np.newaxis])
    return result


def _depth(matrix: Matrix, size_factors: ArrayLike | None) -> NDArray[np.float64]:
    """Depth of each cell: what the caller says, else the sum of the row."""
    if size_factors is None:
        depth = np.asarray(matrix.sum(axis=1, dtype=np.float64)).ravel()
        empty = int(np.count_nonzero(depth == 0))
        if empty:
            raise InputError(
                f"counts has {empty} cell(s) without a single count, which cannot be scaled. "
                "Remove them, or pass size_factors."
            )
        return depth
    try:
        depth = np.asarray(size_factors, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError("size_factors are not numbers. Pass one positive number per cell.") from error
    if depth.shape != (matrix.shape[0],):
        raise InputError(f"size_factors has shape {depth.shape}. Pass one number for each of {matrix.shape[0]} cells.")
    bad = int(np.count_nonzero(~(np.isfinite(depth) & (depth > 0))))
    if bad:
        raise InputError(
            f"size_factors has {bad} value(s) that are missing, infinite, zero or negative. "
            "Pass the depth of each cell, a positive number."
        )
    return depth


def looks_raw(matrix: Any) -> bool:
    """Tell whether a matrix, as `as_matrix` takes it, holds raw counts: non-negative whole numbers only.

    Examples
    --------
    >>> import numpy as np
    >>> looks_raw(np.array([[0.0, 3.0]])), looks_raw(np.array([[0.0, 1.5]]))
    (True, False)
    """
    try:
        checked = as_matrix(matrix, "matrix")
        check_counts(checked.data if sp.issparse(checked) else checked, "matrix")
    except InputError:
        return False
    return True
