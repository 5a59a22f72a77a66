"""Every backend's energy sums against a slow float64 definition."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from tests.support import BACKENDS, in_layout, kernels

from ptg.execute import to_host


@dataclass(frozen=True)
class Case:
    cells: np.ndarray
    offsets: np.ndarray


def make_case(offsets: list[int], n_columns: int, *, density: float = 1.0, offset: float = 0.0, seed: int = 0) -> Case:
    rng = np.random.default_rng(seed)
    cells = rng.standard_normal((offsets[-1], n_columns)) * (rng.random((offsets[-1], n_columns)) < density)
    return Case(cells + offset, np.array(offsets))


def with_duplicates() -> Case:
    """Groups of identical cells far apart: within sums are exactly 0, products would not give that."""
    rng = np.random.default_rng(3)
    return Case(np.repeat(rng.standard_normal((3, 7)) * 100.0, [5, 1, 600], axis=0), np.array([0, 5, 6, 606]))


CASES = {
    "ragged": make_case([0, 0, 1, 3, 3, 700, 705, 1300, 1300], 20),  # groups across blocks of 512, empty ones
    "one group in many blocks": make_case([0, 1500], 3),
    "one cell each": make_case(list(range(40)), 5),
    "two cells, one column": make_case([0, 1, 2], 1),
    "sparse, several panels": make_case([0, 30, 31, 90], 1200, density=0.05),
    "large group first": make_case([0, 2100, 2103, 2200], 3),
    "offset 1e4": make_case([0, 40, 100], 6, offset=1e4),
    "duplicates": with_duplicates(),
    "all the same": Case(np.full((30, 4), 0.1), np.array([0, 10, 30])),
    "all zero": Case(np.zeros((12, 4)), np.array([0, 5, 12])),
    "tiny values": Case(make_case([0, 20, 60], 5).cells * 1e-30, np.array([0, 20, 60])),
    "huge values": Case(make_case([0, 20, 60], 5).cells * 1e30, np.array([0, 20, 60])),
}


def pair_sums(backend: str, *arguments: Any, weights: np.ndarray | None = None, **bounds: int) -> np.ndarray:
    """Call a backend's kernel within some bounds."""
    found, resources = kernels(backend, **bounds)
    return to_host(found.energy.pair_sums(*arguments, weights=weights, resources=resources))


def all_pairs(n_groups: int) -> tuple[np.ndarray, np.ndarray]:
    left, right = np.mgrid[:n_groups, :n_groups]
    return left.ravel(), right.ravel()


@cache
def distances(name: str, dtype: type) -> np.ndarray:
    """All cell-to-cell distances of a case."""
    return distances_of(CASES[name].cells.astype(dtype))


def distances_of(cells: np.ndarray) -> np.ndarray:
    """All cell-to-cell distances from differences, in extended precision."""
    x = cells.astype(np.longdouble)
    return np.stack([np.sqrt(((x - row) ** 2).sum(1)) for row in x])


def slow_sums(
    name: str, dtype: type, left: np.ndarray, right: np.ndarray, weights: np.ndarray | None = None
) -> np.ndarray:
    return sums_of(distances(name, dtype), CASES[name].offsets, left, right, weights)


def sums_of(
    d: np.ndarray, o: np.ndarray, left: np.ndarray, right: np.ndarray, weights: np.ndarray | None = None
) -> np.ndarray:
    w = (np.ones((1, len(d))) if weights is None else weights).astype(np.longdouble)
    sums = [
        [
            x[o[a] : o[a + 1]] @ d[o[a] : o[a + 1], o[b] : o[b + 1]] @ x[o[b] : o[b + 1]]
            for a, b in zip(left, right, strict=True)
        ]
        for x in w
    ]
    return np.array(sums, dtype=float)


def tolerance(dtype: type) -> dict[str, float]:
    return {"rtol": 1e-12 if dtype == np.float64 else 1e-6}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("layout", ["dense", "csr", "csr int64"])
@pytest.mark.parametrize("name", CASES)
def test_pair_sums(backend: str, dtype: type, layout: str, name: str) -> None:
    case = CASES[name]
    left, right = all_pairs(len(case.offsets) - 1)
    cells = in_layout(case.cells, layout, dtype)
    found = pair_sums(backend, cells, case.offsets, left, right, n_threads=2)
    expected = slow_sums(name, dtype, left, right)[0]
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, expected, **tolerance(dtype))
    assert np.array_equal(found == 0, expected == 0)  # equal cells are at distance exactly 0


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("layout", ["dense", "csr"])
@pytest.mark.parametrize("name", ["ragged", "one cell each", "sparse, several panels", "duplicates"])
@pytest.mark.parametrize("n_draws", [1, 35])
def test_weighted_pair_sums(backend: str, dtype: type, layout: str, name: str, n_draws: int) -> None:
    case = CASES[name]
    left, right = all_pairs(len(case.offsets) - 1)
    weights = np.random.default_rng(4).integers(0, 3, (n_draws, case.offsets[-1])).astype(np.uint16)
    cells = in_layout(case.cells, layout, dtype)
    found = pair_sums(backend, cells, case.offsets, left, right, weights=weights, n_threads=2)
    expected = slow_sums(name, dtype, left, right, weights)
    assert found.shape == (n_draws, len(left))
    np.testing.assert_allclose(found, expected, **tolerance(dtype))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("largest", [1, 2048, 60_000])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int64, np.float64])
def test_weights_of_any_size_and_type(backend: str, largest: int, dtype: type) -> None:
    case = CASES["ragged"]
    left, right = all_pairs(len(case.offsets) - 1)
    weights = (
        np.random.default_rng(7)
        .integers(
            0,
            min(largest, np.iinfo(np.uint8).max if dtype == np.uint8 else largest),
            (3, case.offsets[-1]),
            endpoint=True,
        )
        .astype(dtype)
    )
    cells = in_layout(case.cells, "dense", np.float32)
    found = pair_sums(backend, cells, case.offsets, left, right, weights=weights)
    expected = slow_sums("ragged", np.float32, left, right, weights)
    np.testing.assert_allclose(found, expected, **tolerance(np.float32))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("weighted", [False, True])
def test_a_group_much_larger_than_the_others(backend: str, weighted: bool) -> None:
    case = CASES["large group first"]
    left, right = all_pairs(len(case.offsets) - 1)
    weights = np.random.default_rng(8).integers(0, 3, (2, case.offsets[-1])).astype(np.uint16) if weighted else None
    cells = in_layout(case.cells, "dense", np.float32)
    found = pair_sums(backend, cells, case.offsets, left, right, weights=weights)
    expected = slow_sums("large group first", np.float32, left, right, weights)
    np.testing.assert_allclose(found, expected if weighted else expected[0], **tolerance(np.float32))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("layout", ["dense", "csr"])
@pytest.mark.parametrize("n_columns", [9, 300, 700])
def test_same_bits_for_any_threads_and_memory(backend: str, layout: str, n_columns: int) -> None:
    case = make_case([0, 300, 900, 1400], n_columns, density=0.3)
    cells = in_layout(case.cells, layout, np.float32)
    left, right = all_pairs(3)
    weights = np.random.default_rng(5).integers(0, 3, (40, 1400)).astype(np.uint16)
    few, many = {"n_threads": 1, "memory": 1 << 20}, {"n_threads": 4, "memory": 1 << 30}
    for w in (None, weights):
        a, b = (pair_sums(backend, cells, case.offsets, left, right, weights=w, **bounds) for bounds in (few, many))
        assert np.array_equal(a, b)
    together = pair_sums(backend, cells, case.offsets, left, right, weights=weights, **many)
    for draws in (slice(0, 1), slice(0, 5), slice(0, 32), slice(32, 40)):
        part = pair_sums(backend, cells, case.offsets, left, right, weights=weights[draws], **few)
        assert np.array_equal(part, together[draws])


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_pair_does_not_depend_on_the_others(backend: str) -> None:
    case = CASES["ragged"]
    left, right = all_pairs(len(case.offsets) - 1)
    cells = in_layout(case.cells, "dense", np.float32)
    together = pair_sums(backend, cells, case.offsets, left, right)
    alone = [pair_sums(backend, cells, case.offsets, left[i : i + 1], right[i : i + 1])[0] for i in range(len(left))]
    assert np.array_equal(together, alone)
    assert np.array_equal(together.reshape(8, 8), together.reshape(8, 8).T)


def tight_clusters(n_columns: int, spread: float, *, mixed: bool) -> Case:
    """Two groups in each of three clusters far apart, of decreasing spread by column; or mixtures of the three."""
    rng = np.random.default_rng(9)
    sizes = np.array([60, 33, 17, 10, 1, 2])
    scale = 10.0 / (1.0 + np.arange(n_columns)) ** 0.7
    cells = np.repeat(np.repeat(rng.standard_normal((3, n_columns)) * 5.0, 2, axis=0), sizes, axis=0)
    cells = (cells + spread * rng.standard_normal(cells.shape)) * scale
    return Case(rng.permutation(cells) if mixed else cells, np.concatenate([[0], np.cumsum(sizes)]))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("spread", [2.0, 0.3, 0.1, 1e-3])
@pytest.mark.parametrize("n_columns", [2, 50, 128, 300])
def test_every_sum_is_right_where_cells_are_much_closer_than_others(
    backend: str, n_columns: int, spread: float, mixed: bool
) -> None:
    """Rounding relative to the spread of all cells would show in the sums of a cluster, however many cells it has."""
    case = tight_clusters(n_columns, spread, mixed=mixed)
    left, right = all_pairs(len(case.offsets) - 1)
    cells = in_layout(case.cells, "dense", np.float32)
    weights = np.random.default_rng(10).integers(0, 3, (3, len(cells))).astype(np.uint16)
    weights[0] = 1
    expected = sums_of(distances_of(cells), case.offsets, left, right, weights)
    for found, wanted in (
        (pair_sums(backend, cells, case.offsets, left, right), expected[0]),
        (pair_sums(backend, cells, case.offsets, left, right, weights=weights), expected),
    ):
        np.testing.assert_allclose(found, wanted, rtol=1e-6)
        assert np.array_equal(found == 0, wanted == 0)


@pytest.mark.parametrize("backend", BACKENDS)
def test_no_cells_at_all(backend: str) -> None:
    pair = (np.array([0]), np.array([1]))
    assert pair_sums(backend, np.empty((0, 3)), np.zeros(3, int), *pair).tolist() == [0.0]


@pytest.mark.parametrize("backend", BACKENDS)
def test_more_columns_than_16_bits_count(backend: str) -> None:
    columns = np.array([3, (1 << 16) + 3, 3])
    cells = sp.csr_matrix((np.array([3.0, 4.0, 3.0]), (np.arange(3), columns)), shape=(3, (1 << 16) + 10))
    found = pair_sums(backend, cells, np.array([0, 1, 2, 3]), np.array([0, 0]), np.array([1, 2]))
    assert found.tolist() == [5.0, 0.0]


@pytest.mark.parametrize("backend", BACKENDS)
def test_temporaries_stay_small(backend: str) -> None:
    """A sparse matrix whose dense form would take 320 MB is never densified as a whole."""
    import tracemalloc

    cells = sp.random(2_000, 20_000, density=1e-4, format="csr", dtype=np.float64, random_state=0)
    offsets = np.array([0, 100, 2_000])
    pair = (np.array([0]), np.array([1]))
    tracemalloc.start()
    try:
        pair_sums(backend, cells, offsets, *pair)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 60 << 20


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_same_bits_ten_times(backend: str, dtype: type, weighted: bool) -> None:
    case = CASES["ragged"]
    left, right = all_pairs(len(case.offsets) - 1)
    weights = np.random.default_rng(6).integers(0, 3, (5, case.offsets[-1])) if weighted else None
    runs = [
        pair_sums(backend, in_layout(case.cells, "dense", dtype), case.offsets, left, right, weights=weights)
        for _ in range(10)
    ]
    assert all(np.array_equal(runs[0], run) for run in runs)


@pytest.mark.parametrize("other", BACKENDS[1:])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n_columns", [5, 8, 15, 50, 64, 65, 128, 129, 700])
def test_backends_agree(other: str, dtype: type, n_columns: int) -> None:
    case = make_case([0, 40, 41, 700, 1300], n_columns)
    left, right = all_pairs(4)
    cells = in_layout(case.cells, "dense", dtype)
    cpu, gpu = (pair_sums(name, cells, case.offsets, left, right) for name in ("cpu", other))
    np.testing.assert_allclose(gpu, cpu, rtol=1e-6 if dtype == np.float32 else 1e-12)
