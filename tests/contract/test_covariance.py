"""Every backend's Mahalanobis distances against the definition."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from tests.support import BACKENDS, in_layout, kernels


def make(shift: float = 0.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Groups of 30, 5000 (more rows than are dense at once) and 6 cells in 5 columns of unequal size."""
    rng = np.random.default_rng(0)
    cells = rng.standard_normal((5036, 5)) @ rng.standard_normal((5, 5)) * 10.0 ** np.arange(-2, 3) + shift
    return cells, np.array([0, 30, 5030, 5036]), rng.standard_normal((3, 5))


def slow_distance(x: np.ndarray, difference: np.ndarray) -> float:
    return float(np.sqrt(difference @ np.linalg.solve(np.cov(x.T), difference)))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("layout", ["dense", "csr"])
@pytest.mark.parametrize("shift", [0.0, 1e3])
def test_distances(backend: str, dtype: type, layout: str, shift: float) -> None:
    cells, offsets, profiles = make(shift)
    cells = cells.astype(dtype)
    run, resources = kernels(backend, n_threads=2)
    left, right = (indices.ravel() for indices in np.indices((3, 3)))
    found = run.covariance.mahalanobis(in_layout(cells, layout), offsets, profiles, left, right, resources=resources)
    groups = [cells[a:b].astype(float) for a, b in pairwise(offsets)]
    expected = [slow_distance(groups[a], profiles[a] - profiles[b]) for a, b in zip(left, right, strict=True)]
    np.testing.assert_allclose(found, expected, rtol=1e-6 if shift else 1e-9)
    weights = np.random.default_rng(1).integers(0, 3, len(cells)) + (np.arange(len(cells)) >= 5030)
    drawn = run.covariance.mahalanobis(
        in_layout(cells, layout), offsets, profiles, left, right, weights=weights, resources=resources
    )
    groups = [np.repeat(cells[a:b].astype(float), weights[a:b], axis=0) for a, b in pairwise(offsets)]
    expected = [slow_distance(groups[a], profiles[a] - profiles[b]) for a, b in zip(left, right, strict=True)]
    np.testing.assert_allclose(drawn, expected, rtol=1e-6 if shift else 1e-9)


SINGULAR = {
    "as many cells as columns": lambda rng: rng.standard_normal((3, 3)),
    "constant column": lambda rng: rng.standard_normal((20, 3)) * [1, 0, 1] + 0.1,
    "equal columns": lambda rng: rng.standard_normal((20, 3))[:, [0, 1, 1]],
    "sum of columns": lambda rng: rng.standard_normal((20, 2)) @ [[1, 0, 1], [0, 1, 1]],
    "one cell": lambda rng: rng.standard_normal((1, 3)),
    "few different cells": lambda rng: rng.standard_normal((3, 3))[rng.integers(0, 3, 40)],
}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", SINGULAR)
def test_singular_covariances_are_nan(backend: str, name: str) -> None:
    rng = np.random.default_rng(0)
    x, y = SINGULAR[name](rng), rng.standard_normal((30, 3))
    run, resources = kernels(backend)
    offsets, profiles = np.array([0, len(x), len(x) + len(y)]), np.stack([x.mean(0), y.mean(0)])
    found = run.covariance.mahalanobis(
        np.concatenate([x, y]), offsets, profiles, np.array([0, 1]), np.array([1, 0]), resources=resources
    )
    assert np.isnan(found[0])
    assert found[1] > 0


@pytest.mark.parametrize("backend", BACKENDS)
def test_small_and_large_columns_are_no_reason_to_be_singular(backend: str) -> None:
    cells, offsets, profiles = make()
    scale = 10.0 ** np.array([-9, -3, 0, 4, 12])
    run, resources = kernels(backend)
    pairs = (np.array([0]), np.array([1]))
    scaled = run.covariance.mahalanobis(cells * scale, offsets, profiles * scale, *pairs, resources=resources)
    plain = run.covariance.mahalanobis(cells, offsets, profiles, *pairs, resources=resources)
    np.testing.assert_allclose(scaled, plain, rtol=1e-9)


def test_same_bits_for_any_threads_and_memory() -> None:
    cells, offsets, profiles = make()
    left, right = (indices.ravel() for indices in np.indices((3, 3)))
    run, many = kernels("cpu", n_threads=3)
    one = kernels("cpu", n_threads=1, memory=1 << 10)[1]
    a, b = (run.covariance.mahalanobis(cells, offsets, profiles, left, right, resources=r) for r in (one, many))
    assert np.array_equal(a, b)
