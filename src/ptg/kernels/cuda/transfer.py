"""Copy arrays between the host and the current device."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import cupy as cp
import numpy as np

if TYPE_CHECKING:
    from ptg.kernels.contract.resources import Resources

_PIECE = 4 << 20
"""Bytes of a pinned buffer; each thread has two of them."""

_THREADS = 8


def to_device(array: Any, resources: Resources, dtype: Any = None) -> Any:
    """Return a C-ordered CuPy array on the current device; one that is there already is not copied.

    A large NumPy array goes through small pinned buffers that several threads fill: one thread alone cannot read
    memory as fast as the bus takes it, and CuPy would pin a buffer as large as the array.

    Parameters
    ----------
    array
        NumPy or CuPy array of booleans or real numbers. float16 becomes float32, longer than float64 becomes float64.
    resources
        Number of threads.
    dtype
        Type to convert to, on the way; by default as above.
    """
    wanted = np.dtype(_accepted(np.dtype(array.dtype)) if dtype is None else dtype)
    if isinstance(array, cp.ndarray):
        # In C order before it leaves another device: CuPy copies nothing strided between devices.
        return cp.asarray(array, order="C").astype(wanted, copy=False)
    host = np.ascontiguousarray(array)
    n_bytes = host.size * wanted.itemsize
    if n_bytes <= 2 * _PIECE:
        return cp.asarray(host.astype(wanted, copy=False))
    there = cp.empty(host.shape, dtype=wanted)
    _copy(host.reshape(-1), there, min(resources.n_threads, _THREADS, -(-n_bytes // _PIECE)))
    return there


def _accepted(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the type in which values of some type are kept on a device."""
    if dtype.kind != "f" or dtype.itemsize in {4, 8}:
        return dtype
    return np.dtype(np.float32 if dtype.itemsize < 4 else np.float64)


def _copy(source: Any, target: Any, n_threads: int) -> None:
    # Work queued on the current stream may still use the memory that `target` was given.
    ready = cp.cuda.get_current_stream().record()
    device = cp.cuda.runtime.getDevice()
    item = target.dtype.itemsize
    step = _PIECE // item

    def copy_share(thread: int) -> None:
        with cp.cuda.Device(device):
            stream = cp.cuda.Stream(non_blocking=True)
            stream.wait_event(ready)
            pinned = [cp.cuda.alloc_pinned_memory(_PIECE) for _ in range(2)]
            copied: list[Any] = [None, None]
            for turn, start in enumerate(range(thread * step, len(source), n_threads * step)):
                piece = source[start : start + step]
                if copied[turn % 2] is not None:
                    copied[turn % 2].synchronize()
                buffer = pinned[turn % 2]
                np.frombuffer(buffer, dtype=target.dtype, count=len(piece))[:] = piece
                there, n_bytes = target.data.ptr + start * item, len(piece) * item
                cp.cuda.runtime.memcpyAsync(there, buffer.ptr, n_bytes, cp.cuda.runtime.memcpyHostToDevice, stream.ptr)
                copied[turn % 2] = stream.record()
            stream.synchronize()

    with ThreadPoolExecutor(n_threads) as pool:
        list(pool.map(copy_share, range(n_threads)))


def to_host(array: Any, target: Any) -> None:
    """Fill a NumPy array, or a part of one, with a CuPy array of the same shape and dtype."""
    if target.flags.c_contiguous:
        array.get(out=target)
    else:
        target[...] = array.get()
