"""Work in pieces that fit on the device."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import wraps
from typing import ParamSpec, TypeVar, cast

import cupy as cp

from ptg.kernels.contract.resources import Resources

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")

_LEAST_MEMORY = 1 << 26
"""Bytes of temporaries below which there is no point in trying."""


def with_fitting_size(function: Callable[[int], Result], size: int, *, smallest: int, what: str) -> Result:
    """Call ``function(size)``; where the device runs out of memory, again with half the size, down to `smallest`.

    Parameters
    ----------
    function
        Must leave nothing behind when it fails.
    size
        Rows, columns or targets of a piece to begin with.
    smallest
        Below this there is no point in trying.
    what
        How the error calls a piece, e.g. ``"rows of a tile"``.

    Raises
    ------
    MemoryError
        Not even the smallest size fits: the message says what was needed and what is free.
    """
    while True:
        try:
            return function(size)
        except MemoryError as error:
            if not _is_of_the_device(error):
                raise
            if size <= smallest:
                raise _too_little(f"{size} {what}", error) from error
            size = max(size // 2, smallest)
        # Only now is what the failed call held free: its frames are gone with the error.
        cp.get_default_memory_pool().free_all_blocks()


def within_memory(kernel: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """Call a kernel again with half of ``resources.memory`` where the device runs out of memory: see above.

    For kernels whose pieces follow from ``resources.memory``, and whose bits do not.
    """

    @wraps(kernel)
    def call(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        resources = cast("Resources", kwargs["resources"])

        def with_memory(memory: int) -> Result:
            kwargs["resources"] = replace(resources, memory=memory)
            return kernel(*args, **kwargs)

        least = min(_LEAST_MEMORY, resources.memory)
        return with_fitting_size(with_memory, resources.memory, smallest=least, what="bytes of temporaries")

    return call


def reports_memory(kernel: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """Say what a kernel needed where the device runs out of memory: see above.

    For kernels that make pieces of a part of their work or of none: what is left are arguments, results and what takes
    about as much as they, or pieces on which the bits depend.
    """

    @wraps(kernel)
    def call(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        try:
            return kernel(*args, **kwargs)
        except MemoryError as error:
            if not _is_of_the_device(error):
                raise
            raise _too_little(f"the arrays of {kernel.__name__}", error) from error

    return call


def _is_of_the_device(error: MemoryError) -> bool:
    """Whether CuPy could not allocate, or the library in which it sorts; not the host, nor one of our own errors."""
    return isinstance(error, cp.cuda.memory.OutOfMemoryError) or "std::bad_alloc" in str(error)


def _too_little(wanted: str, error: Exception) -> MemoryError:
    cp.get_default_memory_pool().free_all_blocks()
    free, total = cp.cuda.runtime.memGetInfo()
    return MemoryError(
        f"GPU {cp.cuda.runtime.getDevice()} has {free / 2**20:.0f} of {total / 2**20:.0f} MiB free, "
        f"which is not enough for {wanted} ({error}). Free memory on the device, or pass device='cpu'."
    )
