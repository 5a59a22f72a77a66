from __future__ import annotations

import numpy as np
import pytest

from ptg.kernels.cpu.products import aligned_empty, multiply


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("n", "k", "m"), [(1, 1, 1), (7, 3, 5), (8, 4, 16), (9, 5, 17), (64, 50, 100), (17, 130, 3)])
def test_products_of_every_remainder(n, k, m, dtype):
    rng = np.random.default_rng(n * k * m)
    a, b = rng.standard_normal((n, k)).astype(dtype), rng.standard_normal((k, m)).astype(dtype)
    out = aligned_empty((n, m), a.dtype)
    out[:] = np.nan
    multiply(a, b, out)
    exact = a.astype(np.float64) @ b.astype(np.float64)
    bound = np.abs(a).astype(np.float64) @ np.abs(b).astype(np.float64) * k * np.finfo(dtype).eps
    assert (np.abs(out - exact) <= bound).all()


def test_nan_is_kept():
    a, out = np.full((9, 5), np.nan), aligned_empty((9, 3), np.dtype(np.float64))
    multiply(a, np.ones((5, 3)), out)
    assert np.isnan(out).all()


@pytest.mark.parametrize("shape", [(1, 1), (3, 7), (512, 512)])
def test_memory_starts_at_a_cache_line(shape):
    array = aligned_empty(shape, np.dtype(np.float32))
    assert array.shape == shape
    assert array.ctypes.data % 64 == 0
    assert array.flags.c_contiguous
