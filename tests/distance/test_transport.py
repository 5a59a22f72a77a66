"""The metrics that transport cells: values, options, diagnostics and warnings."""

from __future__ import annotations

import warnings
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from tests.contract.test_sinkhorn import slow_deviation, slow_transport

import ptg
from ptg.data import InputError

TIGHT = {"tol": 1e-8}


def uniform(cells: np.ndarray) -> np.ndarray:
    return np.full(len(cells), 1.0 / len(cells))


def slow_wasserstein(x: np.ndarray, y: np.ndarray, *, scale: float = 0.05, epsilon: float | None = None) -> float:
    masses = uniform(x), uniform(y)
    return slow_transport(x, y, *masses, scale * slow_deviation(x, y, *masses) if epsilon is None else epsilon)


def slow_divergence(x: np.ndarray, y: np.ndarray) -> float:
    epsilon = 0.05 * slow_deviation(x, y, uniform(x), uniform(y))
    between, within_x, within_y = (slow_wasserstein(a, b, epsilon=epsilon) for a, b in ((x, y), (x, x), (y, y)))
    return between - (within_x + within_y) / 2


DEFINITIONS = {
    "default": ("wasserstein", {}, slow_wasserstein),
    "epsilon": ("wasserstein", {"epsilon": 3.0}, lambda x, y: slow_wasserstein(x, y, epsilon=3.0)),
    "epsilon_scale": ("wasserstein", {"epsilon_scale": 0.2}, lambda x, y: slow_wasserstein(x, y, scale=0.2)),
    "relaxation": ("wasserstein", {"relaxation": 1.3}, slow_wasserstein),
    "divergence": ("sinkhorn_divergence", {}, slow_divergence),
}


def two_groups(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.poisson(1.0, (23, 8)).astype(float), rng.poisson(1.6, (31, 8)).astype(float)


def groups_of(sizes: list[int], seed: int = 0) -> ad.AnnData:
    rng = np.random.default_rng(seed)
    labels = np.repeat([f"g{i}" for i in range(len(sizes))], sizes)
    cells = rng.standard_normal((len(labels), 6)) + np.repeat(rng.standard_normal((len(sizes), 6)), sizes, axis=0)
    obs = pd.DataFrame({"group": pd.Categorical(labels)}, index=np.arange(len(labels)).astype(str))
    return ad.AnnData(obs=obs, obsm={"X_pca": cells})


@pytest.mark.parametrize("name", DEFINITIONS)
@pytest.mark.parametrize("layout", [np.asarray, sp.csr_matrix])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_value(name: str, layout: Any, dtype: type) -> None:
    metric, options, definition = DEFINITIONS[name]
    x, y = two_groups()
    distance = ptg.Distance(metric, tol=1e-7, **options)
    for a, b in ((x, y), (y, x)):
        found = distance(layout(a.astype(dtype)), layout(b.astype(dtype)))
        np.testing.assert_allclose(found, definition(a, b), rtol=1e-8 if dtype == np.float64 else 1e-5)


def test_diagnostics_have_a_row_for_each_pair() -> None:
    adata, distance = groups_of([20, 1, 9]), ptg.Distance("wasserstein")
    assert distance.diagnostics is None
    distance.pairwise(adata, "group")
    table = distance.diagnostics
    assert table is not None
    assert list(table.columns) == ["X", "Y", "epsilon", "n_iterations", "marginal_error", "converged"]
    assert table[["X", "Y"]].to_numpy().tolist() == [["g0", "g1"], ["g0", "g2"], ["g1", "g2"]]
    cells = [adata.obsm["X_pca"][adata.obs["group"] == name] for name in ("g0", "g2")]
    deviation = slow_deviation(*cells, *map(uniform, cells))
    np.testing.assert_allclose(table["epsilon"][1], 0.05 * deviation, rtol=1e-12)
    assert table["converged"].all()
    assert (table["n_iterations"] > 0).all()
    distance.onesided_distances(adata, "group", "g1")
    assert distance.diagnostics is not None
    assert len(distance.diagnostics) == 2


def test_diagnostics_of_a_bootstrap_are_the_worst_of_its_draws() -> None:
    adata = groups_of([20, 12])
    distance = ptg.Distance("sinkhorn_divergence")
    distance.pairwise(adata, "group", bootstrap=True, n_bootstrap=40)
    drawn = distance.diagnostics
    distance.pairwise(adata, "group")
    plain = distance.diagnostics
    assert drawn is not None
    assert plain is not None
    assert len(drawn) == len(plain) == 1
    assert drawn["n_iterations"][0] >= plain["n_iterations"][0]
    assert 0.5 < drawn["epsilon"][0] / plain["epsilon"][0] < 1.5  # a mean, not a sum


def test_other_metrics_have_no_diagnostics() -> None:
    distance = ptg.Distance("mse")
    distance.pairwise(groups_of([5, 4]), "group")
    assert distance.diagnostics is None


def test_unfinished_pairs_are_listed_in_one_warning() -> None:
    adata = groups_of([60, 50, 40])
    distance = ptg.Distance("wasserstein", max_iter=2)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = distance.pairwise(adata, "group")
    assert len(caught) == 1
    text = str(caught[0].message)
    assert all(words in text for words in ("3 wasserstein", "g0 and g1", "g1 and g2", "max_iter", "diagnostics"))
    assert caught[0].filename == __file__
    table = distance.diagnostics
    assert table is not None
    assert not table["converged"].any()
    converged = ptg.Distance("wasserstein").pairwise(adata, "group")
    off_diagonal = ~np.eye(3, dtype=bool)
    assert (found.to_numpy()[off_diagonal] < converged.to_numpy()[off_diagonal]).all()  # reported, not replaced
    np.testing.assert_allclose(found, converged, rtol=0.2)


@pytest.mark.parametrize("max_iter", [2000, 2])
def test_permutations_that_are_not_finished_are_counted(max_iter: int) -> None:
    adata = groups_of([20, 15])
    test = ptg.DistanceTest("wasserstein", n_perms=20, obsm_key="X_pca", max_iter=max_iter)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        table = test(adata, "group", "g0")
    assert np.isfinite(table["distance"]).all()
    texts = [str(warning.message) for warning in caught]
    if max_iter == 2000:
        assert texts == []
    else:
        observed, permuted = texts
        assert "g0 and g1" in observed
        assert "of 21 wasserstein value(s) for permuted labels have not converged" in permuted


def test_divergence_of_equal_samples_is_zero() -> None:
    x, _ = two_groups()
    rng = np.random.default_rng(0)
    divergence = ptg.Distance("sinkhorn_divergence")
    assert divergence(x, x.copy()) == 0
    scale = 2 * x.var(0).sum()
    np.testing.assert_allclose(divergence(x, x[rng.permutation(len(x))]), 0, atol=1e-6 * scale)
    assert divergence(x, x + 1.0) == pytest.approx(x.shape[1])  # a shift by s costs |s|²


def test_resamples_are_what_they_would_be_if_spelled_out() -> None:
    """The mean over draws is that of the distances of the resampled cells."""
    adata = groups_of([12, 9])
    x, y = (adata.obsm["X_pca"][adata.obs["group"] == name] for name in ("g0", "g1"))
    mean, variance = ptg.Distance("wasserstein", **TIGHT).bootstrap(x, y, n_bootstrap=300)
    rng = np.random.default_rng(0)
    drawn = [slow_wasserstein(x[rng.integers(0, 12, 12)], y[rng.integers(0, 9, 9)]) for _ in range(100)]
    assert abs(mean - np.mean(drawn)) < 4 * np.std(drawn) * np.sqrt(1 / 100 + 1 / 300)
    assert 0.5 < variance / np.var(drawn) < 2


BAD_OPTIONS = {
    "epsilon": [0, -1.0, "a", np.inf, np.nan, True],
    "epsilon_scale": [0, None, -0.1],
    "tol": [0.0, None, "1e-3"],
    "max_iter": [0, 1.5, None],
    "relaxation": [0, 2, 2.5, None],
}


@pytest.mark.parametrize("metric", ["wasserstein", "sinkhorn_divergence"])
@pytest.mark.parametrize(
    ("option", "value"), [(name, value) for name, values in BAD_OPTIONS.items() for value in values]
)
def test_bad_options(metric: str, option: str, value: object) -> None:
    with pytest.raises(InputError, match=rf"Distance.__init__: {option}=.* Pass a"):
        ptg.Distance(metric, **{option: value})
