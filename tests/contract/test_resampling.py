"""Every backend's bootstraps and permutations against a slow definition, number by number."""

from __future__ import annotations

import importlib
from itertools import pairwise

import numpy as np
import pytest
from scipy import stats
from tests.support import BACKENDS, kernels

from ptg.execute import to_host
from ptg.kernels.cpu.resampling import philox

SIZES = [0, 1, 2, 3, 0, 40, 7]
KEYS = np.array([1, 2, 3, 2**63 + 12345, 5, 2**64 - 1, 0xA40938222299F31D], dtype=np.uint64)


def slow_philox(counter: tuple[int, int, int, int], key: int) -> tuple[int, int, int, int]:
    c0, c1, c2, c3 = counter
    k0, k1 = key % 2**32, key >> 32
    for _ in range(10):
        p0, p1 = 0xD2511F53 * c0, 0xCD9E8D57 * c2
        c0, c1, c2, c3 = (p1 >> 32) ^ c1 ^ k0, p1 % 2**32, (p0 >> 32) ^ c3 ^ k1, p0 % 2**32
        k0, k1 = (k0 + 0x9E3779B9) % 2**32, (k1 + 0xBB67AE85) % 2**32
    return c0, c1, c2, c3


def number(counter: tuple[int, int, int, int], key: int, odd: int) -> int:
    words = slow_philox(counter, key)
    return words[2 * odd] + (words[2 * odd + 1] << 32)


def slow_bootstrap(size: int, key: int, draw: int) -> np.ndarray:
    weights = np.zeros(size, dtype=np.uint16)
    for i in range(size):
        weights[number((draw // 2, 0, i, 0), key, draw % 2) * size >> 64] += 1
    return weights


def slow_permutation(size: int, n_chosen: int, key: int, draw: int) -> np.ndarray:
    smaller = min(n_chosen, size - n_chosen)
    marked: set[int] = set()
    for step in range(smaller):
        last = size - smaller + step
        cell = number((draw, 1, step // 2, 0), key, step % 2) * (last + 1) >> 64
        marked.add(last if cell in marked else cell)
    weights = np.zeros(size, dtype=np.uint16)
    weights[list(marked)] = 1
    return weights if 2 * n_chosen <= size else 1 - weights


#: Counter, key and result of the generator's authors (Random123, kat_vectors).
KNOWN = [
    ((0, 0, 0, 0), 0, (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((2**32 - 1,) * 4, 2**64 - 1, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        0x299F31D0A4093822,
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


@pytest.mark.parametrize(("counter", "key", "words"), KNOWN)
def test_the_generator_gives_its_authors_numbers(counter, key, words) -> None:
    assert slow_philox(counter, key) == words
    even, odd = philox(tuple(np.uint64(word) for word in counter), np.uint64(key))
    assert (int(even), int(odd)) == (words[0] + (words[1] << 32), words[2] + (words[3] << 32))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("first", "n_draws"), [(0, 6), (3, 4), (2**32 - 4, 3), (1, 1), (5, 0)])
def test_bootstraps_are_those_of_the_definition(backend: str, first: int, n_draws: int) -> None:
    run, resources = kernels(backend)
    found = to_host(run.resampling.bootstraps(np.array(SIZES), KEYS, first, n_draws, resources=resources))
    assert found.dtype == np.uint16
    assert found.shape == (n_draws, sum(SIZES))
    for draw, weights in enumerate(found, start=first):
        parts = [slow_bootstrap(size, int(key), draw) for size, key in zip(SIZES, KEYS, strict=True)]
        assert np.array_equal(weights, np.concatenate(parts))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("first", "n_draws"), [(0, 6), (3, 4), (2**32 - 4, 3), (5, 0)])
@pytest.mark.parametrize("n_chosen", [[0, 0, 1, 2, 0, 13, 7], [0, 1, 2, 0, 0, 31, 3], [0, 1, 1, 1, 0, 20, 0]])
def test_permutations_are_those_of_the_definition(backend: str, first: int, n_draws: int, n_chosen: list[int]) -> None:
    run, resources = kernels(backend)
    found = to_host(
        run.resampling.permutations(np.array(SIZES), np.array(n_chosen), KEYS, first, n_draws, resources=resources)
    )
    assert found.dtype == np.uint16
    assert found.shape == (n_draws, sum(SIZES))
    for draw, weights in enumerate(found, start=first):
        pools = zip(SIZES, n_chosen, KEYS, strict=True)
        parts = [slow_permutation(size, chosen, int(key), draw) for size, chosen, key in pools]
        assert [int(part.sum()) for part in parts] == n_chosen
        assert np.array_equal(weights, np.concatenate(parts))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("kind", ["bootstraps", "permutations"])
def test_draws_do_not_depend_on_what_else_is_drawn(backend: str, kind: str) -> None:
    run, resources = kernels(backend, n_threads=3)
    sizes, keys = np.array([1000, 3, 5001]), np.array([11, 12, 13], dtype=np.uint64)

    def draw(groups: slice, first: int, n_draws: int) -> np.ndarray:
        chosen = [] if kind == "bootstraps" else [sizes[groups] // 3]
        function = getattr(run.resampling, kind)
        return to_host(function(sizes[groups], *chosen, keys[groups], first, n_draws, resources=resources))

    together = draw(slice(None), 0, 150)
    assert np.array_equal(together, np.concatenate([draw(slice(None), 0, 1), draw(slice(None), 1, 149)]))
    assert np.array_equal(together[:, 1003:], draw(slice(2, 3), 0, 150))
    assert len(np.unique(together, axis=0)) == 150


@pytest.mark.parametrize("backend", BACKENDS)
def test_bootstraps_are_uniform(backend: str) -> None:
    """Each cell's weight is Binomial(300, 1/300): mean 1, variance 299/300; over 4,000 draws x 300 cells."""
    run, resources = kernels(backend)
    weights = to_host(run.resampling.bootstraps(np.array([300]), KEYS[3:4], 0, 4000, resources=resources))
    assert (weights.sum(1) == 300).all()
    assert stats.chisquare(weights.sum(0)).pvalue > 1e-3
    observed = np.bincount(weights.ravel(), minlength=6)
    expected = stats.binom.pmf(np.arange(5), 300, 1 / 300)
    expected = weights.size * np.append(expected, 1 - expected.sum())
    assert stats.chisquare(np.append(observed[:5], observed[5:].sum()), expected).pvalue > 1e-3


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("n_chosen", [2, 4])
def test_all_subsets_are_equally_likely(backend: str, n_chosen: int) -> None:
    run, resources = kernels(backend)
    weights = to_host(
        run.resampling.permutations(np.array([6]), np.array([n_chosen]), KEYS[3:4], 0, 15_000, resources=resources)
    )
    observed = np.bincount(weights @ (1 << np.arange(6)))
    assert np.count_nonzero(observed) == 15
    assert stats.chisquare(observed[observed > 0]).pvalue > 1e-3


@pytest.mark.parametrize("backend", BACKENDS)
def test_means_and_squares_are_those_of_all_draws(backend: str) -> None:
    run, resources = kernels(backend)
    arrays = importlib.import_module("numpy" if backend == "cpu" else "cupy")
    values = 1e4 + np.random.default_rng(0).standard_normal((41, 300))
    values[7, 5] = np.nan
    found = []
    for cuts in ([0, 41], [0, 1, 20, 20, 41]):
        means, squares = arrays.zeros(310), arrays.zeros(310)
        for first, stop in pairwise(cuts):
            some = arrays.asarray(values[first:stop])
            run.resampling.accumulate(some, first, means[10:], squares[10:], resources=resources)
        found.append((to_host(means), to_host(squares)))
    np.testing.assert_allclose(found[0][0][10:], values.mean(0), rtol=1e-14)
    np.testing.assert_allclose(found[0][1][10:], values.var(0) * 41, rtol=1e-10)
    assert (found[0][0][:10] == 0).all()
    for one, other in zip(*found, strict=True):
        assert np.array_equal(one, other, equal_nan=True)
    nothing = arrays.zeros(0)
    run.resampling.accumulate(arrays.zeros((3, 0)), 0, nothing, nothing, resources=resources)
