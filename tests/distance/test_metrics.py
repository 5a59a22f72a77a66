"""Every metric against its definition, and what the registry says about it."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import pytest
import scipy.sparse as sp
from scipy.spatial.distance import cdist

import ptg
from ptg.distance.metrics import MetricRecord, available, register
from ptg.distance.metrics.registry import make_metric


def slow_edistance(x: np.ndarray, y: np.ndarray, *, biased: bool) -> float:
    n, m = len(x), len(y)
    n_within, m_within = (n * n, m * m) if biased else (n * (n - 1), m * (m - 1))
    return float(2 * cdist(x, y).mean() - cdist(x, x).sum() / n_within - cdist(y, y).sum() / m_within)


def of_means(formula: Callable[[np.ndarray, np.ndarray], float]) -> Callable[[np.ndarray, np.ndarray], float]:
    return lambda x, y: float(formula(x.mean(0), y.mean(0)))


DEFINITIONS: dict[tuple[str, tuple[tuple[str, str], ...]], Callable[[np.ndarray, np.ndarray], float]] = {
    ("edistance", (("estimator", "unbiased"),)): lambda x, y: slow_edistance(x, y, biased=False),
    ("edistance", (("estimator", "biased"),)): lambda x, y: slow_edistance(x, y, biased=True),
    ("euclidean", ()): of_means(lambda x, y: np.linalg.norm(x - y)),
    ("root_mean_squared_error", ()): of_means(lambda x, y: np.linalg.norm(x - y)),
    ("mse", ()): of_means(lambda x, y: np.mean((x - y) ** 2)),
    ("mean_absolute_error", ()): of_means(lambda x, y: np.mean(np.abs(x - y))),
    ("pearson_distance", ()): of_means(lambda x, y: 1 - np.corrcoef(x, y)[0, 1]),
    ("cosine_distance", ()): of_means(lambda x, y: 1 - x @ y / np.sqrt((x @ x) * (y @ y))),
    ("r2_distance", ()): of_means(lambda x, y: ((x - y) ** 2).sum() / ((x - x.mean()) ** 2).sum()),
}


def two_groups(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.poisson(1.0, (23, 8)).astype(float), rng.poisson(1.6, (31, 8)).astype(float)


def test_every_metric_and_estimator_has_a_definition_here() -> None:
    declared = {
        (name, (("estimator", estimator),) if estimator else ())
        for name, record in available().items()
        if not record.iterative  # in test_transport.py
        for estimator in (record.estimators or ("",))
    }
    assert declared == set(DEFINITIONS)


@pytest.mark.parametrize(("metric", "options"), DEFINITIONS)
@pytest.mark.parametrize("layout", [np.asarray, sp.csr_matrix, sp.csc_array])
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int64])
def test_value(metric: str, options: tuple[tuple[str, str], ...], layout: Callable, dtype: type) -> None:
    x, y = two_groups()
    distance = ptg.Distance(metric, **dict(options))
    rtol = 1e-5 if dtype == np.float32 and metric == "edistance" else 1e-12
    for a, b in ((x, y), (y, x)):
        found = distance(layout(a.astype(dtype)), layout(b.astype(dtype)))
        assert isinstance(found, float)
        np.testing.assert_allclose(found, DEFINITIONS[metric, options](a, b), rtol=rtol)


def test_the_two_estimators_differ_and_unbiased_is_the_default() -> None:
    x, y = two_groups()
    assert ptg.Distance()(x, y) == ptg.Distance(estimator="unbiased")(x, y) != ptg.Distance(estimator="biased")(x, y)


@pytest.mark.parametrize("name", available())
def test_records_are_complete_and_aliases_work(name: str) -> None:
    record = available()[name]
    assert record.formula
    assert record.source.startswith("10.")
    assert all(option.checked(option.default) == option.default and option.meaning for option in record.options)
    assert all(option.describe() for option in record.options)
    for alias in record.aliases:
        assert ptg.Distance(alias).metric == name


def test_a_name_cannot_be_taken_twice() -> None:
    record = MetricRecord(name="mse", formula="-", source="10.0/0", needs="means")
    with pytest.raises(RuntimeError, match="two metrics are called 'mse'"):
        register(record)(type(make_metric("euclidean", {})))
    assert available()["mse"].formula != "-"
    assert available()["euclidean"].name == "euclidean"


@pytest.mark.parametrize("metric", ["pearson_distance", "cosine_distance"])
def test_nearly_parallel_means_keep_their_digits(metric: str) -> None:
    """The distance of x + e·z to x is e²|z|²/(2|x|²) for z at a right angle: 1e-16, where 1 - cos would round to 0."""
    x, z = np.array([[1.0, -1.0, 1.0, -1.0]]), np.array([[1.0, 1.0, -1.0, -1.0]])
    np.testing.assert_allclose(ptg.Distance(metric)(x + 1e-8 * z, x), 0.5e-16, rtol=1e-6)


UNDEFINED = {
    "edistance": (np.ones((1, 3)), "one cell"),
    "pearson_distance": (np.full((4, 3), 0.1), "same mean in every column"),
    "cosine_distance": (np.zeros((4, 3)), "mean of zero"),
    "r2_distance": (np.full((4, 3), 0.1), "same mean in every column"),
}


@pytest.mark.parametrize("metric", UNDEFINED)
def test_undefined_values_are_nan_with_one_warning(metric: str) -> None:
    x, words = UNDEFINED[metric]
    y = np.random.default_rng(0).standard_normal((5, 3))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert np.isnan(ptg.Distance(metric)(x, y))
    (warning,) = caught
    assert words in str(warning.message)
    assert "'X'" in str(warning.message)
    assert "'Y'" not in str(warning.message)
    assert warning.filename == __file__


def test_r2_needs_variance_in_the_truth_only() -> None:
    constant, y = np.full((2, 3), 0.1), np.array([[0.0, 1.0, 2.0]])
    np.testing.assert_allclose(ptg.Distance("r2_distance")(y, constant), (0.1**2 + 0.9**2 + 1.9**2) / 2)


def test_biased_edistance_of_single_cells_is_defined() -> None:
    assert ptg.Distance(estimator="biased")(np.array([[0.0]]), np.array([[3.0]])) == 6.0
