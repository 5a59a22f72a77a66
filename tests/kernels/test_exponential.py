"""Exponentials of rows against NumPy's in float64."""

from __future__ import annotations

import numpy as np
import pytest

from ptg.kernels.cpu.exponential import exponentials, power_scratch


@pytest.mark.parametrize(("dtype", "lowest", "rtol"), [(np.float32, -87.0, 3e-7), (np.float64, -708.0, 4e-16)])
@pytest.mark.parametrize("size", [1, 7, 100_000])
def test_exponentials(dtype: type, lowest: float, rtol: float, size: int) -> None:
    x = np.linspace(lowest, 80.0, size).astype(dtype)
    found = x.copy()
    exponentials(found, *power_scratch(size, np.dtype(dtype)))
    np.testing.assert_allclose(found, np.exp(x.astype(np.float64)), rtol=rtol)


@pytest.mark.parametrize(("dtype", "lowest"), [(np.float32, -87.0), (np.float64, -708.0)])
def test_what_is_too_small_becomes_zero(dtype: type, lowest: float) -> None:
    x = np.array([0.0, lowest, np.nextafter(dtype(lowest), dtype(-np.inf)), -1e30], dtype)
    exponentials(x, *power_scratch(4, np.dtype(dtype)))
    assert x[0] == 1
    assert x[1] > 0
    assert x[2:].tolist() == [0, 0]
