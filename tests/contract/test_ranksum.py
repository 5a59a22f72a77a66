"""Every backend's Mann-Whitney U against SciPy's and against the definition."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import scipy.sparse as sp
from scipy.stats import mannwhitneyu
from tests.support import BACKENDS, LAYOUTS, in_layout, kernels


@dataclass(frozen=True)
class Case:
    """Cells x genes; groups of cells in any order, overlapping or not; control cells."""

    matrix: np.ndarray
    groups: list[list[int]]
    control: list[int]


def mixed(n_cells: int, n_genes: int, seed: int = 0) -> np.ndarray:
    """Counts, continuous values, negative values and constants, side by side."""
    rng = np.random.default_rng(seed)
    x = np.log1p(rng.poisson(0.7, (n_cells, n_genes))) * rng.choice([1.0, -1.0, 0.3], n_genes)
    x[:, ::4] += rng.normal(size=(n_cells, len(range(0, n_genes, 4))))
    x[:, 1], x[:, 2 % n_genes] = 0.0, -1.5
    return x


# The first two need float64.
CASES = {
    "huge": Case(
        np.array([[1e308, 1.0], [-1e308, 2.0], [9e307, 0.0], [0.0, 3.0], [1e308, 1.0]]), [[0, 1, 3]], [2, 1, 4]
    ),
    "tiny": Case(np.array([[5e-324, 1e-310], [0.0, 0.0], [1e-323, -1e-310], [5e-324, 2e-310]]), [[0, 1]], [2, 3]),
    "ragged": Case(mixed(90, 23), [[], [7], list(range(10, 31)), list(range(60, 33, -1)), []], list(range(61, 90))),
    "control inside a group": Case(mixed(40, 9), [list(range(30))], list(range(20, 40))),
    "one cell each": Case(mixed(2, 5), [[0]], [1]),
    "no control": Case(mixed(6, 4), [[0, 1]], []),
    "no group": Case(mixed(6, 4), [], [0, 1]),
    "all tied": Case(np.full((12, 3), 0.7), [[0, 1, 2], [3]], list(range(4, 12))),
    "all zero": Case(np.zeros((12, 3)), [[0, 1, 2], [3]], list(range(4, 12))),
    "all negative": Case(-np.abs(mixed(30, 6)) - 0.1, [list(range(9))], list(range(9, 30))),
    "skewed": Case(mixed(40, 7) ** 15, [[*range(20)]], [*range(20, 40)]),
    "many controls": Case(mixed(4_700, 4), [[*range(100)]], [*range(100, 4_700)]),
    "many ties": Case(np.random.default_rng(3).integers(-2, 3, (400, 5)) * 1.0, [[*range(150)]], [*range(150, 400)]),
}


def run(matrix: np.ndarray | sp.csr_matrix, case: Case, backend: str = "cpu", **resources: int) -> np.ndarray:
    order = np.array([cell for group in case.groups for cell in group], dtype=np.int64)
    offsets = np.cumsum([0, *(len(group) for group in case.groups)])
    names, bounds = kernels(backend, **resources)
    return names.ranksum.u_statistics(matrix, order, offsets, np.array(case.control, dtype=np.int64), resources=bounds)


def definition(dense: np.ndarray, case: Case) -> np.ndarray:
    """Count pairs one by one."""
    u = np.zeros((len(case.groups), dense.shape[1]))
    for t, group in enumerate(case.groups):
        for gene in range(dense.shape[1]):
            x, y = dense[group, gene][:, None], dense[case.control, gene][None]
            u[t, gene] = (y < x).sum() + 0.5 * (y == x).sum()
    return u


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("name", "dtype"), [(name, dtype) for dtype in (np.float32, np.float64) for name in CASES][2:])
def test_u_counts_pairs(backend: str, dtype: type, layout: str, name: str) -> None:
    case = CASES[name]
    found = run(in_layout(case.matrix, layout, dtype), case, backend)
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found, definition(case.matrix.astype(dtype), case))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", ["ragged", "all tied", "many ties", "one cell each"])
def test_u_is_scipys(backend: str, name: str) -> None:
    case = CASES[name]
    found = run(sp.csr_matrix(case.matrix), case, backend)
    for u, group in zip(found, case.groups, strict=True):
        if group:
            expected = mannwhitneyu(case.matrix[group], case.matrix[case.control], method="asymptotic").statistic
            np.testing.assert_array_equal(u, expected)


def test_ties_give_the_mean_of_u() -> None:
    case = CASES["all tied"]
    np.testing.assert_array_equal(run(case.matrix, case), [[12.0] * 3, [4.0] * 3])


@pytest.mark.parametrize("backend", BACKENDS)
def test_threads_and_memory_do_not_matter(backend: str) -> None:
    case = CASES["ragged"]
    for matrix in (in_layout(case.matrix, layout, np.float64) for layout in LAYOUTS):
        expected = run(matrix, case, backend)
        for resources in ({"n_threads": 3}, {"memory": 1}, {"memory": 2000, "n_threads": 2}):
            np.testing.assert_array_equal(run(matrix, case, backend, **resources), expected)


@pytest.mark.parametrize("backend", BACKENDS)
def test_groups_are_independent(backend: str) -> None:
    case = CASES["ragged"]
    together = run(case.matrix, case, backend)
    for u, group in zip(together, case.groups, strict=True):
        np.testing.assert_array_equal(run(case.matrix, Case(case.matrix, [group], case.control), backend)[0], u)


@pytest.mark.parametrize("backend", BACKENDS)
def test_inputs_stay_as_they_are(backend: str) -> None:
    case = CASES["ragged"]
    matrix = sp.csr_matrix(case.matrix)
    before = matrix.copy()
    run(matrix, case, backend)
    for part in ("data", "indices", "indptr"):
        np.testing.assert_array_equal(getattr(matrix, part), getattr(before, part))


@pytest.mark.parametrize("backend", BACKENDS)
def test_few_rows_of_many(backend: str) -> None:
    case = Case(mixed(300, 12), [[5, 290, 2], [100, 3]], [7, 8, 200, 201, 202])
    for matrix in (in_layout(case.matrix, layout, np.float32) for layout in LAYOUTS):
        np.testing.assert_array_equal(run(matrix, case, backend), definition(case.matrix.astype(np.float32), case))


@pytest.mark.parametrize("backend", BACKENDS)
def test_ten_runs_give_the_same_bits(backend: str) -> None:
    case = Case(
        mixed(3000, 40), [list(range(start, start + 500)) for start in range(0, 2000, 250)], [*range(2000, 3000)]
    )
    matrix = sp.csr_matrix(case.matrix.astype(np.float32))
    first, *others = (run(matrix, case, backend) for _ in range(10))
    for other in others:
        np.testing.assert_array_equal(other, first)
    np.testing.assert_array_equal(first, run(matrix, case, "cpu"))


@pytest.mark.parametrize("backend", BACKENDS[1:])
def test_cells_on_the_device(backend: str) -> None:
    cupy, sparse = pytest.importorskip("cupy"), pytest.importorskip("cupyx.scipy.sparse")
    case = CASES["ragged"]
    dense = case.matrix.astype(np.float32)
    for there in (cupy.asarray(dense), sparse.csr_matrix(sp.csr_matrix(dense))):
        np.testing.assert_array_equal(run(there, case, backend), definition(dense, case))
