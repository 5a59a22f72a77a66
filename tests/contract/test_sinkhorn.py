"""Every backend's entropic transport against a slow float64 definition."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pytest
from scipy.special import logsumexp
from tests.support import BACKENDS, in_layout, kernels

from ptg.execute import to_host
from ptg.kernels.contract.sinkhorn import Transport


@dataclass(frozen=True)
class Case:
    cells: np.ndarray
    offsets: np.ndarray


def make_case(sizes: list[int], n_columns: int, *, spread: float = 1.0, shift: float = 0.0, seed: int = 0) -> Case:
    """Groups of normal cells whose means differ by `spread`, all of them `shift` from 0."""
    rng = np.random.default_rng(seed)
    offsets = np.cumsum([0, *sizes])
    means = spread * rng.standard_normal((len(sizes), n_columns)) + shift
    return Case(rng.standard_normal((offsets[-1], n_columns)) + np.repeat(means, sizes, axis=0), offsets)


def with_duplicates() -> Case:
    rng = np.random.default_rng(3)
    cells = np.repeat(rng.standard_normal((5, 4)), [5, 1, 4, 6, 7], axis=0)
    return Case(cells, np.array([0, 5, 10, 23]))


def equal_groups() -> Case:
    cells = make_case([30], 6).cells
    return Case(np.concatenate([cells, cells[::-1]]), np.array([0, 30, 60]))


RECTANGLE = Case(np.array([[0.0, 1.0], [0.0, -1.0], [1.0, 0.0], [-1.0, 0.0]]), np.array([0, 2, 4]))

CASES = {
    "ragged": make_case([1, 3, 70, 18, 41, 1], 10),
    "one cell each": make_case([1] * 5, 5),
    "one column": make_case([2, 30, 9], 1),
    "a long and a short group": make_case([2, 120], 3),
    "several blocks": make_case([70, 150], 20),
    "more columns than cells": make_case([12, 25, 8], 300),
    "far from 0": make_case([20, 30], 6, shift=1e4),
    "far from each other": make_case([20, 30], 6, spread=1e3),
    "heavy outliers": Case(
        make_case([25, 40], 4).cells * np.repeat([1.0, 50.0, 1.0], [60, 2, 3])[:, None], np.array([0, 25, 65])
    ),
    "equal groups": equal_groups(),
    "duplicates": with_duplicates(),
    "all the same": Case(np.full((30, 4), 0.1), np.array([0, 10, 30])),
    "two points": Case(np.repeat([[0.0, 0.0], [3.0, 4.0]], [7, 9], axis=0), np.array([0, 7, 16])),
    "a constant cost": RECTANGLE,
    "tiny values": Case(make_case([20, 40], 5).cells * 1e-15, np.array([0, 20, 60])),
    "huge values": Case(make_case([20, 40], 5).cells * 1e12, np.array([0, 20, 60])),
}
BITS = [np.float32, np.float64]


def all_pairs(n_groups: int) -> tuple[np.ndarray, np.ndarray]:
    left, right = np.mgrid[:n_groups, :n_groups]
    return left.ravel(), right.ravel()


def slow_cost(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.stack([((row - y) ** 2).sum(1) for row in x])


def slow_deviation(x: np.ndarray, y: np.ndarray, a: np.ndarray, b: np.ndarray) -> float:
    """Population standard deviation of the costs, in extended precision."""
    cost = slow_cost(x.astype(np.longdouble), y.astype(np.longdouble))
    mean = a @ cost @ b
    return float(np.sqrt(a @ (cost - mean) ** 2 @ b))


def slow_transport(x: np.ndarray, y: np.ndarray, a: np.ndarray, b: np.ndarray, epsilon: float) -> float:
    """``<P, C> + epsilon KL(P | a b')``: Sinkhorn's iteration in the log domain, finished by Newton's on g."""
    cost = slow_cost(x, y)
    if epsilon == 0:
        return float(a @ cost @ b)

    def best_f(g: np.ndarray, e: float) -> np.ndarray:
        return -e * np.asarray(logsumexp((g - cost) / e, b=b, axis=1))

    def dual(g: np.ndarray) -> tuple[float, np.ndarray]:
        """The dual with the best f, and the plan, whose rows are exact."""
        f = best_f(g, epsilon)
        return float(a @ f + b @ g), a[:, None] * np.exp((f[:, None] + g - cost) / epsilon) * b

    g = np.zeros(len(b))
    for e in epsilon * np.repeat([64.0, 16.0, 4.0, 1.0], 20):
        g = -e * logsumexp((best_f(g, e)[:, None] - cost) / e, b=a[:, None], axis=0)
    value, plan = dual(g)
    for _ in range(100):
        gradient = b - plan.sum(0)
        hessian = np.diag(plan.sum(0)) - plan.T @ (plan / a[:, None])
        step = epsilon * np.linalg.lstsq(hessian + np.outer(b, b), gradient, rcond=1e-14)[0]
        while np.abs(step).max() > 1e-16 * np.abs(cost).max() and dual(g + step)[0] < value:
            step /= 2
        before, g = value, g + step
        value, plan = dual(g)
        if value <= before + 1e-15 * abs(before):
            break
    assert np.abs(plan.sum(0) - b).sum() < 1e-6  # the dual is off by its square, the primal by itself
    density = plan / (a[:, None] * b)
    entropy = (plan * np.log(density, out=np.zeros_like(density), where=density > 0)).sum()
    np.testing.assert_allclose((plan * cost).sum() + epsilon * entropy, value, rtol=1e-5)
    return value


def parts(
    case: Case, dtype: type, left: int, right: int, weights: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Cells and masses of a pair: x, y, a, b; of a resample as it is spelled out."""
    o, found = case.offsets, []
    for group in (left, right):
        rows = np.arange(o[group], o[group + 1])
        if weights is not None:
            rows = np.repeat(rows, weights[rows])
        found.append(case.cells.astype(dtype).astype(np.float64)[rows])
    return (found[0], found[1], *(np.full(len(cells), 1.0 / len(cells)) for cells in found))


@cache
def slow_deviations(name: str, dtype: type) -> np.ndarray:
    left, right = all_pairs(len(CASES[name].offsets) - 1)
    return np.array([slow_deviation(*parts(CASES[name], dtype, *pair)) for pair in zip(left, right, strict=True)])


@cache
def slow_costs(name: str, dtype: type) -> np.ndarray:
    left, right = all_pairs(len(CASES[name].offsets) - 1)
    found = [
        slow_transport(*parts(CASES[name], dtype, *pair), epsilon)
        for *pair, epsilon in zip(left, right, 0.05 * exact_deviations(name, dtype), strict=True)
    ]
    return np.array(found)


def exact_deviations(name: str, dtype: type) -> np.ndarray:
    """The slow deviations, with 0 for those that are nothing but rounding."""
    deviations = slow_deviations(name, dtype)
    size = np.abs(CASES[name].cells - CASES[name].cells.mean(0)).max() ** 2
    return np.where(deviations > 1e-12 * size, deviations, 0.0)


def deviations(backend: str, *arguments: Any, weights: np.ndarray | None = None, **bounds: int) -> np.ndarray:
    """Call a backend's kernel within some bounds."""
    found, resources = kernels(backend, **bounds)
    return to_host(found.sinkhorn.cost_deviations(*arguments, weights=weights, resources=resources))


def transport(
    backend: str,
    *arguments: Any,
    epsilon: np.ndarray,
    weights: np.ndarray | None = None,
    tol: float = 1e-7,
    max_iter: int = 5_000,
    relaxation: float = 1.0,
    **bounds: int,
) -> Transport:
    """Call a backend's kernel within some bounds."""
    found, resources = kernels(backend, **bounds)
    result = found.sinkhorn.transport_costs(
        *arguments,
        epsilon=epsilon,
        weights=weights,
        tol=tol,
        max_iter=max_iter,
        relaxation=relaxation,
        resources=resources,
    )
    return Transport(*(to_host(field) for field in result))


def tolerance(name: str, dtype: type) -> dict[str, float]:
    """Relative to the cost, or to the mean cost of cells where the groups are equal."""
    cells = CASES[name].cells
    scale = 2 * float(cells.var(0).sum())
    return {"rtol": 1e-9, "atol": 1e-9 * scale} if dtype == np.float64 else {"rtol": 1e-5, "atol": 1e-5 * scale}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", BITS)
@pytest.mark.parametrize("layout", ["dense", "csr"])
@pytest.mark.parametrize("name", CASES)
def test_cost_deviations(backend: str, dtype: type, layout: str, name: str) -> None:
    case = CASES[name]
    pairs = all_pairs(len(case.offsets) - 1)
    found = deviations(backend, in_layout(case.cells, layout, dtype), case.offsets, *pairs, n_threads=2)
    expected = exact_deviations(name, dtype)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, expected, rtol=1e-10)
    assert np.array_equal(found == 0, expected == 0)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", BITS)
@pytest.mark.parametrize("layout", ["dense", "csr"])
@pytest.mark.parametrize("name", CASES)
def test_transport_costs(backend: str, dtype: type, layout: str, name: str) -> None:
    case = CASES[name]
    pairs = all_pairs(len(case.offsets) - 1)
    epsilon = 0.05 * exact_deviations(name, dtype)
    cells = in_layout(case.cells, layout, dtype)
    found = transport(backend, cells, case.offsets, *pairs, epsilon=epsilon, n_threads=2)
    assert [field.dtype for field in found] == [np.float64, np.int64, np.float64, np.bool_]
    np.testing.assert_allclose(found.cost, slow_costs(name, dtype), **tolerance(name, dtype))
    assert found.converged.all()
    assert (found.marginal_error <= 1e-7).all()
    assert (found.n_iterations <= 5_000).all()
    assert np.array_equal(found.n_iterations == 0, epsilon == 0)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", BITS)
@pytest.mark.parametrize("name", ["ragged", "duplicates", "far from 0", "more columns than cells"])
def test_weights_are_resamples_spelled_out(backend: str, dtype: type, name: str) -> None:
    case = CASES[name]
    rng = np.random.default_rng(4)
    weights = rng.integers(0, 4, (3, case.offsets[-1])).astype(np.uint16)
    weights[:, case.offsets[:-1]] += 1  # no group without weight
    left, right = np.triu_indices(len(case.offsets) - 1)
    arguments = (in_layout(case.cells, "dense", dtype), case.offsets, left, right)
    expected = np.array(
        [[slow_deviation(*parts(case, dtype, *pair, w)) for pair in zip(left, right, strict=True)] for w in weights]
    )
    expected[expected < 1e-12 * np.abs(case.cells - case.cells.mean(0)).max() ** 2] = 0.0
    found = deviations(backend, *arguments, weights=weights, n_threads=2)
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    epsilon = 0.1 * expected
    costs = np.array(
        [
            [slow_transport(*parts(case, dtype, *pair, w), e) for *pair, e in zip(left, right, of_draw, strict=True)]
            for w, of_draw in zip(weights, epsilon, strict=True)
        ]
    )
    together = transport(backend, *arguments, epsilon=epsilon, weights=weights, n_threads=2)
    assert together.cost.shape == (3, len(left))
    np.testing.assert_allclose(together.cost, costs, **tolerance(name, dtype))
    alone = transport(backend, *arguments, epsilon=epsilon[1:2], weights=weights[1:2])
    assert np.array_equal(alone.cost[0], together.cost[1])


@pytest.mark.parametrize("backend", BACKENDS)
def test_groups_without_cells_or_weight(backend: str) -> None:
    case = Case(make_case([5, 4, 6], 3).cells, np.array([0, 5, 5, 9, 15]))
    left, right = all_pairs(4)
    empty = (left == 1) | (right == 1)
    found = deviations(backend, case.cells, case.offsets, left, right)
    assert np.array_equal(np.isnan(found), empty)
    result = transport(backend, case.cells, case.offsets, left, right, epsilon=np.ones(16))
    assert np.array_equal(np.isnan(result.cost), empty)
    assert np.array_equal(result.converged, ~empty)
    assert not result.n_iterations[empty].any()
    weights = np.ones((2, 15), int)
    weights[1, 5:9] = 0
    lost = empty | (left == 2) | (right == 2)
    found = deviations(backend, case.cells, case.offsets, left, right, weights=weights)
    assert np.array_equal(np.isnan(found), [empty, lost])
    result = transport(backend, case.cells, case.offsets, left, right, epsilon=found, weights=weights)
    assert np.array_equal(np.isnan(result.cost), [empty, lost])


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", BITS)
def test_the_same_bits_whatever_else_is_asked_for(backend: str, dtype: type) -> None:
    """Threads, memory, other pairs and the order of the two groups do not matter."""
    case = make_case([1, 30, 700, 260, 5], 8, seed=2)
    cells = in_layout(case.cells, "dense", dtype)
    left, right = all_pairs(5)
    epsilon = 0.1 * deviations(backend, cells, case.offsets, left, right)
    assert np.array_equal(epsilon.reshape(5, 5), epsilon.reshape(5, 5).T)
    arguments = (cells, case.offsets)
    many = transport(backend, *arguments, left, right, epsilon=epsilon, n_threads=4, tol=1e-6)
    few = transport(backend, *arguments, left, right, epsilon=epsilon, n_threads=1, memory=1 << 20, tol=1e-6)
    for field, other in zip(many, few, strict=True):
        assert np.array_equal(field, other)
    assert np.array_equal(many.cost.reshape(5, 5), many.cost.reshape(5, 5).T)
    for i in (8, 13, 17):
        one = transport(backend, *arguments, left[i : i + 1], right[i : i + 1], epsilon=epsilon[i : i + 1], tol=1e-6)
        assert one.cost[0] == many.cost[i]


@pytest.mark.smallest
@pytest.mark.parametrize("device", BACKENDS[1:])
@pytest.mark.parametrize("dtype", BITS)
@pytest.mark.parametrize("memory", [1 << 16, 1 << 30])  # made anew, band by band of rows; kept as a whole
def test_cuda_rows_wider_than_registers(device: str, dtype: type, memory: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of more than 128 columns here, of thousands as it is."""
    from ptg.kernels.cuda import sinkhorn_large, sinkhorn_plan

    case = make_case([300, 20, 200], 6, seed=3)
    cells = in_layout(case.cells, "dense", dtype)
    left, right = all_pairs(3)
    epsilon = 0.1 * deviations(device, cells, case.offsets, left, right)
    arguments = (cells, case.offsets, left, right)
    narrow = transport(device, *arguments, epsilon=epsilon)
    wide_passes, wide_pass = [], sinkhorn_large._wide_pass
    monkeypatch.setattr(sinkhorn_large, "_wide_pass", lambda *given: wide_passes.append(given) or wide_pass(*given))
    monkeypatch.setitem(sinkhorn_plan.SHAPES, np.dtype(dtype), sinkhorn_plan.SHAPES[np.dtype(dtype)][:1])
    wide = transport(device, *arguments, epsilon=epsilon, memory=memory)
    assert len(wide_passes) >= 3
    assert wide.converged.all()
    np.testing.assert_allclose(wide.cost, narrow.cost, rtol=1e-5 if dtype == np.float32 else 1e-9)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_limit_that_nothing_reaches(backend: str) -> None:
    """More iterations than 32 bits count."""
    case, epsilon = CASES["ragged"], np.array([1.0])
    pair = np.array([2]), np.array([3])
    found, expected = (
        transport(backend, case.cells, case.offsets, *pair, epsilon=epsilon, max_iter=limit)
        for limit in (10**12, 5_000)
    )
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(to_host(one), to_host(other))


@pytest.mark.parametrize("backend", BACKENDS)
def test_unfinished_pairs_say_so(backend: str) -> None:
    case = CASES["several blocks"]
    pair = (np.array([0]), np.array([1]))
    epsilon = 0.02 * deviations(backend, case.cells, case.offsets, *pair)
    short = transport(backend, case.cells, case.offsets, *pair, epsilon=epsilon, max_iter=3)
    assert short.n_iterations.tolist() == [3]
    assert not short.converged.any()
    assert (short.marginal_error > 1e-7).all()
    full = transport(backend, case.cells, case.offsets, *pair, epsilon=epsilon, max_iter=50_000)
    assert full.converged.all()
    assert (short.cost < full.cost).all()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", BITS)
def test_an_epsilon_beyond_the_precision_of_the_cells_ends_unfinished(backend: str, dtype: type) -> None:
    case = CASES["several blocks"]
    pair = (np.array([0]), np.array([1]))
    cells = in_layout(case.cells, "dense", dtype)
    found = transport(backend, cells, case.offsets, *pair, epsilon=np.array([1e-9]), max_iter=30)
    assert found.n_iterations.tolist() == [30]
    assert not found.converged.any()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("relaxation", [0.5, 1.5, 1.9])
def test_relaxation_does_not_move_the_fixed_point(backend: str, relaxation: float) -> None:
    case = CASES["ragged"]
    left, right = all_pairs(len(case.offsets) - 1)
    epsilon = 0.05 * exact_deviations("ragged", np.float64)
    found = transport(backend, case.cells, case.offsets, left, right, epsilon=epsilon, relaxation=relaxation)
    assert found.converged.all()
    np.testing.assert_allclose(found.cost, slow_costs("ragged", np.float64), **tolerance("ragged", np.float64))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", BITS)
@pytest.mark.parametrize("scale", [1e-2, 1.0, 100.0])
def test_any_epsilon(backend: str, dtype: type, scale: float) -> None:
    """From nearly the unregularised plan to nearly independence, where exp of the bare costs would be 0 or 1."""
    case = make_case([9, 14], 4, seed=5)
    pairs = all_pairs(2)
    epsilon = scale * deviations(backend, case.cells, case.offsets, *pairs)
    found = transport(
        backend, in_layout(case.cells, "dense", dtype), case.offsets, *pairs, epsilon=epsilon, max_iter=200_000
    )
    expected = [slow_transport(*parts(case, dtype, *pair), e) for *pair, e in zip(*pairs, epsilon, strict=True)]
    np.testing.assert_allclose(found.cost, expected, rtol=1e-6 if dtype == np.float64 else 1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", BITS)
@pytest.mark.parametrize("memory", [1 << 10, 600_000, 1 << 30])  # made anew, kept in chunks, kept as a whole
def test_cpu_absorbs_potentials(dtype: type, memory: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """As soon as scalings grow a little; the costs stay the same."""
    from ptg.kernels.cpu import sinkhorn, sinkhorn_solve

    case = make_case([40, 600], 5, seed=6)
    pair = (np.array([0]), np.array([1]))
    cells = in_layout(case.cells, "dense", dtype)
    epsilon = 0.03 * deviations("cpu", cells, case.offsets, *pair)
    plain = transport("cpu", cells, case.offsets, *pair, epsilon=epsilon)
    calls = []
    absorb = sinkhorn_solve.absorb
    monkeypatch.setattr(sinkhorn_solve, "absorb", lambda iterate: (calls.append(1), absorb(iterate)))
    monkeypatch.setattr(sinkhorn, "_RANGES", {np.dtype(dtype): (0.5, 5.0)})
    found = transport("cpu", cells, case.offsets, *pair, epsilon=epsilon, memory=memory, n_threads=4)
    assert calls
    assert found.converged.all()
    np.testing.assert_allclose(found.cost, plain.cost, rtol=1e-6 if dtype == np.float32 else 1e-12)


@pytest.mark.parametrize("backend", BACKENDS)
def test_no_cells_at_all(backend: str) -> None:
    pair = (np.array([0]), np.array([1]))
    arguments = (np.empty((0, 3)), np.zeros(3, int), *pair)
    assert np.isnan(deviations(backend, *arguments)).all()
    assert np.isnan(transport(backend, *arguments, epsilon=np.ones(1)).cost).all()


@pytest.mark.parametrize("other", BACKENDS[1:])
@pytest.mark.parametrize("dtype", BITS)
@pytest.mark.parametrize("sizes", [[40, 1, 300], [700, 900], [2500, 60]])
def test_backends_agree(other: str, dtype: type, sizes: list[int]) -> None:
    case = make_case(sizes, 50)
    pairs = all_pairs(len(sizes))
    cells = in_layout(case.cells, "dense", dtype)
    epsilon = 0.05 * deviations("cpu", cells, case.offsets, *pairs)
    np.testing.assert_allclose(0.05 * deviations(other, cells, case.offsets, *pairs), epsilon, rtol=1e-10)
    cpu, gpu = (transport(name, cells, case.offsets, *pairs, epsilon=epsilon, tol=1e-6) for name in ("cpu", other))
    np.testing.assert_allclose(gpu.cost, cpu.cost, rtol=1e-5 if dtype == np.float32 else 1e-9)
