"""Differences of densities against scikit-learn's kernel density estimate."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.neighbors import KernelDensity
from tests.support import kernels


def slow_difference(x: np.ndarray, y: np.ndarray) -> float:
    axes = []
    for axis in (0, 1):
        both = np.concatenate([x[:, axis], y[:, axis]])
        part = (both.max() - both.min()) / 98
        axes.append(both.min() - part / 2 + part * np.arange(100))
    grid = np.stack(np.meshgrid(*axes), -1).reshape(-1, 2)
    f, g = (
        np.exp(KernelDensity(kernel="exponential", bandwidth="silverman", rtol=1e-12).fit(points).score_samples(grid))
        for points in (x, y)
    )
    return float(((f - g) ** 2).mean())


SIZES = [1, 2, 40, 0, 300]


@pytest.mark.parametrize("shift", [0.0, 1e3])
def test_differences(shift: float) -> None:
    rng = np.random.default_rng(0)
    points = rng.standard_normal((sum(SIZES), 2)) * [3.0, 0.1] + shift
    offsets = np.append(0, np.cumsum(SIZES))
    left, right = np.triu_indices(len(SIZES), 1)
    run, many = kernels("cpu", n_threads=3)
    one = kernels("cpu", n_threads=1)[1]
    found = run.density.density_differences(points, offsets, left, right, resources=many)
    assert np.array_equal(
        found, run.density.density_differences(points, offsets, left, right, resources=one), equal_nan=True
    )
    for p, (a, b) in enumerate(zip(left, right, strict=True)):
        x, y = (points[offsets[g] : offsets[g + 1]] for g in (a, b))
        if min(len(x), len(y)):
            np.testing.assert_allclose(found[p], slow_difference(x, y), rtol=1e-8)
        else:
            assert np.isnan(found[p])


def test_equal_groups_are_at_zero_and_order_does_not_matter() -> None:
    points = np.tile(np.random.default_rng(0).standard_normal((25, 2)), (2, 1))
    points[25:] = points[25:][::-1]
    run, resources = kernels("cpu")
    pair = (np.array([0, 0]), np.array([0, 1]))
    found = run.density.density_differences(points, np.array([0, 25, 50]), *pair, resources=resources)
    assert found[0] == 0.0
    assert found[1] < 1e-30
