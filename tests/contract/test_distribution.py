"""Every backend's Kolmogorov-Smirnov statistics against the definition."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from tests.support import BACKENDS, LAYOUTS, in_layout, kernels

RAGGED = [0, 1, 3, 60, 200, 330]
CASES = {
    "continuous": lambda rng, shape: rng.standard_normal(shape),
    "ties": lambda rng, shape: rng.integers(-2, 3, shape).astype(float),
    "mostly zero": lambda rng, shape: (rng.random(shape) < 0.1) * rng.integers(-3, 4, shape).astype(float),
    "positive": lambda rng, shape: (rng.random(shape) < 0.3) * rng.random(shape),
    "negative": lambda rng, shape: (rng.random(shape) < 0.3) * -rng.random(shape),
    "all zero": lambda rng, shape: np.zeros(shape),
    "no zero": lambda rng, shape: rng.integers(1, 4, shape).astype(float),
}


def make(name: str, dtype: type = np.float64) -> tuple[np.ndarray, np.ndarray]:
    return CASES[name](np.random.default_rng(0), (RAGGED[-1], 4)).astype(dtype), np.array(RAGGED)


def slow_sum(x: np.ndarray, y: np.ndarray, u: np.ndarray, v: np.ndarray) -> float:
    """Weights u and v; the distribution functions at every value of either."""
    total = 0.0
    for a, b in zip(x.T, y.T, strict=True):
        at = np.concatenate([a, b])[:, None]
        total += np.abs((a <= at) @ u / u.sum() - (b <= at) @ v / v.sum()).max()
    return total


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", CASES)
def test_sums(backend: str, dtype: type, layout: str, name: str) -> None:
    cells, offsets = make(name, dtype)
    matrix = in_layout(cells, layout)
    cells = matrix if isinstance(matrix, np.ndarray) else matrix.toarray()
    run, resources = kernels(backend, n_threads=2)
    left, right = (indices.ravel() for indices in np.indices((5, 5)))
    weights = np.random.default_rng(1).integers(0, 3, (34, len(cells))).astype(np.uint16)
    weights[:, :3] = 1
    found = run.distribution.ks_sums(matrix, offsets, left, right, resources=resources)
    drawn = run.distribution.ks_sums(matrix, offsets, left, right, weights=weights, resources=resources)
    assert found.shape == (25,)
    assert drawn.shape == (34, 25)
    groups = [slice(a, b) for a, b in pairwise(RAGGED)]
    for p, (a, b) in enumerate(zip(left, right, strict=True)):
        x, y = cells[groups[a]], cells[groups[b]]
        np.testing.assert_allclose(found[p], slow_sum(x, y, np.ones(len(x)), np.ones(len(y))), rtol=1e-12, atol=1e-15)
        for draw in (0, 33):
            u, v = (weights[draw, groups[g]].astype(float) for g in (a, b))
            np.testing.assert_allclose(drawn[draw, p], slow_sum(x, y, u, v), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("layout", ["dense", "csr"])
def test_same_bits_for_any_threads_memory_and_draws(backend: str, layout: str) -> None:
    cells, offsets = make("continuous")
    matrix = in_layout(cells, layout)
    left, right = np.triu_indices(5, 1)
    run, many = kernels(backend, n_threads=4)
    one = kernels(backend, n_threads=1, memory=1 << 10)[1]
    weights = np.random.default_rng(1).integers(0, 3, (40, len(cells))) + (np.arange(len(cells)) < 3)
    sums = run.distribution.ks_sums
    assert np.array_equal(*(sums(matrix, offsets, left, right, resources=r) for r in (one, many)))
    together = sums(matrix, offsets, left, right, weights=weights, resources=many)
    assert np.array_equal(together[35:], sums(matrix, offsets, left, right, weights=weights[35:], resources=one))
    assert np.array_equal(
        together[:, 4:5], sums(matrix, offsets, left[4:5], right[4:5], weights=weights, resources=one)
    )


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("layout", ["dense", "csr"])
def test_groups_without_cells_or_weight_are_nan(backend: str, layout: str) -> None:
    cells = in_layout(np.arange(8.0).reshape(4, 2), layout)
    run, resources = kernels(backend)
    offsets, left, right = np.array([0, 0, 2, 4, 4]), np.array([0, 1, 1, 2]), np.array([1, 2, 3, 0])
    found = run.distribution.ks_sums(cells, offsets, left, right, resources=resources)
    np.testing.assert_array_equal(found, [np.nan, 2.0, np.nan, np.nan])
    weights = np.array([[1, 1, 1, 1], [0, 0, 1, 1]])
    drawn = run.distribution.ks_sums(cells, offsets, left, right, weights=weights, resources=resources)
    np.testing.assert_array_equal(drawn, [[np.nan, 2.0, np.nan, np.nan], [np.nan] * 4])
