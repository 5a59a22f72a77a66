"""Every backend's sums over subsets and of single cells against a slow float64 definition."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from tests.contract.test_energy import CASES, distances, make_case, tolerance
from tests.support import BACKENDS, in_layout, kernels

from ptg.execute import to_host


def draw(sizes: list[int], n_draws: int, seed: int = 0) -> np.ndarray:
    """Ascending subsets of the first number of cells, as many as the second says."""
    rng = np.random.default_rng(seed)
    chosen = [np.sort(rng.choice(sizes[0], sizes[1], replace=False)) for _ in range(n_draws)]
    return np.array(chosen, dtype=np.int32).reshape(n_draws, sizes[1])


def on_device(backend: str, array: np.ndarray) -> Any:
    if backend == "cpu":
        return array
    import cupy

    return cupy.asarray(array)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("n_cells", "n_chosen"), [(1, 1), (5, 0), (31, 31), (33, 7), (700, 350), (2000, 3)])
def test_members(backend: str, n_cells: int, n_chosen: int) -> None:
    found, resources = kernels(backend, n_threads=2)
    expected = draw([n_cells, n_chosen], 19)
    weights = np.zeros((19, n_cells), np.uint16)
    np.put_along_axis(weights, expected.astype(np.int64), 1, axis=1)
    listed = to_host(found.permutation.members(on_device(backend, weights), n_chosen, resources=resources))
    assert listed.dtype == np.int32
    assert np.array_equal(listed, expected)


#: Contrast and groups among those of the cases of `test_energy`, and how many cells are chosen of each pool.
POOLS = {
    "ragged": [(6, [4, 5, 2, 1, 3], [700, 5, 3, 1, 0]), (2, [4, 6], [500, 2]), (3, [4], [520])],
    "one cell each": [(0, [5, 38], [1, 2])],
    "two cells, one column": [(0, [1], [2])],
    "sparse, several panels": [(2, [0, 1], [20, 60])],
    "offset 1e4": [(0, [1], [50])],
    "duplicates": [(2, [0, 1], [90, 600])],
    "all the same": [(0, [1], [15])],
    "tiny values": [(1, [0], [20])],
    "huge values": [(1, [0], [21])],
}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("layout", ["dense", "csr"])
@pytest.mark.parametrize("name", POOLS)
def test_subset_sums(backend: str, dtype: type, layout: str, name: str) -> None:
    case, kernel = CASES[name], kernels(backend, n_threads=2)
    cells, o, d = in_layout(case.cells, layout, dtype), case.offsets, distances(name, dtype)
    for contrast, groups, n_chosen in POOLS[name]:
        pools = [np.r_[o[contrast] : o[contrast + 1], o[group] : o[group + 1]] for group in groups]
        subsets = [draw([len(pool), k], 9, k) for pool, k in zip(pools, n_chosen, strict=True)]
        found = kernel[0].permutation.subset_sums(
            cells, o, groups, contrast, [on_device(backend, drawn) for drawn in subsets], resources=kernel[1]
        )
        expected = np.array(
            [
                [d[np.ix_(pool[chosen], pool[chosen])].sum() for chosen in drawn]
                for pool, drawn in zip(pools, subsets, strict=True)
            ],
            dtype=float,
        )
        np.testing.assert_allclose(to_host(found), expected, **tolerance(dtype))
        assert np.array_equal(to_host(found) == 0, expected == 0)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("n_columns", [1, 64, 65, 130])
@pytest.mark.parametrize("n_chosen", [2, 63, 64, 65, 257])
def test_subset_sums_of_any_width(backend: str, n_columns: int, n_chosen: int) -> None:
    """Subsets that fit in the shared memory of a GPU and others, columns that fill its steps and do not."""
    case, (found, resources) = make_case([0, 200, 330], n_columns), kernels(backend)
    cells = case.cells.astype(np.float32)
    chosen = draw([330, n_chosen], 3)
    sums = found.permutation.subset_sums(cells, case.offsets, [1], 0, [on_device(backend, chosen)], resources=resources)
    exact = cells.astype(float)
    for rows, value in zip(chosen, to_host(sums)[0], strict=True):
        x = exact[rows]
        np.testing.assert_allclose(value, np.sqrt(np.square(x[:, None] - x).sum(-1)).sum(), rtol=1e-6)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("layout", ["dense", "csr"])
@pytest.mark.parametrize("name", CASES)
def test_cell_sums(backend: str, dtype: type, layout: str, name: str) -> None:
    case, (found, resources) = CASES[name], kernels(backend, n_threads=2)
    o, d, n_groups = case.offsets, distances(name, dtype), len(case.offsets) - 1
    left, right = (side.ravel() for side in np.mgrid[:n_groups, :n_groups])
    left, right = np.append(left, left[-1]), np.append(right, right[0])  # a pair may come twice
    cells = in_layout(case.cells, layout, dtype)
    sums = to_host(found.permutation.cell_sums(cells, o, left, right, resources=resources))
    expected = np.concatenate(
        [d[o[a] : o[a + 1], o[b] : o[b + 1]].sum(axis=1) for a, b in zip(left, right, strict=True)]
    ).astype(float)
    assert sums.dtype == np.float64
    np.testing.assert_allclose(sums, expected, **tolerance(dtype))
    assert np.array_equal(sums == 0, expected == 0)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("layout", ["dense", "csr"])
def test_same_bits_whatever_else_is_asked_for(backend: str, layout: str) -> None:
    """Other pools, draws, threads and memory change nothing; equal subsets have equal sums."""
    case = make_case([0, 1100, 1130, 1800], 13, density=0.5)
    cells = in_layout(case.cells, layout, np.float32)
    subsets = [draw([1130, 30], 40), draw([1770, 600], 40, 1)]
    subsets[1][7] = subsets[1][3]

    def sums(groups: list[int], **bounds: int) -> np.ndarray:
        found, resources = kernels(backend, **bounds)
        drawn = [on_device(backend, subsets[group - 1]) for group in groups]
        return to_host(found.permutation.subset_sums(cells, case.offsets, groups, 0, drawn, resources=resources))

    together = sums([1, 2])
    assert np.array_equal(together, sums([1, 2], n_threads=3, memory=8 << 20))
    assert np.array_equal(together[1:], sums([2]))
    assert together[1, 7] == together[1, 3]
    subsets[1] = subsets[1][5:9]
    assert np.array_equal(together[1:, 5:9], sums([2]))


@pytest.mark.parametrize("backend", BACKENDS)
def test_nothing_to_do(backend: str) -> None:
    found, resources = kernels(backend)
    cells, offsets = np.ones((4, 2), np.float32), np.array([0, 4, 4])
    empty = on_device(backend, np.empty((3, 0), np.int32))
    assert to_host(found.permutation.subset_sums(cells, offsets, [], 0, [], resources=resources)).shape == (0, 0)
    assert not to_host(found.permutation.subset_sums(cells, offsets, [1], 0, [empty], resources=resources)).any()
    none = np.empty(0, np.int64)
    assert to_host(found.permutation.cell_sums(cells, offsets, none, none, resources=resources)).shape == (0,)
    to_nobody = found.permutation.cell_sums(cells, offsets, np.array([0, 1]), np.array([1, 0]), resources=resources)
    assert to_host(to_nobody).tolist() == [0.0] * 4


@pytest.mark.gpu
@pytest.mark.parametrize("backend", BACKENDS[1:])
def test_sparse_cells_that_do_not_fit_say_so(backend: str) -> None:
    found, resources = kernels(backend, memory=1 << 20)
    cells, offsets = (
        sp.random(500, 4000, 0.01, "csr", np.float32, rng=np.random.default_rng(0)),
        np.array([0, 300, 500]),
    )
    with pytest.raises(MemoryError, match="obsm_key"):
        found.permutation.cell_sums(cells, offsets, np.array([0]), np.array([1]), resources=resources)
