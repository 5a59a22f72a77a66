"""Every backend's sums of functions of two cells against a slow float64 definition."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from scipy.spatial.distance import cdist
from tests.support import BACKENDS, in_layout, kernels

from ptg.execute import to_host
from ptg.kernels.contract.kernel_sums import CellFunction

DEFINITIONS = {
    CellFunction("cityblock"): lambda x, y: cdist(x, y, "cityblock"),
    CellFunction("chebyshev"): lambda x, y: cdist(x, y, "chebyshev"),
    CellFunction("rbf", gamma=0.05): lambda x, y: np.exp(-0.05 * cdist(x, y, "sqeuclidean")),
    CellFunction("poly", gamma=0.3, degree=1): lambda x, y: 0.3 * x @ y.T,
    CellFunction("poly", gamma=0.3, degree=3): lambda x, y: (0.3 * x @ y.T) ** 3,
}
#: Empty groups at both ends and inside, one cell, groups that begin and end in the middle of blocks of 512.
RAGGED = [0, 0, 1, 3, 3, 60, 530, 1100, 1100]
CASES = {
    "ragged": (RAGGED, 7, 0.0),
    "one column": ([0, 5, 9], 1, 0.0),
    "one cell": ([0, 1], 3, 0.0),
    "far from zero": ([0, 40, 90], 5, 1e4),
    "more columns than a panel": ([0, 4, 9], 1030, 0.0),
    "no cells": ([0, 0], 3, 0.0),
}


def make_cells(name: str, dtype: type) -> tuple[np.ndarray, np.ndarray]:
    offsets, n_columns, shift = CASES[name]
    rng = np.random.default_rng(0)
    cells = (rng.random((offsets[-1], n_columns)) < 0.4) * rng.standard_normal((offsets[-1], n_columns)) + shift
    cells[1::5] = cells[: len(cells[1::5])]  # equal cells
    return cells.astype(dtype), np.array(offsets)


def all_pairs(n_groups: int) -> tuple[np.ndarray, np.ndarray]:
    pairs = np.array([(a, b) for a in range(n_groups) for b in range(n_groups)])
    return pairs[:, 0], pairs[:, 1]


def slow_sums(definition: Any, cells: np.ndarray, offsets: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(n_groups, n_groups) from all cells with all cells."""
    if not len(cells):
        return np.zeros((len(offsets) - 1, len(offsets) - 1))
    values = definition(cells.astype(np.float64), cells.astype(np.float64)) * np.outer(weights, weights)
    group_of = np.repeat(np.eye(len(offsets) - 1), np.diff(offsets), axis=0)
    return group_of.T @ values @ group_of


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("layout", ["dense", "csr"])
@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("function", DEFINITIONS)
def test_sums(backend: str, dtype: type, layout: str, name: str, function: CellFunction) -> None:
    cells, offsets = make_cells(name, dtype)
    run, resources = kernels(backend, n_threads=2)
    left, right = all_pairs(len(offsets) - 1)
    arguments = (in_layout(cells, layout), offsets, left, right)
    found = run.kernel_sums.kernel_sums(*arguments, function=function, resources=resources)
    expected = slow_sums(DEFINITIONS[function], cells, offsets, np.ones(len(cells)))
    atol = 1e-12 * np.abs(expected).max(initial=0)
    np.testing.assert_allclose(to_host(found), expected[left, right], rtol=1e-11, atol=atol)
    weights = np.random.default_rng(1).integers(0, 3, (3, len(cells))).astype(np.uint16)
    drawn = to_host(run.kernel_sums.kernel_sums(*arguments, function=function, weights=weights, resources=resources))
    assert drawn.shape == (3, len(left))
    for draw in range(3):
        expected = slow_sums(DEFINITIONS[function], cells, offsets, weights[draw])
        np.testing.assert_allclose(drawn[draw], expected[left, right], rtol=1e-11, atol=atol)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", ["cityblock", "chebyshev", "rbf"])
def test_equal_cells_are_at_distance_zero(backend: str, name: str) -> None:
    """However far from zero they are."""
    cells = np.repeat(np.random.default_rng(0).standard_normal((1, 6)) + 1e8, 50, axis=0)
    run, resources = kernels(backend)
    function = CellFunction(name, gamma=1e8)
    found = run.kernel_sums.kernel_sums(
        cells, np.array([0, 20, 50]), np.array([0, 0]), np.array([0, 1]), function=function, resources=resources
    )
    assert found.tolist() == ([400.0, 600.0] if name == "rbf" else [0.0, 0.0])


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("function", DEFINITIONS)
def test_same_bits_for_any_threads_other_pairs_and_draws(backend: str, function: CellFunction) -> None:
    cells, offsets = make_cells("ragged", np.float64)
    run, many = kernels(backend, n_threads=3)
    one = kernels(backend, n_threads=1, memory=1 << 10)[1]
    left, right = all_pairs(len(offsets) - 1)
    weights = np.random.default_rng(1).integers(0, 3, (40, len(cells))).astype(np.uint16)
    sums = run.kernel_sums.kernel_sums
    together = sums(cells, offsets, left, right, function=function, resources=many)
    drawn = sums(cells, offsets, left, right, function=function, weights=weights, resources=many)
    assert np.array_equal(together, sums(cells, offsets, left, right, function=function, resources=one))
    for p in (9, 30, 47):
        some = (cells, offsets, left[p : p + 1], right[p : p + 1])
        assert sums(*some, function=function, resources=one)[0] == together[p]
        few = sums(*some, function=function, weights=weights[32:], resources=one)
        assert np.array_equal(few[:, 0], drawn[32:, p])


@pytest.mark.parametrize("backend", BACKENDS)
def test_inputs_are_not_modified(backend: str) -> None:
    cells, offsets = make_cells("ragged", np.float64)
    run, resources = kernels(backend)
    for matrix in (cells, sp.csr_matrix(cells)):
        before = matrix.copy()
        for function in DEFINITIONS:
            run.kernel_sums.kernel_sums(
                matrix, offsets, *all_pairs(len(offsets) - 1), function=function, resources=resources
            )
        assert np.array_equal(sp.csr_matrix(matrix).toarray(), sp.csr_matrix(before).toarray())
