"""Entropic transport where potentials must go far: to the right place, or no value that is better than the minimum."""

from __future__ import annotations

import numpy as np
import pytest
from tests.contract.test_sinkhorn import BITS, Case, deviations, parts, slow_cost, slow_transport, transport
from tests.support import BACKENDS


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", BITS)
def test_no_dual_is_above_the_minimum(backend: str, dtype: type) -> None:
    """Far cells and an epsilon that no potential of their type follows: what sums have lost is not taken for a gain."""
    rng = np.random.default_rng(1)
    near, other = rng.normal(size=(9, 4)), rng.normal(size=(6, 4)) + 1.0
    cells = np.concatenate([near, np.full((1, 4), 1e4), other]).astype(dtype)
    left, right = np.array([0, 0, 1]), np.array([0, 1, 1])
    found = transport(backend, cells, np.array([0, 10, 16]), left, right, epsilon=np.full(3, 0.5), max_iter=50)
    groups = [cells[:10].astype(np.float64), cells[10:].astype(np.float64)]
    independent = [slow_cost(groups[x], groups[y]).mean() for x, y in zip(left, right, strict=True)]
    assert (found.cost <= independent).all()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", BITS)
@pytest.mark.parametrize("seed", [3, 7, 9])
def test_cells_on_the_corners_of_a_cube(backend: str, dtype: type, seed: int) -> None:
    """Mass that is left over on one corner must go to the next, for which accelerated steps reach far too far."""
    rng = np.random.default_rng(seed)
    offsets = np.concatenate([[0], np.cumsum(rng.integers(10, 40, 6))])
    case = Case(rng.integers(0, 2, (offsets[-1], 3)).astype(np.float64), offsets)
    pairs = np.triu_indices(6, 1)
    epsilon = 0.05 * deviations(backend, case.cells, offsets, *pairs)
    found = transport(backend, case.cells.astype(dtype), offsets, *pairs, epsilon=epsilon, tol=1e-5, max_iter=2_000)
    assert found.converged.all()
    expected = [slow_transport(*parts(case, dtype, *pair), e) for *pair, e in zip(*pairs, epsilon, strict=True)]
    np.testing.assert_allclose(found.cost, expected, rtol=1e-6 if dtype == np.float64 else 1e-5)
