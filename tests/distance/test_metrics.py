"""Every metric against its definition, and what the registry says about it."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from scipy import optimize, stats
from scipy.spatial.distance import cdist
from scipy.special import digamma
from sklearn.linear_model import LogisticRegression
from tests.support import PAIR_METRICS

import ptg
from ptg.distance.metrics import MetricRecord, available, register
from ptg.distance.metrics.registry import make_metric


def slow_edistance(x: np.ndarray, y: np.ndarray, *, biased: bool) -> float:
    n, m = len(x), len(y)
    n_within, m_within = (n * n, m * m) if biased else (n * (n - 1), m * (m - 1))
    return float(2 * cdist(x, y).mean() - cdist(x, x).sum() / n_within - cdist(y, y).sum() / m_within)


def of_means(formula: Callable[[np.ndarray, np.ndarray], float]) -> Callable[[np.ndarray, np.ndarray], float]:
    return lambda x, y: float(formula(x.mean(0), y.mean(0)))


def slow_mmd(kernel: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Callable[[np.ndarray, np.ndarray], float]:
    return lambda x, y: float(kernel(x, x).mean() + kernel(y, y).mean() - 2 * kernel(x, y).mean())


def slow_sym_kldiv(x: np.ndarray, y: np.ndarray, epsilon: float = 1e-8) -> float:
    def divergence(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        sd_a, sd_b = a.std(0) + epsilon, b.std(0) + epsilon
        return np.log(sd_b / sd_a) + (sd_a**2 + (a.mean(0) - b.mean(0)) ** 2) / (2 * sd_b**2) - 0.5

    return float((divergence(x, y) + divergence(y, x)).mean())


def slow_t_test(x: np.ndarray, y: np.ndarray, epsilon: float = 1e-8) -> float:
    error = (x.var(0, ddof=1) + epsilon) / len(x) + (y.var(0, ddof=1) + epsilon) / len(y)
    return float((np.abs(x.mean(0) - y.mean(0)) / np.sqrt(error)).mean())


def slow_ks_test(x: np.ndarray, y: np.ndarray) -> float:
    return float(np.mean([stats.ks_2samp(a, b, method="asymp").statistic for a, b in zip(x.T, y.T, strict=True)]))


def slow_mahalanobis(x: np.ndarray, y: np.ndarray) -> float:
    difference = x.mean(0) - y.mean(0)
    return float(np.sqrt(difference @ np.linalg.solve(np.cov(x.T), difference)))


def slow_mean_var(x: np.ndarray, y: np.ndarray) -> float:
    clouds = [np.log(np.stack([cells.mean(0), cells.var(0)], 1)[cells.mean(0) > 0]) for cells in (x, y)]
    axes = []
    for axis in (0, 1):
        low, high = (function([function(cloud[:, axis]) for cloud in clouds]) for function in (np.min, np.max))
        part = (high - low) / 98
        axes.append(low - part / 2 + part * np.arange(100))
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 2)
    f, g = (
        np.exp(-cdist(grid, cloud) * len(cloud) ** (1 / 6)).sum(1) / (2 * np.pi * len(cloud) ** (2 / 3))
        for cloud in clouds
    )
    return float(((f - g) ** 2).mean())


def slow_nb_ll(x: np.ndarray, y: np.ndarray) -> float:
    scores = []
    for a, b in zip(x.T, y.T, strict=True):
        mean = a.mean()
        if mean == 0:
            scores.append(0.0 if b.mean() < 10 else np.nan)
        elif a.var() > mean:

            def score(log_size: float, counts: np.ndarray = a, mean: float = mean) -> float:
                size = np.exp(log_size)
                return float(digamma(counts + size).mean() - digamma(size) - np.log1p(mean / size))

            # Where the likelihood is flat: its largest value would tell the size to the root of the precision only.
            size = np.exp(optimize.brentq(score, -10, 10, xtol=1e-14))
            scores.append(-float(stats.nbinom.logpmf(b, size, size / (size + mean)).mean()))
        else:
            scores.append(np.nan)
    return float(np.nanmean(scores))


def slow_classifier_proba(x: np.ndarray, y: np.ndarray) -> float:
    held_out = np.random.default_rng(0).choice(len(y), max(1, int(0.2 * len(y))), replace=False)
    train = np.concatenate([x, np.delete(y, held_out, axis=0)])
    model = LogisticRegression().fit(train, [0] * len(x) + [1] * (len(train) - len(x)))
    return float(model.predict_proba(y[held_out])[:, 1].mean())


def cell_wise(name: str) -> Callable[[np.ndarray, np.ndarray], float]:
    def distance(x: np.ndarray, y: np.ndarray) -> float:
        return float(2 * cdist(x, y, name).mean() - cdist(x, x, name).mean() - cdist(y, y, name).mean())

    return distance


#: A metric, its options, and the value for two groups of cells.
DEFINITIONS: dict[tuple[str, tuple[tuple[str, Any], ...]], Callable[[np.ndarray, np.ndarray], float]] = {
    ("edistance", (("estimator", "unbiased"),)): lambda x, y: slow_edistance(x, y, biased=False),
    ("edistance", (("estimator", "biased"),)): lambda x, y: slow_edistance(x, y, biased=True),
    **{
        ("edistance", (("estimator", "biased"), ("cell_wise_metric", name))): cell_wise(name)
        for name in ("sqeuclidean", "cityblock", "chebyshev", "cosine", "correlation")
    },
    ("euclidean", ()): of_means(lambda x, y: np.linalg.norm(x - y)),
    ("euclidean", (("agg_fct", "median"),)): lambda x, y: float(np.linalg.norm(np.median(x, 0) - np.median(y, 0))),
    ("mean_absolute_error", (("agg_fct", np.max),)): lambda x, y: float(np.abs(x.max(0) - y.max(0)).mean()),
    ("root_mean_squared_error", ()): of_means(lambda x, y: np.linalg.norm(x - y)),
    ("mse", ()): of_means(lambda x, y: np.mean((x - y) ** 2)),
    ("mean_absolute_error", ()): of_means(lambda x, y: np.mean(np.abs(x - y))),
    ("pearson_distance", ()): of_means(lambda x, y: 1 - np.corrcoef(x, y)[0, 1]),
    ("spearman_distance", ()): of_means(lambda x, y: 1 - stats.spearmanr(x, y)[0]),
    ("kendalltau_distance", ()): of_means(lambda x, y: (1 - stats.kendalltau(x, y)[0]) * len(x) * (len(x) - 1) / 4),
    ("cosine_distance", ()): of_means(lambda x, y: 1 - x @ y / np.sqrt((x @ x) * (y @ y))),
    ("r2_distance", ()): of_means(lambda x, y: ((x - y) ** 2).sum() / ((x - x.mean()) ** 2).sum()),
    ("mean_pairwise", ()): lambda x, y: float(cdist(x, y).mean()),
    ("mean_pairwise", (("cell_wise_metric", "l1"),)): lambda x, y: float(cdist(x, y, "cityblock").mean()),
    ("mmd", ()): slow_mmd(lambda x, y: x @ y.T),
    ("mmd", (("kernel", "rbf"), ("gamma", 0.02))): slow_mmd(lambda x, y: np.exp(-0.02 * cdist(x, y, "sqeuclidean"))),
    ("mmd", (("kernel", "poly"), ("gamma", 0.1), ("degree", 3))): slow_mmd(lambda x, y: (0.1 * x @ y.T) ** 3),
    ("sym_kldiv", ()): slow_sym_kldiv,
    ("sym_kldiv", (("epsilon", 0.5),)): lambda x, y: slow_sym_kldiv(x, y, 0.5),
    ("t_test", ()): slow_t_test,
    ("t_test", (("epsilon", 0.5),)): lambda x, y: slow_t_test(x, y, 0.5),
    ("ks_test", ()): slow_ks_test,
    ("mahalanobis", ()): slow_mahalanobis,
    ("mean_var_distribution", ()): slow_mean_var,
    ("nb_ll", ()): slow_nb_ll,
    ("classifier_proba", ()): slow_classifier_proba,
}

#: Where the definition itself is not exact to 1e-12.
TOLERANCES = {"nb_ll": 1e-8, "classifier_proba": 1e-6, "mean_var_distribution": 1e-10, "mmd": 1e-11}


def two_groups(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.negative_binomial(1, 0.4, (23, 8)).astype(float), rng.negative_binomial(1, 0.3, (31, 8)).astype(float)


def test_every_metric_and_estimator_has_a_definition_here() -> None:
    """But for `classifier_cp`, which two groups do not define: see test_classifiers.py."""
    declared = {
        (name, (("estimator", estimator),) if estimator else ())
        for name in PAIR_METRICS
        if not available()[name].iterative  # in test_transport.py
        for estimator in (available()[name].estimators or ("",))
    }
    assert declared <= set(DEFINITIONS)


@pytest.mark.parametrize(("metric", "options"), DEFINITIONS)
@pytest.mark.parametrize("layout", [np.asarray, sp.csr_matrix, sp.csc_array])
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int64])
def test_value(metric: str, options: tuple[tuple[str, Any], ...], layout: Callable, dtype: type) -> None:
    x, y = two_groups()
    distance = ptg.Distance(metric, **dict(options))
    rtol = 1e-5 if dtype == np.float32 and metric in {"edistance", "mean_pairwise"} else TOLERANCES.get(metric, 1e-12)
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
    for option in record.options:
        assert option.meaning
        assert option.describe()
        option.checked(option.default)
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
    "sym_kldiv": (np.ones((1, 3)), "one cell"),
    "t_test": (np.ones((1, 3)), "one cell"),
    "spearman_distance": (np.full((4, 3), 0.1), "same mean in every column"),
    "kendalltau_distance": (np.full((4, 3), 0.1), "same mean in every column"),
    "mahalanobis": (np.random.default_rng(1).standard_normal((3, 3)), "singular covariance"),
    "mean_var_distribution": (-np.ones((4, 3)), "no column with a mean and a variance above 0"),
    "pearson_distance": (np.full((4, 3), 0.1), "same mean in every column"),
    "cosine_distance": (np.zeros((4, 3)), "mean of zero"),
    "r2_distance": (np.full((4, 3), 0.1), "same mean in every column"),
}


@pytest.mark.parametrize("metric", UNDEFINED)
def test_undefined_values_are_nan_with_one_warning(metric: str) -> None:
    x, words = UNDEFINED[metric]
    y = np.random.default_rng(0).standard_normal((5, 3)) + 1.0
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


UNDEFINED_WITH = {
    "a zero cell has no angle": ("edistance", {"cell_wise_metric": "cosine"}, np.eye(3)[[0, 0, 1]] * [1, 0, 1]),
    "a constant cell has no correlation": ("mean_pairwise", {"cell_wise_metric": "correlation"}, np.ones((2, 3))),
    "a constant column": ("mahalanobis", {}, np.random.default_rng(1).standard_normal((9, 3)) * [1, 0, 1]),
    "dependent columns": ("mahalanobis", {}, np.random.default_rng(1).standard_normal((9, 3))[:, [0, 1, 1]]),
}


@pytest.mark.parametrize("case", UNDEFINED_WITH)
@pytest.mark.parametrize("layout", [np.asarray, sp.csr_matrix])
def test_other_undefined_values(case: str, layout: Callable) -> None:
    metric, options, x = UNDEFINED_WITH[case]
    y = np.random.default_rng(0).standard_normal((5, 3))
    with pytest.warns(UserWarning, match="'X' have") as caught:
        assert np.isnan(ptg.Distance(metric, **options)(layout(x), layout(y)))
    assert len(caught) == 1
    assert "'Y'" not in str(caught[0].message)


def test_counts_that_cannot_be_fitted() -> None:
    """Columns without overdispersion do not count; with more than half of them there is no value."""
    x, y = two_groups()
    x[:, :4] = y[:, :4] = 1.0
    assert np.isfinite(ptg.Distance("nb_ll")(x, y))
    x[:, 4] = 2.0
    with pytest.warns(UserWarning, match="'X' have overdispersed counts in fewer than half"):
        assert np.isnan(ptg.Distance("nb_ll")(x, y))
    assert np.isfinite(ptg.Distance("nb_ll")(y, x))


def test_columns_without_any_count() -> None:
    """Not expressed in X: they count 0, unless Y's mean is 10 or more."""
    x, y = two_groups()
    x[:, 0] = 0.0
    np.testing.assert_allclose(ptg.Distance("nb_ll")(x, y), slow_nb_ll(x, y), rtol=1e-8)
    few = ptg.Distance("nb_ll")(x[:, 1:], y[:, 1:])
    np.testing.assert_allclose(ptg.Distance("nb_ll")(x, y), few * 7 / 8, rtol=1e-12)
    y[:, 0] = 10.0
    np.testing.assert_allclose(ptg.Distance("nb_ll")(x, y), few, rtol=1e-12)


@pytest.mark.parametrize(("metric", "unequal"), [("t_test", np.inf), ("sym_kldiv", np.inf)])
def test_constant_columns_without_epsilon(metric: str, unequal: float) -> None:
    """0 where both have the same constant, infinite where they have different ones."""
    x, y = two_groups()
    distance = ptg.Distance(metric, epsilon=0)
    before = distance(x[:, 1:], y[:, 1:])
    x[:, 0] = y[:, 0] = 3.0
    np.testing.assert_allclose(distance(x, y), before * 7 / 8)
    y[:, 0] = 4.0
    assert distance(x, y) == unequal


def test_kernels_far_from_zero_keep_their_digits() -> None:
    x, y = two_groups()
    distance = ptg.Distance("mmd", kernel="rbf", gamma=0.02)
    np.testing.assert_allclose(distance(x + 1e6, y + 1e6), distance(x, y), rtol=1e-9)


def test_means_are_numpy_s_under_any_name() -> None:
    x, y = two_groups()
    found = {ptg.Distance("mse", agg_fct=function)(x, y) for function in ("mean", np.mean)}
    assert found == {ptg.Distance("mse")(x, y)}
    own = ptg.Distance("mse", agg_fct=lambda cells, axis: cells.mean(axis=axis))(x, y)
    np.testing.assert_allclose(own, found.pop(), rtol=1e-12)


def test_a_gpu_metric_is_asked_of_a_gpu_only_where_there_is_use_for_it() -> None:
    on_cpu = make_metric("nb_ll", {})
    assert on_cpu.device(None) == on_cpu.device("auto") == on_cpu.device("cpu") == "cpu"
    with pytest.warns(UserWarning, match="nb_ll is computed on the CPU"):
        assert on_cpu.device("cuda:1") == "cpu"
    assert make_metric("ks_test", {}).device("cuda:1") == "cuda:1"
    assert make_metric("ks_test", {}).device(None) is None
