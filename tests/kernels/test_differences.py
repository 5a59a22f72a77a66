from __future__ import annotations

import numpy as np
import pytest

from ptg.kernels.cpu.differences import squared_differences
from ptg.kernels.cpu.products import aligned_empty

SHAPES = [(1, 1, 1), (7, 3, 5), (4, 4, 16), (9, 5, 17), (64, 50, 100), (17, 130, 3)]


def squares_of(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    out = aligned_empty((len(a), b.shape[1]), a.dtype)
    out[:] = np.nan
    squared_differences(a, np.ascontiguousarray(b), out)
    return out


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("n", "k", "m"), SHAPES)
@pytest.mark.parametrize("offset", [0.0, 1e3])
def test_squares_of_every_remainder(n, k, m, dtype, offset):
    rng = np.random.default_rng(n * k * m)
    a, b = (offset + rng.standard_normal(shape).astype(dtype) for shape in ((n, k), (k, m)))
    exact = np.square(a[:, :, None].astype(np.longdouble) - b).sum(axis=1)
    np.testing.assert_allclose(squares_of(a, b), exact.astype(float), rtol=(k + 2) * np.finfo(dtype).eps)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_two_rows_have_the_same_bits_wherever_they_stand(dtype):
    a = np.random.default_rng(0).standard_normal((70, 51)).astype(dtype)
    whole = squares_of(a, a.T)
    assert np.array_equal(whole, whole.T)
    assert (np.diag(whole) == 0).all()
    assert np.array_equal(squares_of(a[3:], a[10:].T), whole[3:, 10:])


def test_nan_is_kept():
    assert np.isnan(squares_of(np.full((9, 5), np.nan), np.ones((5, 3)))).all()
