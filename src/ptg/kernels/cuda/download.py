"""Large results from the device to the host, while the device goes on computing."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import TYPE_CHECKING, Any

import cupy as cp
import numpy as np

from ptg.kernels.cuda.transfer import to_host

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ptg.kernels.contract.resources import Resources

_SMALL = 2 << 20
"""Bytes that CuPy copies as fast."""

_PIECE = 16 << 20
"""Largest number of bytes of a pinned buffer."""

_BUFFERS = 8
"""A thread empties a buffer at several GB/s, the bus fills them at up to 50."""


class _Buffer:
    """Pinned memory, when the device has filled it, and the thread that empties it."""

    def __init__(self) -> None:
        self.memory: Any = None
        self.filled = cp.cuda.Event(disable_timing=True)
        self.emptied: Future[None] | None = None
        self._size = 0

    def reserve(self, size: int) -> None:
        """Have at least `size` bytes. CuPy keeps pinned memory for the next call."""
        if self._size < size:
            self.memory, self._size = cp.cuda.alloc_pinned_memory(size), size

    def empty(self, target: NDArray[np.uint8]) -> None:
        self.filled.synchronize()
        target[:] = np.frombuffer(self.memory, dtype=np.uint8, count=len(target))


class Downloads:
    """Copies to the host that are complete when the ``with`` block has ended.

    They run on the current stream of the current device: an array may be released as soon as `start` has returned.
    Pageable memory fills at a fraction of the speed of the bus, and new memory has to be made page by page; here pinned
    buffers stand in between, and several threads empty them.
    """

    def __init__(self, resources: Resources) -> None:
        self._n_threads = max(min(resources.n_threads, _BUFFERS), 1)
        self._pool: ThreadPoolExecutor | None = None
        self._buffers: list[_Buffer] = []
        self._turn = 0

    def __enter__(self) -> Downloads:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pool is None:
            return
        self._pool.shutdown()  # waits for the threads, which wait for the device
        if kind is None:
            for buffer in self._buffers:
                _wait(buffer)

    def start(self, array: Any, target: Any) -> None:
        """Begin to fill `target`, NumPy or CuPy, with a C-ordered CuPy array of the same shape and dtype."""
        if isinstance(target, cp.ndarray):
            cp.cuda.get_current_stream().synchronize()  # the target may live on another device
            with target.device:
                target[...] = cp.asarray(array)
            return
        if array.nbytes <= _SMALL or not target.flags.c_contiguous:
            to_host(array, target)
            return
        stream, there = cp.cuda.get_current_stream(), target.reshape(-1).view(np.uint8)
        size = min(max(-(-len(there) // _BUFFERS), _SMALL), _PIECE)
        for start in range(0, len(there), size):
            piece = there[start : start + size]
            buffer, pool = self._next_buffer()
            buffer.reserve(size)
            cp.cuda.runtime.memcpyAsync(
                buffer.memory.ptr,
                array.data.ptr + start,
                len(piece),
                cp.cuda.runtime.memcpyDeviceToHost,
                stream.ptr,
            )
            buffer.filled.record(stream)
            buffer.emptied = pool.submit(buffer.empty, piece)

    def _next_buffer(self) -> tuple[_Buffer, ThreadPoolExecutor]:
        """Return the buffer that was used longest ago, once it is empty."""
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._n_threads)
            self._buffers = [_Buffer() for _ in range(_BUFFERS)]
        self._turn = (self._turn + 1) % _BUFFERS
        buffer = self._buffers[self._turn]
        _wait(buffer)
        return buffer, self._pool


def _wait(buffer: _Buffer) -> None:
    if buffer.emptied is not None:
        buffer.emptied.result()
        buffer.emptied = None
