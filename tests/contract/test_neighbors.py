"""Every backend's nearest neighbours against a brute-force search, and its signature against the formula."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import scipy.sparse as sp
from tests.support import BACKENDS, LAYOUTS, in_layout, kernels

from ptg.kernels.contract import Resources
from ptg.kernels.cpu import neighbors as cpu


def definition(reference: np.ndarray, query: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """All squared distances in float64, dimension after dimension; the first of equals first."""
    squared = np.zeros((len(query), len(reference)))
    for x, y in zip(query.T.astype(np.float64), reference.T.astype(np.float64), strict=True):
        squared += (x[:, None] - y[None]) ** 2
    order = np.argsort(squared, axis=1, kind="stable")[:, :k]
    return order, np.take_along_axis(squared, order, axis=1)


def cloud(n: int, n_dims: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, n_dims))


def with_far_points(points: np.ndarray) -> np.ndarray:
    points = points.copy()
    points[::17] *= 1e6
    return points


# Reference, query, k. Sizes around the 64 references of a chunk and the 4,096 of a tile. The first four need float64.
CASES = {
    "large numbers": (1e120 * cloud(100, 3), 1e120 * cloud(10, 3, 1), 5),
    "small numbers": (1e-150 * cloud(100, 3), 1e-150 * cloud(10, 3, 1), 5),
    "vanishing numbers": (1e-200 * cloud(100, 3), 1e-200 * cloud(10, 3, 1), 5),
    "tiny cluster and a far point": (
        np.r_[1e-20 * cloud(300, 3), 1e-19 * cloud(300, 3, 2), [[1.0, 0, 0]]],
        np.r_[1e-20 * cloud(60, 3, 1), 1e-19 * cloud(60, 3, 3)],
        5,
    ),
    "one point": (cloud(1, 1), cloud(3, 1, 1), 1),
    "a chunk less one": (cloud(63, 3), cloud(20, 3, 1), 7),
    "a chunk, all wanted": (cloud(64, 4), cloud(20, 4, 1), 64),
    "a chunk and one": (cloud(65, 5), cloud(20, 5, 1), 65),
    "more than a tile": (cloud(4200, 15), cloud(70, 15, 1), 20),
    "many neighbours": (cloud(500, 6), cloud(30, 6, 1), 150),
    "grid of ties": (np.round(cloud(700, 2)), np.round(cloud(80, 2, 1)), 20),
    "duplicates": (np.repeat(cloud(30, 4), 10, axis=0), cloud(30, 4), 15),
    "all the same": (np.full((130, 3), 0.3), np.full((5, 3), 0.3), 4),
    "far from zero": (cloud(300, 8) + 1e6, cloud(40, 8, 1) + 1e6, 10),
    "nearly equal distances": (1e-9 * cloud(300, 5) + 1.0, 1e-9 * cloud(40, 5, 1), 10),
    "far points": (with_far_points(cloud(300, 8)), with_far_points(cloud(60, 8, 1)), 10),
    "query far away": (cloud(200, 4), 1e9 + cloud(10, 4, 1), 5),
    "no query": (cloud(10, 4), cloud(0, 4), 5),
}


def nearest(
    backend: str, reference: np.ndarray, query: np.ndarray, k: int, **options: int
) -> tuple[np.ndarray, np.ndarray]:
    implementation, resources = kernels(backend, **options)
    return implementation.neighbors.nearest(reference, query, k, resources=resources)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("name", "dtype"), [(name, dtype) for dtype in (np.float32, np.float64) for name in CASES][4:])
def test_nearest_equals_brute_force(backend: str, dtype: type, name: str) -> None:
    reference, query, k = CASES[name]
    reference, query = reference.astype(dtype), query.astype(dtype)
    indices, squared = nearest(backend, reference, query, k)
    expected_indices, expected_squared = definition(reference, query, k)
    assert (indices.dtype, squared.dtype) == (np.int64, np.float64)
    np.testing.assert_array_equal(indices, expected_indices)
    np.testing.assert_array_equal(squared, expected_squared)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_point_is_its_own_nearest(backend: str) -> None:
    points = cloud(100, 5) + 1e4
    indices, squared = nearest(backend, points, points, 3)
    np.testing.assert_array_equal(indices[:, 0], np.arange(100))
    np.testing.assert_array_equal(squared[:, 0], 0.0)


@pytest.mark.parametrize("backend", BACKENDS)
def test_overflow_is_an_error(backend: str) -> None:
    with pytest.raises(FloatingPointError, match="scale"):
        nearest(backend, 1e200 * cloud(20, 2), cloud(3, 2), 2)


def test_tiles_and_threads_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    reference, query, k = CASES["more than a tile"]
    expected = cpu.nearest(reference, query, k, resources=Resources())
    for name, value in [("_TILE", 128), ("_QUERIES", 7), ("_TASK_ROWS", 14)]:
        monkeypatch.setattr(cpu, name, value)
        found = cpu.nearest(reference, query, k, resources=Resources(n_threads=3))
        for array, expected_array in zip(found, expected, strict=True):
            np.testing.assert_array_equal(array, expected_array)


# --- signature ---------------------------------------------------------------------------------------------------


def expression(dtype: type) -> np.ndarray:
    """80 cells x 30 genes."""
    dense = np.log1p(np.random.default_rng(5).poisson(0.6, (80, 30))).astype(dtype)
    dense[:, 3] = 0
    return dense


ROWS = np.array([3, 79, 0, 3, 41])
OFFSETS = np.array([0, 1, 4, 24, 25, 28])
NEIGHBORS = np.r_[3, 10, 11, 12, np.arange(20, 40), 79, 5, 5, 6]


def slow_signature(matrix: np.ndarray) -> np.ndarray:
    """log1p(mean expm1) - x in extended precision, but for expm1, which has the precision of the matrix."""
    values = np.expm1(matrix).astype(np.longdouble)
    means = [values[NEIGHBORS[a:b]].mean(axis=0) for a, b in pairwise(OFFSETS)]
    return np.log1p(np.stack(means)) - matrix[ROWS].astype(np.longdouble)


def signature(
    matrix: np.ndarray | sp.csr_matrix,
    *,
    backend: str = "cpu",
    out_dtype: type = np.float64,
    batch_size: int | None = None,
    **resources: int,
) -> np.ndarray:
    out = np.full((len(ROWS), matrix.shape[1]), np.nan, dtype=out_dtype)
    implementation, available = kernels(backend, **resources)
    implementation.neighbors.neighbor_signature(
        matrix, ROWS, OFFSETS, NEIGHBORS, out=out, resources=available, batch_size=batch_size
    )
    return out


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_signature_is_the_formula(backend: str, dtype: type, layout: str) -> None:
    matrix = in_layout(expression(dtype), layout)
    expected = slow_signature(expression(dtype))
    # NumPy's float32 expm1 is not the only one within a unit in the last place.
    atol = 2e-15 if backend == "cpu" or dtype is np.float64 else 3e-7
    np.testing.assert_allclose(signature(matrix, backend=backend), expected.astype(float), rtol=0, atol=atol)
    narrow = signature(matrix, backend=backend, out_dtype=np.float32)
    np.testing.assert_array_equal(narrow, signature(matrix, backend=backend).astype(np.float32))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_layout_threads_and_batches_do_not_matter(backend: str, dtype: type) -> None:
    expected = signature(expression(dtype), backend=backend)
    for layout in LAYOUTS:
        matrix = in_layout(expression(dtype), layout)
        for options in ({}, {"n_threads": 3}, {"memory": 1}, {"batch_size": 2}, {"batch_size": 1000}):
            np.testing.assert_array_equal(signature(matrix, backend=backend, **options), expected)


@pytest.mark.parametrize("backend", BACKENDS)
def test_many_genes(backend: str) -> None:
    """More genes than a block of threads has sums."""
    rng = np.random.default_rng(6)
    matrix = np.log1p(rng.poisson(0.3, (80, 9001)))
    expected = slow_signature(matrix)
    for layout in (matrix, sp.csr_matrix(matrix)):
        np.testing.assert_allclose(signature(layout, backend=backend), expected.astype(float), rtol=0, atol=2e-15)


@pytest.mark.parametrize("backend", BACKENDS)
def test_ten_calls_have_the_same_bits(backend: str) -> None:
    reference, query, k = CASES["more than a tile"]
    matrix = in_layout(expression(np.float32), "csr")
    first = (*nearest(backend, reference, query, k), signature(matrix, backend=backend))
    for _ in range(9):
        again = (*nearest(backend, reference, query, k), signature(matrix, backend=backend))
        for values, expected in zip(again, first, strict=True):
            np.testing.assert_array_equal(values, expected)


@pytest.mark.parametrize("backend", BACKENDS[1:])
@pytest.mark.parametrize("layout", ["dense", "csr"])
def test_device_arrays_are_taken(backend: str, layout: str) -> None:
    import cupy as cp
    import cupyx.scipy.sparse as csp

    implementation, resources = kernels(backend)
    reference, query, k = CASES["more than a tile"]
    found = implementation.neighbors.nearest(cp.asarray(reference), cp.asarray(query), k, resources=resources)
    for values, expected in zip(found, nearest("cpu", reference, query, k), strict=True):
        np.testing.assert_array_equal(values, expected)
    matrix = in_layout(expression(np.float64), layout)
    there = cp.asarray(matrix) if layout == "dense" else csp.csr_matrix(matrix)
    out = cp.empty((len(ROWS), matrix.shape[1]))
    implementation.neighbors.neighbor_signature(
        there, cp.asarray(ROWS), cp.asarray(OFFSETS), cp.asarray(NEIGHBORS), out=out, resources=resources
    )
    np.testing.assert_array_equal(out.get(), signature(matrix, backend=backend))
