"""Every backend's concordant less discordant pairs of columns against the definition."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from tests.support import BACKENDS, kernels


def slow_concordance(x: np.ndarray, y: np.ndarray) -> int:
    return int(np.triu(np.sign(x[:, None] - x) * np.sign(y[:, None] - y), 1).sum())


ROWS = {
    "continuous": np.random.default_rng(0).standard_normal((6, 70)),
    "ties": np.random.default_rng(0).integers(0, 4, (6, 70)).astype(float),
    "constant": np.ones((2, 5)),
    "one column": np.arange(3.0)[:, None],
    "two columns": np.array([[1.0, 2.0], [2.0, 1.0], [3.0, 3.0]]),
    "equal up to rounding": 0.1 + np.random.default_rng(0).integers(0, 3, (4, 40)) * np.spacing(0.1),
    "infinite range": np.random.default_rng(0).choice([-1e308, 1e308, 0.0], (4, 33)),
}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", ROWS)
def test_counts(backend: str, name: str) -> None:
    values = ROWS[name]
    run, resources = kernels(backend, n_threads=2)
    left, right = (indices.ravel() for indices in np.indices((len(values), len(values))))
    found = run.concordance.concordance(values, left, right, resources=resources)
    assert found.dtype == np.int64
    with np.errstate(over="ignore"):
        expected = [slow_concordance(values[a], values[b]) for a, b in zip(left, right, strict=True)]
    assert found.tolist() == expected


@pytest.mark.parametrize("backend", BACKENDS)
def test_no_pairs_and_many_pairs(backend: str) -> None:
    values = np.random.default_rng(0).standard_normal((3, 1100))
    run, resources = kernels(backend, n_threads=3)
    nothing = np.empty(0, np.int64)
    assert run.concordance.concordance(values, nothing, nothing, resources=resources).shape == (0,)
    left, right = np.zeros(3000, np.int64), np.arange(3000) % 3
    found = run.concordance.concordance(values, left, right, resources=resources)
    tau = [stats.kendalltau(values[0], values[b]).statistic for b in range(3)]
    np.testing.assert_allclose(found / (1100 * 1099 / 2), np.tile(tau, 1000), rtol=1e-12)


@pytest.mark.parametrize("device", BACKENDS[1:])
def test_so_many_columns_that_launches_take_a_few_pairs(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from ptg.kernels.cuda import concordance

    run, resources = kernels(device)
    values = ROWS["ties"]
    left, right = (indices.ravel() for indices in np.indices((6, 6)))
    whole = run.concordance.concordance(values, left, right, resources=resources)
    monkeypatch.setattr(concordance, "_STEPS_AT_ONCE", 5 * values.shape[1] ** 2)
    np.testing.assert_array_equal(run.concordance.concordance(values, left, right, resources=resources), whole)
