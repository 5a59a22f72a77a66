"""Arrays to where a run computes, and results to where the caller's data live."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np

from ptg.data import current_device, gpu_of, is_gpu_array, is_sparse
from ptg.kernels.contract import Resources

_LARGE = 4 << 20
"""Bytes from which a copy to the host pays for pinned buffers and threads."""


def to_host(array: Any) -> Any:
    """Return an array or sparse matrix of NumPy, SciPy, CuPy or cupyx as one of NumPy or SciPy."""
    if not is_gpu_array(array):
        return array
    with current_device(array):
        if is_sparse(array) or array.nbytes < _LARGE or not array.flags.c_contiguous:
            return array.get()
        host = np.empty(array.shape, array.dtype)
        _download(array, host)
        return host


def _download(array: Any, host: Any) -> None:
    from ptg.execute.settings import settings
    from ptg.kernels.cuda.download import Downloads

    with Downloads(Resources(settings.resolved_threads())) as downloads:
        downloads.start(array, host)


def to_gpu(matrix: Any, resources: Resources) -> Any:
    """Return a matrix, dense or CSR, on the current GPU; without a copy where it is there."""
    from ptg.kernels.cuda.matrices import bring

    cupy = import_module("cupy")
    if gpu_of(matrix) == cupy.cuda.runtime.getDevice():
        return matrix
    if is_gpu_array(matrix):
        with current_device(matrix):  # what the caller queued there must be done before another GPU reads it
            cupy.cuda.get_current_stream().synchronize()
    return bring(matrix, resources)


def place_like(result: Any, given: Any) -> Any:
    """Bring a result to where the caller's data live.

    Parameters
    ----------
    result
        Array or CSR matrix of NumPy and SciPy or of CuPy and cupyx.
    given
        What the caller passed, e.g. ``adata.X``; dense or sparse.

    Returns
    -------
    NumPy or SciPy if `given` is on the host, CuPy or cupyx on the GPU of `given` otherwise; dense or sparse as `result`
    is. cupyx has no sparse integers: 0/1 matrices become float32 there.
    """
    gpu = gpu_of(given)
    if gpu is None or gpu == gpu_of(result):
        return result if gpu is not None else to_host(result)
    with current_device(given):
        if is_sparse(result) and result.dtype.kind in "iu":
            result = result.astype(np.float32)
        return to_gpu(result, Resources())
