"""The exponential of whole rows, in vector instructions: numba calls the C library once for every value otherwise.

A Zen 5 core does 4e9 values a second in float32, against 2e8.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ptg.kernels.cpu.compilation import jit

if TYPE_CHECKING:
    from numpy.typing import NDArray


def power_scratch(size: int, dtype: np.dtype[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return scratch for `exponentials` of rows up to `size` values: the same memory as integers and as floats."""
    bits = np.empty(size, f"i{dtype.itemsize}")
    return bits, bits.view(dtype)


# Fused multiply-add is allowed, and nothing else. With x = n log 2 + r, exp(x) is 2^n times a polynomial in r; n is
# rounded by adding 1.5 * 2^(mantissa bits), which leaves it in the low bits of the sum.
@jit(fastmath={"contract"})
def _exponentials32(x, bits, powers):  # type: ignore[no-untyped-def]
    lowest, shift = np.float32(-87.0), np.float32(12582912.0)
    for j in range(x.size):
        powers[j] = max(x[j], lowest) * np.float32(1.4426950408889634) + shift
    for j in range(x.size):
        n = powers[j] - shift
        r = (max(x[j], lowest) - n * np.float32(0.693359375)) - n * np.float32(-2.12194440e-4)
        p = np.float32(1.0 / 720.0) * r + np.float32(1.0 / 120.0)
        p = p * r + np.float32(1.0 / 24.0)
        p = p * r + np.float32(1.0 / 6.0)
        p = p * r + np.float32(0.5)
        p = p * r * r + r + np.float32(1.0)
        x[j] = p if x[j] >= lowest else np.float32(0.0)
    for j in range(x.size):
        bits[j] = (bits[j] + np.int32(127)) << np.int32(23)
    for j in range(x.size):
        x[j] *= powers[j]


@jit(fastmath={"contract"})
def exponentials64(x, bits, powers):  # type: ignore[no-untyped-def]
    """Do what `exponentials` does, for float64 only: half as much is compiled."""
    lowest, shift = -708.0, 6755399441055744.0
    for j in range(x.size):
        powers[j] = max(x[j], lowest) * 1.4426950408889634 + shift
    for j in range(x.size):
        n = powers[j] - shift
        r = (max(x[j], lowest) - n * 6.93145751953125e-1) - n * 1.42860682030941723212e-6
        p = r * (1.0 / 479001600.0) + 1.0 / 39916800.0
        p = p * r + 1.0 / 3628800.0
        p = p * r + 1.0 / 362880.0
        p = p * r + 1.0 / 40320.0
        p = p * r + 1.0 / 5040.0
        p = p * r + 1.0 / 720.0
        p = p * r + 1.0 / 120.0
        p = p * r + 1.0 / 24.0
        p = p * r + 1.0 / 6.0
        p = p * r + 0.5
        p = p * r * r + r + 1.0
        x[j] = p if x[j] >= lowest else 0.0
    for j in range(x.size):
        bits[j] = (bits[j] + 1023) << 52
    for j in range(x.size):
        x[j] *= powers[j]


@jit
def exponentials(x, bits, powers):  # type: ignore[no-untyped-def]
    """Replace every value of the row `x`, float32 or float64 and up to 80, by its exponential.

    What is below -87 (float32) or -708 (float64) becomes 0. `bits` and `powers` are from `power_scratch`.
    """
    if x.itemsize == 4:
        _exponentials32(x, bits, powers)
    else:
        exponentials64(x, bits, powers)
