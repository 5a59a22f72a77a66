"""Large results from the device to the host, while the device goes on computing."""

from __future__ import annotations

from collections import deque
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

_BUFFERS = 12
"""A thread empties a buffer at several GB/s, the bus fills them at up to 50."""

_ARRAYS = 2
"""Arrays that wait for the bus: the device computes a third."""


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

    They run on a stream of their own, after what the current one was given before: the device computes the next array
    meanwhile, and the one after that begins when this one has left. An array may be released as soon as `start` has
    returned. Pageable memory fills at a fraction of the speed of the bus, and new memory has to be made page by page;
    here pinned buffers stand in between, and several threads empty them.
    """

    def __init__(self, resources: Resources) -> None:
        self._n_threads = max(min(resources.n_threads, _BUFFERS), 1)
        self._copier: _Copier | None = None
        self._feeder: ThreadPoolExecutor | None = None
        self._under_way: deque[Future[None]] = deque()

    def __enter__(self) -> Downloads:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._feeder is None or self._copier is None:
            return
        self._feeder.shutdown()
        self._copier.close()  # waits for the threads, which wait for the device
        if kind is None:
            while self._under_way:
                self._under_way.popleft().result()
            self._copier.check()

    def start(self, array: Any, target: Any) -> None:
        """Begin to fill `target`, NumPy or CuPy, with a C-ordered CuPy array of the same shape and dtype."""
        if isinstance(target, cp.ndarray):
            _copy_there(array, target)
            return
        if array.nbytes <= _SMALL or not target.flags.c_contiguous:
            to_host(array, target)
            return
        if self._feeder is None or self._copier is None:
            self._feeder, self._copier = ThreadPoolExecutor(1), _Copier(self._n_threads)
        if len(self._under_way) == _ARRAYS:
            self._under_way.popleft().result()
        ready = cp.cuda.get_current_stream().record()
        self._under_way.append(self._feeder.submit(self._copier.copy, array, target.reshape(-1).view(np.uint8), ready))


def _copy_there(array: Any, target: Any) -> None:
    """Fill a CuPy array on any device."""
    if target.device == array.device:
        target[...] = array
        return
    cp.cuda.get_current_stream().synchronize()
    with target.device:
        target[...] = cp.asarray(array)
        cp.cuda.get_current_stream().synchronize()  # the caller waits for the stream of `array` alone


class _Copier:
    """The buffers, and the stream that fills them; used by one thread."""

    def __init__(self, n_threads: int) -> None:
        self._device = cp.cuda.runtime.getDevice()
        self._stream = cp.cuda.Stream(non_blocking=True)
        self._pool = ThreadPoolExecutor(n_threads)
        self._buffers = [_Buffer() for _ in range(_BUFFERS)]
        self._turn = 0

    def copy(self, array: Any, target: NDArray[np.uint8], ready: Any) -> None:
        """Bring an array into the buffers; returns when it has left the device."""
        with cp.cuda.Device(self._device):
            self._stream.wait_event(ready)
            size = min(max(-(-len(target) // _BUFFERS), _SMALL), _PIECE)
            for start in range(0, len(target), size):
                piece = target[start : start + size]
                buffer = self._next_buffer()
                buffer.reserve(size)
                cp.cuda.runtime.memcpyAsync(
                    buffer.memory.ptr,
                    array.data.ptr + start,
                    len(piece),
                    cp.cuda.runtime.memcpyDeviceToHost,
                    self._stream.ptr,
                )
                buffer.filled.record(self._stream)
                buffer.emptied = self._pool.submit(buffer.empty, piece)
            self._stream.synchronize()

    def _next_buffer(self) -> _Buffer:
        """Return the buffer that was used longest ago, once it is empty."""
        self._turn = (self._turn + 1) % _BUFFERS
        _wait(self._buffers[self._turn])
        return self._buffers[self._turn]

    def close(self) -> None:
        """Wait until every buffer is empty."""
        self._pool.shutdown()

    def check(self) -> None:
        """Raise what a thread raised."""
        for buffer in self._buffers:
            _wait(buffer)


def _wait(buffer: _Buffer) -> None:
    if buffer.emptied is not None:
        buffer.emptied.result()
        buffer.emptied = None
