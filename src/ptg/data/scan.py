"""Look through large arrays with several threads: one alone does not read as fast as the memory delivers."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from ptg.data.gpu_arrays import all_true, array_module, is_gpu_array

_PIECE = 1 << 20
"""Values that a thread looks at together: they stay in its cache."""

_FEWEST = 1 << 23
"""Values that are worth a second thread."""

_MOST_THREADS = 16


def is_finite(values: Any) -> bool:
    """Tell whether the sum of a floating-point array, of NumPy or CuPy, is finite: no NaN, infinity or overflow.

    A sum is finite exactly when nothing overflowed and no entry is NaN or infinite: one pass, no temporary.

    Examples
    --------
    >>> is_finite(np.array([1.0, 2.0])), is_finite(np.array([1.0, np.nan])), is_finite(np.array([np.inf, -np.inf]))
    (True, False, False)
    """
    if is_gpu_array(values):
        with np.errstate(invalid="ignore", over="ignore"):
            return math.isfinite(float(values.sum()))
    flat = values.reshape(-1) if values.flags.c_contiguous else values.ravel(order="K")

    def check(start: int, stop: int) -> bool:
        with np.errstate(invalid="ignore", over="ignore"):
            return bool(np.isfinite(flat[start:stop].sum()))

    return _in_pieces(check, flat.size)


def is_canonical(matrix: Any) -> bool:
    """Tell whether the column numbers of each row of a CSR matrix, of SciPy or cupyx, ascend, none twice.

    Examples
    --------
    >>> import scipy.sparse as sp
    >>> is_canonical(sp.csr_matrix(np.eye(3)))
    True
    """
    starts, indices = matrix.indptr, matrix.indices
    if is_gpu_array(matrix):
        ascends = array_module(matrix).ones(len(indices) + 1, dtype=bool)
        ascends[1:-1] = indices[1:] > indices[:-1]
        ascends[starts] = True
        return all_true(starts[1:] >= starts[:-1]) and all_true(ascends)
    if matrix.nnz < _FEWEST:
        return bool(matrix.has_canonical_format)
    if bool((starts[1:] < starts[:-1]).any()):
        return False

    def check(start: int, stop: int) -> bool:
        # Entry k + 1 must be above entry k, unless a row begins with it.
        ascends = indices[start + 1 : stop + 1] > indices[start:stop]
        first, last = np.searchsorted(starts, [start + 1, stop + 1])
        ascends[starts[first:last] - (start + 1)] = True
        return bool(ascends.all())

    return _in_pieces(check, max(int(starts[-1]) - 1, 0))


def _in_pieces(check: Callable[[int, int], bool], size: int) -> bool:
    """Whether ``check(start, stop)`` holds for all pieces."""
    pieces = [(start, min(start + _PIECE, size)) for start in range(0, size, _PIECE)]
    if size < _FEWEST:
        return all(check(*piece) for piece in pieces)
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with ThreadPoolExecutor(min(available, _MOST_THREADS)) as pool:
        return all(pool.map(lambda piece: check(*piece), pieces))
