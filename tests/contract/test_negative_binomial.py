"""Negative binomial fits and likelihoods against SciPy's distribution and a search over the size."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import scipy.sparse as sp
from scipy import optimize, stats
from tests.support import kernels

OFFSETS = np.array([0, 40, 41, 300, 420])


def make_counts(seed: int = 0) -> np.ndarray:
    """Overdispersed columns; Poisson, constant, 0/1, huge, unexpressed in the first group, never expressed."""
    rng = np.random.default_rng(seed)
    n = OFFSETS[-1]
    counts = np.stack(
        [
            rng.negative_binomial(0.3, 0.1, n),
            rng.negative_binomial(5.0, 0.4, n),
            rng.poisson(3.0, n),
            np.full(n, 2),
            rng.random(n) < 0.3,
            rng.negative_binomial(2.0, 0.0005, n),
            rng.negative_binomial(1.0, 0.3, n) * (np.arange(n) >= 40),
            np.zeros(n, int),
            rng.negative_binomial(1.0, 0.01, n) * (np.arange(n) >= 300),
        ],
        axis=1,
    )
    return counts.astype(float)


def slow(x: np.ndarray, y: np.ndarray) -> tuple[float, int]:
    total, n_columns = 0.0, 0
    for a, b in zip(x.T, y.T, strict=True):
        mean, variance = a.mean(), a.var()
        if mean == 0:
            n_columns += b.mean() < 10
        elif variance > mean + 1e-12:

            def loss(log_size: float, counts: np.ndarray, mean: float = mean) -> float:
                size = np.exp(log_size)
                return -float(stats.nbinom.logpmf(counts, size, size / (size + mean)).mean())

            start = np.log(mean**2 / (variance - mean))
            found = optimize.minimize_scalar(
                loss, bounds=(start - 4, start + 8), args=(a,), method="bounded", options={"xatol": 1e-10}
            )
            total -= loss(found.x, b)
            n_columns += 1
    return total, n_columns


@pytest.mark.parametrize("layout", [np.asarray, sp.csr_matrix])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_likelihoods(layout: type, dtype: type) -> None:
    counts = make_counts()
    run, resources = kernels("cpu", n_threads=2)
    left, right = (indices.ravel() for indices in np.indices((4, 4)))
    found = run.negative_binomial.log_likelihoods(
        layout(counts.astype(dtype)), OFFSETS, left, right, resources=resources
    )
    groups = [counts[a:b] for a, b in pairwise(OFFSETS)]
    for p, (a, b) in enumerate(zip(left, right, strict=True)):
        total, n_columns = slow(groups[a], groups[b])
        assert found.n_columns[p] == n_columns
        np.testing.assert_allclose(found.sums[p], total, rtol=1e-7)


def test_weights_are_repetitions() -> None:
    counts = make_counts()
    weights = np.random.default_rng(1).integers(0, 3, len(counts)).astype(np.uint16)
    weights[40] = 1
    run, resources = kernels("cpu")
    left, right = (indices.ravel() for indices in np.indices((4, 4)))
    found = run.negative_binomial.log_likelihoods(counts, OFFSETS, left, right, weights=weights, resources=resources)
    repeated = np.repeat(counts, weights, axis=0)
    offsets = np.append(0, np.cumsum(weights, dtype=np.int64))[OFFSETS]
    expected = run.negative_binomial.log_likelihoods(repeated, offsets, left, right, resources=resources)
    np.testing.assert_allclose(found.sums, expected.sums, rtol=1e-11)
    assert np.array_equal(found.n_columns, expected.n_columns)


def test_nearly_poisson_counts_have_the_poisson_likelihood() -> None:
    """With hardly more variance than the mean the size is huge, and the likelihood goes over into Poisson's."""
    values, times = np.arange(30), np.round(1e6 * stats.poisson.pmf(np.arange(30), 4.0)).astype(int)
    times[20] += 1
    counts = np.repeat(values, times).astype(float)[:, None]
    run, resources = kernels("cpu")
    pair = (np.array([0]), np.array([0]))
    found = run.negative_binomial.log_likelihoods(counts, np.array([0, len(counts)]), *pair, resources=resources)
    assert found.n_columns[0] == 1
    expected = stats.poisson.logpmf(counts, counts.mean()).mean()
    np.testing.assert_allclose(found.sums[0], expected, rtol=1e-6)
    assert found.sums[0] >= expected


def test_variance_equal_to_the_mean_has_no_fit() -> None:
    """0 and 2 in equal numbers: mean 1, variance 1; and thirds, whose means are no binary fractions."""
    run, resources = kernels("cpu")
    pair = (np.array([0]), np.array([0]))
    for counts in ([0, 2], [0, 0, 1, 1, 1, 4, 0, 2, 0]):
        column = np.array(counts, dtype=float)[:, None]
        found = run.negative_binomial.log_likelihoods(column, np.array([0, len(column)]), *pair, resources=resources)
        n, total, squares = len(column), int(column.sum()), int((column**2).sum())
        assert found.n_columns[0] == int(n * squares - total**2 > n * total)


def test_same_bits_for_any_threads_memory_and_pairs() -> None:
    counts = np.concatenate([make_counts(seed) for seed in range(9)], axis=1)  # more than a block of columns
    left, right = (indices.ravel() for indices in np.indices((4, 4)))
    run, many = kernels("cpu", n_threads=3)
    one = kernels("cpu", n_threads=1, memory=1 << 10)[1]
    fits = run.negative_binomial.log_likelihoods
    a, b = (fits(counts, OFFSETS, left, right, resources=r) for r in (one, many))
    assert np.array_equal(a.sums, b.sums)
    c = fits(sp.csr_matrix(counts), OFFSETS, left[5:6], right[5:6], resources=one)
    assert c.sums[0] == a.sums[5]
