"""Work in pieces that fit on the device."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import cupy as cp

Result = TypeVar("Result")


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
        except cp.cuda.memory.OutOfMemoryError as error:
            cp.get_default_memory_pool().free_all_blocks()
            if size <= smallest:
                free, total = cp.cuda.runtime.memGetInfo()
                raise MemoryError(
                    f"GPU {cp.cuda.runtime.getDevice()} has {free / 2**20:.0f} of {total / 2**20:.0f} MiB free, "
                    f"which is not enough for {size} {what} ({error}). Free memory on the device, or pass device='cpu'."
                ) from error
            size = max(size // 2, smallest)
