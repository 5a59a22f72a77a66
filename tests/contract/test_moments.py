"""Every backend's group sums and moments against a slow float64 definition."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pytest
import scipy.sparse as sp
from tests.support import BACKENDS, LAYOUTS, in_layout, kernels

# Empty groups at both ends and inside, one cell, two cells, more cells than a segment (1,024).
RAGGED = [0, 0, 1, 3, 3, 60, 2500, 2500]


@dataclass(frozen=True)
class Case:
    cells: np.ndarray
    offsets: np.ndarray


def make_case(offsets: list[int], n_columns: int, *, offset: float = 0.0, seed: int = 0) -> Case:
    rng = np.random.default_rng(seed)
    cells = rng.poisson(0.4, (offsets[-1], n_columns)) * rng.lognormal(0, 1, n_columns)
    return Case(cells + offset, np.array(offsets))


CASES = {
    "ragged": make_case(RAGGED, 13),
    "one column": make_case([0, 5, 9], 1),
    "one cell": make_case([0, 1], 3),
    "offset 1e4": make_case([0, 300, 2000], 4, offset=1e4),
    "constant": Case(np.full((50, 3), 0.1), np.array([0, 20, 50])),
}


def slow_moments(cells: np.ndarray, offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    means = np.full((len(offsets) - 1, cells.shape[1]), np.nan)
    variances = means.copy()
    for group, (start, stop) in enumerate(pairwise(offsets)):
        x = cells[start:stop].astype(np.longdouble)
        if len(x) > 0:
            means[group] = x.mean(0)
        if len(x) > 1:
            variances[group] = x.var(0, ddof=1)
    return means, variances


def as_dense(matrix: np.ndarray | sp.csr_matrix) -> np.ndarray:
    return matrix.toarray() if sp.issparse(matrix) else matrix


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", CASES)
def test_moments(backend: str, dtype: type, layout: str, name: str) -> None:
    case = CASES[name]
    cells = in_layout(case.cells, layout, dtype)
    run, resources = kernels(backend, n_threads=2)
    found = run.moments.group_moments(cells, case.offsets, resources=resources)
    means, variances = slow_moments(as_dense(cells), case.offsets)
    assert found.means.dtype == found.variances.dtype == np.float64
    np.testing.assert_allclose(found.means, means, rtol=1e-14)
    # Rounding of the mean enters squared: relative to it, 1e-30.
    np.testing.assert_allclose(found.variances, variances, rtol=1e-12, atol=1e-25)
    assert not (found.variances < 0).any()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("layout", ["dense", "csr"])
@pytest.mark.parametrize("name", CASES)
def test_sums(backend: str, dtype: type, layout: str, name: str) -> None:
    case = CASES[name]
    cells = in_layout(case.cells, layout, dtype)
    run, resources = kernels(backend)
    weights = np.random.default_rng(1).integers(0, 4, (3, case.offsets[-1])).astype(np.uint16)
    plain = run.moments.group_sums(cells, case.offsets, resources=resources)
    weighted = run.moments.group_sums(cells, case.offsets, weights=weights, resources=resources)
    x = as_dense(cells).astype(np.longdouble)
    for group, (start, stop) in enumerate(pairwise(case.offsets)):
        np.testing.assert_allclose(plain[group], x[start:stop].sum(0).astype(float), rtol=1e-13)
        expected = weights[:, start:stop].astype(np.longdouble) @ x[start:stop]
        np.testing.assert_allclose(weighted[:, group], expected.astype(float), rtol=1e-13)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", CASES)
def test_weighted_moments(backend: str, dtype: type, layout: str, name: str) -> None:
    """A draw has the moments of its cells written out, and the bits it has alone."""
    case = CASES[name]
    cells = in_layout(case.cells, layout, dtype)
    run, resources = kernels(backend, n_threads=2)
    weights = np.random.default_rng(1).integers(0, 3, (9, case.offsets[-1])).astype(np.uint16)
    weights[0] = 1
    found = run.moments.group_moments(cells, case.offsets, weights=weights, resources=resources)
    plain = run.moments.group_moments(cells, case.offsets, resources=resources)
    for weighted, unweighted in zip(found, plain, strict=True):
        assert weighted.dtype == np.float64
        assert np.array_equal(weighted[0], unweighted, equal_nan=True)
    for draw, weight in enumerate(weights):
        drawn = np.repeat(as_dense(cells), weight, axis=0)
        offsets = np.append(0, np.cumsum(weight, dtype=np.int64))[case.offsets]
        means, variances = slow_moments(drawn, offsets)
        np.testing.assert_allclose(found.means[draw], means, rtol=1e-13)
        np.testing.assert_allclose(found.variances[draw], variances, rtol=1e-12, atol=1e-25)
        alone = run.moments.group_moments(cells, case.offsets, weights=weight[None], resources=resources)
        assert np.array_equal(alone.variances[0], found.variances[draw], equal_nan=True)
    assert not (found.variances < 0).any()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("layout", ["dense", "csr"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_weights_may_be_booleans(backend: str, layout: str, order: str) -> None:
    case = CASES["ragged"]
    cells = in_layout(case.cells, layout, np.float64)
    weights = np.asarray(np.random.default_rng(1).random((3, case.offsets[-1])) < 0.5, order=order)
    run, resources = kernels(backend)
    found = run.moments.group_sums(cells, case.offsets, weights=weights, resources=resources)
    expected = run.moments.group_sums(cells, case.offsets, weights=weights.astype(float), resources=resources)
    assert weights.any()
    assert np.array_equal(found, expected)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("layout", ["dense", "csr"])
@pytest.mark.parametrize("offsets", [[0], [0, 0], [0, 0, 0]])
def test_no_cells_at_all(backend: str, layout: str, offsets: list[int]) -> None:
    cells = np.zeros((0, 2)) if layout == "dense" else sp.csr_matrix((0, 2))
    run, resources = kernels(backend)
    n_groups = len(offsets) - 1
    sums = run.moments.group_sums(cells, np.array(offsets), resources=resources)
    assert np.array_equal(sums, np.zeros((n_groups, 2)))
    weighted = run.moments.group_sums(cells, np.array(offsets), weights=np.zeros((3, 0)), resources=resources)
    assert np.array_equal(weighted, np.zeros((3, n_groups, 2)))
    for part in run.moments.group_moments(cells, np.array(offsets), resources=resources):
        assert np.array_equal(part, np.full((n_groups, 2), np.nan), equal_nan=True)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("layout", ["dense", "csr"])
def test_same_bits_for_any_threads_memory_and_number_of_draws(backend: str, layout: str) -> None:
    rng = np.random.default_rng(2)
    cells = in_layout(rng.standard_normal((30_000, 5)), layout, np.float32)
    offsets = np.array([0, 10, 12_000, 30_000])
    weights = rng.integers(0, 3, (5, 30_000)).astype(np.uint16)
    run, many = kernels(backend, n_threads=4)
    moments, one = run.moments, kernels(backend, n_threads=1, memory=1 << 10)[1]
    for a, b in zip(*(moments.group_moments(cells, offsets, resources=r) for r in (one, many)), strict=True):
        assert np.array_equal(a, b)
    together = moments.group_sums(cells, offsets, weights=weights, resources=many)
    for draw in range(5):
        alone = moments.group_sums(cells, offsets, weights=weights[draw : draw + 1], resources=one)
        assert np.array_equal(together[draw], alone[0])


@pytest.mark.parametrize("backend", BACKENDS)
def test_more_columns_than_16_bits_count(backend: str) -> None:
    n_columns = (1 << 16) + 10
    columns = np.array([0, 1, (1 << 16) + 1])
    cells = sp.csr_matrix((np.array([1.0, 2.0, 4.0]), (np.array([0, 1, 1]), columns)), shape=(2, n_columns))
    run, resources = kernels(backend)
    found = run.moments.group_moments(cells, np.array([0, 2]), resources=resources)
    assert np.array_equal(found.means[0, columns], [0.5, 1.0, 2.0])
    assert np.array_equal(found.variances[0, columns], [0.5, 2.0, 8.0])
    assert found.means.sum() == 3.5


@pytest.mark.parametrize("backend", BACKENDS)
def test_inputs_are_not_modified(backend: str) -> None:
    case = CASES["ragged"]
    run, resources = kernels(backend)
    for cells in (in_layout(case.cells, layout, np.float64) for layout in LAYOUTS):
        before = cells.copy()
        run.moments.group_moments(cells, case.offsets, resources=resources)
        assert np.array_equal(as_dense(cells), as_dense(before))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("layout", ["dense", "csr"])
def test_ten_runs_give_the_same_bits(backend: str, layout: str) -> None:
    case = CASES["ragged"]
    cells = in_layout(case.cells, layout, np.float32)
    run, resources = kernels(backend)
    first, *others = (run.moments.group_moments(cells, case.offsets, resources=resources) for _ in range(10))
    for other in others:
        assert np.array_equal(first.means, other.means, equal_nan=True)
        assert np.array_equal(first.variances, other.variances, equal_nan=True)


@pytest.mark.parametrize("backend", BACKENDS[1:])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", CASES)
def test_backends_give_the_bits_of_the_cpu(backend: str, dtype: type, layout: str, name: str) -> None:
    case = CASES[name]
    cells = in_layout(case.cells, layout, dtype)
    weights = np.random.default_rng(1).integers(0, 4, (9, case.offsets[-1])) * 0.3
    found = []
    for number in (backend, "cpu"):
        run, resources = kernels(number)
        sums = [
            run.moments.group_sums(cells, case.offsets, weights=some, resources=resources)
            for some in (None, weights, weights[:1].astype(np.float32), weights.astype(np.int16))
        ]
        moments = [
            part
            for some in (None, weights, weights.astype(np.int16))
            for part in run.moments.group_moments(cells, case.offsets, weights=some, resources=resources)
        ]
        found.append([*moments, *sums])
    for other, cpu in zip(*found, strict=True):
        assert np.array_equal(other, cpu, equal_nan=True)


@pytest.mark.parametrize("backend", BACKENDS[1:])
def test_cells_on_the_device(backend: str) -> None:
    cupy, sparse = pytest.importorskip("cupy"), pytest.importorskip("cupyx.scipy.sparse")
    case = CASES["ragged"]
    run, resources = kernels(backend)
    dense, csr = (in_layout(case.cells, layout, np.float32) for layout in ("dense", "csr"))
    for here, there in ((dense, cupy.asarray(dense)), (csr, sparse.csr_matrix(csr))):
        expected = run.moments.group_moments(here, case.offsets, resources=resources)
        found = run.moments.group_moments(there, case.offsets, resources=resources)
        assert isinstance(found.means, np.ndarray)
        assert np.array_equal(found.means, expected.means, equal_nan=True)
        assert np.array_equal(found.variances, expected.variances, equal_nan=True)
