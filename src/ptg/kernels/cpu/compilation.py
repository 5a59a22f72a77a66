"""How CPU kernels are compiled."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numba


def jit(function: Callable[..., Any] | None = None, **options: Any) -> Any:
    """Compile with numba: cached on disk, without the GIL, IEEE arithmetic (NaN is kept) unless `options` differ.

    Used as ``@jit`` or ``@jit(fastmath={"contract"})``. What is cached serves until the source of any kernel changes:
    numba by itself looks at the file of a function only, and would go on with the old code of functions of other files
    that it calls.
    """
    if function is None:
        return lambda function: jit(function, **options)
    compiled = numba.njit(cache=True, nogil=True, error_model="numpy", **options)(function)
    # numba has no public name for it, and no cache at all with NUMBA_DISABLE_JIT=1.
    cache_file = getattr(getattr(compiled, "_cache", None), "_cache_file", None)
    if cache_file is not None:
        cache_file._source_stamp = _sources()  # noqa: SLF001
    return compiled


@cache
def _sources() -> int:
    """Checksum of the sources of all CPU kernels."""
    checksum = 0
    for path in sorted(Path(__file__).parent.glob("*.py")):
        checksum = zlib.crc32(path.read_bytes(), checksum)
    return checksum
