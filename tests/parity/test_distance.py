"""Distances on the Papalexi cells against pertpy's and against exact recomputation; tolerances are the project's."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from tests.support import PAIR_METRICS

import ptg

CONTROL = "NT"


@pytest.fixture(scope="module")
def folder(reference: Path) -> Path:
    return reference / "golden" / "distances"


@pytest.fixture(scope="module")
def stored(papalexi: Callable[[], ad.AnnData]) -> ad.AnnData:
    """The cells as stored: float32."""
    return papalexi()


@pytest.fixture(scope="module")
def exact(stored: ad.AnnData) -> ad.AnnData:
    """The same cells in float64."""
    return ad.AnnData(obs=stored.obs, obsm={"X_pca": stored.obsm["X_pca"].astype(np.float64)})


@pytest.fixture(scope="module")
def pairs(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "edistance_allpairs_V_U.csv")


ESTIMATORS = {"biased": "edistance_V", "unbiased": "edistance_U"}


def of_pairs(square: pd.DataFrame, pairs: pd.DataFrame) -> np.ndarray:
    rows, columns = square.index.get_indexer(pairs["group_a"]), square.columns.get_indexer(pairs["group_b"])
    return square.to_numpy()[rows, columns]


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_edistance_all_groups_float64(exact: ad.AnnData, pairs: pd.DataFrame, estimator: str) -> None:
    square = ptg.Distance(estimator=estimator).pairwise(exact, "perturbation")
    assert square.shape == (26, 26)
    assert len(pairs) == 26 * 25 // 2
    np.testing.assert_allclose(of_pairs(square, pairs), pairs[ESTIMATORS[estimator]], rtol=1e-10)
    assert np.array_equal(square, square.T)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_edistance_all_groups_float32(stored: ad.AnnData, pairs: pd.DataFrame, estimator: str) -> None:
    assert stored.obsm["X_pca"].dtype == np.float32
    square = ptg.Distance(estimator=estimator).pairwise(stored, "perturbation")
    error = np.abs(of_pairs(square, pairs) - pairs[ESTIMATORS[estimator]])
    assert (error <= 1e-6 * pairs["mean_between"]).all()


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_edistance_to_control(exact: ad.AnnData, folder: Path, estimator: str) -> None:
    expected = pd.read_csv(folder / "edistance_onesided_NT.csv", index_col="group")
    groups = list(expected.index)
    found = ptg.Distance(estimator=estimator).onesided_distances(exact, "perturbation", CONTROL, groups=groups)
    assert list(found.index) == groups
    np.testing.assert_allclose(found, expected[f"{ESTIMATORS[estimator]}_brute"], rtol=1e-10)
    if estimator == "biased":
        np.testing.assert_allclose(found, expected["edistance_pertpy"], rtol=1e-10)


@pytest.mark.parametrize("metric", sorted(set(PAIR_METRICS) - {"nb_ll"}))
def test_sparse_and_dense_expression_agree(stored: ad.AnnData, metric: str) -> None:
    """The log-normalised expression from X (sparse) and a dense layer, of genes that many cells express."""
    common = np.flatnonzero(np.asarray((stored.X > 0).mean(axis=0)).ravel() > 0.5)[:20]
    some = stored[stored.obs["perturbation"].isin([CONTROL, "SPI1", "MYC"]), common].copy()
    some.X = sp.csr_matrix(some.X.astype(np.float64))
    some.layers["dense"] = some.X.toarray()
    options = {"tol": 1e-8} if metric == "classifier_proba" else {}
    sparse, dense = (
        ptg.Distance(metric, layer_key=key, **options).pairwise(some, "perturbation").to_numpy()
        for key in ("X", "dense")
    )
    np.testing.assert_allclose(sparse, dense, rtol=1e-5 if options else 1e-10)
    assert (sparse[~np.eye(3, dtype=bool)] > 0).all()


def test_bootstrap_to_control_is_centred_on_the_biased_distance(exact: ad.AnnData, pairs: pd.DataFrame) -> None:
    """Two cells of a resample are the same with probability 1/n: n(n-1) of its n² pairs count, as in the V form."""
    groups = ["IFNGR2", "STAT1", "SPI1"]
    means, variances = ptg.Distance().onesided_distances(
        exact, "perturbation", CONTROL, groups=groups, bootstrap=True, n_bootstrap=100
    )
    to_control = pairs[pairs["group_a"] == CONTROL].set_index("group_b").loc[groups]
    standard_error = np.sqrt(variances / 100)
    assert (standard_error > 0).all()
    assert (np.abs(means - to_control["edistance_V"]) < 4 * standard_error).all()


@pytest.fixture(scope="module")
def transport(folder: Path) -> tuple[list[str], pd.DataFrame, pd.DataFrame]:
    """Groups, converged costs (OTT in float64 with a threshold of 1e-11), and what its solver reported."""
    groups = json.loads((folder / "meta.json").read_text())["groups"]
    costs = pd.read_csv(folder / "wasserstein_x64_tight.csv", index_col=0).loc[groups, groups]
    return groups, costs, pd.read_csv(folder / "wasserstein_x64_tight_solver.csv")


@pytest.mark.parametrize("precision", ["exact", "stored"])
def test_wasserstein(
    precision: str, transport: tuple[list[str], pd.DataFrame, pd.DataFrame], request: pytest.FixtureRequest
) -> None:
    groups, costs, solver = transport
    distance = ptg.Distance("wasserstein")
    adata = request.getfixturevalue(precision)
    found = distance.pairwise(adata, "perturbation", groups=groups)
    np.testing.assert_allclose(found, costs, rtol={"exact": 1e-6, "stored": 1e-4}[precision])
    diagnostics = distance.diagnostics
    assert diagnostics is not None
    assert diagnostics[["X", "Y"]].to_numpy().tolist() == solver[["group_a", "group_b"]].to_numpy().tolist()
    np.testing.assert_allclose(diagnostics["epsilon"], solver["epsilon"], rtol=1e-10)
    assert diagnostics["converged"].all()
    assert (diagnostics["marginal_error"] <= 1e-5).all()
    one = distance.onesided_distances(adata, "perturbation", CONTROL, groups=groups)
    assert np.array_equal(one, found[CONTROL])


def test_wasserstein_to_the_last_digits(
    exact: ad.AnnData, transport: tuple[list[str], pd.DataFrame, pd.DataFrame]
) -> None:
    groups, costs, _ = transport
    found = ptg.Distance("wasserstein", tol=1e-8).pairwise(exact, "perturbation", groups=groups)
    np.testing.assert_allclose(found, costs, rtol=1e-12)


def test_sinkhorn_divergence_of_halves_of_the_controls_is_near_zero(exact: ad.AnnData) -> None:
    """Where the transport cost of the same halves is 20."""
    cells = exact.obsm["X_pca"][(exact.obs["perturbation"] == CONTROL).to_numpy()][:800]
    between = ptg.Distance("wasserstein")(cells[::2], cells[1::2])
    divergence = ptg.Distance("sinkhorn_divergence")(cells[::2], cells[1::2])
    assert 0 < divergence < between
