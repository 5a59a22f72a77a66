"""Shapes, names and order of the results; and that all entry points give the same number for the same pair."""

from __future__ import annotations

import warnings

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from tests.support import PAIR_METRICS, assert_unchanged, cells_for, distance_of, snapshot

import ptg
from ptg.distance.metrics import available

GROUPS = ["A", "B", "C", "NT"]


@pytest.mark.parametrize("metric", PAIR_METRICS)
def test_pairwise(screen: ad.AnnData, metric: str) -> None:
    before = snapshot(screen)
    distance = distance_of(metric)
    cells = {group: cells_for(metric, screen, (screen.obs["perturbation"] == group).to_numpy()) for group in GROUPS}
    found = distance.pairwise(screen, "perturbation")
    assert isinstance(found, pd.DataFrame)
    assert list(found.index) == list(found.columns) == GROUPS
    assert found.index.name == found.columns.name == "perturbation"
    assert found.name == f"pairwise {metric}"
    assert (np.diag(found) == 0).all()
    for a in GROUPS:
        for b in GROUPS:
            if a != b:
                np.testing.assert_allclose(found.loc[a, b], distance(cells[a], cells[b]), rtol=1e-5)
    assert_unchanged(screen, before)


@pytest.mark.parametrize("metric", PAIR_METRICS)
def test_onesided_is_a_column_of_pairwise(screen: ad.AnnData, metric: str) -> None:
    distance = distance_of(metric)
    square = distance.pairwise(screen, "perturbation")
    found = distance.onesided_distances(screen, "perturbation", "NT")
    assert isinstance(found, pd.Series)
    assert list(found.index) == GROUPS
    assert found.index.name == "perturbation"
    assert found.name == f"{metric} to NT"
    assert found["NT"] == 0
    np.testing.assert_allclose(found, square["NT"], rtol=1e-12)


def test_onesided_groups_as_given(screen: ad.AnnData) -> None:
    screen.obsm["X_pca"] = screen.obsm["X_pca"].astype(float)
    distance = ptg.Distance()
    every = distance.onesided_distances(screen, "perturbation", "NT")
    without = distance.onesided_distances(screen, "perturbation", "NT", groups=["C", "A"])
    assert list(without.index) == ["C", "A"]
    np.testing.assert_allclose(without, every[["C", "A"]], rtol=1e-10)
    within = distance.onesided_distances(screen, "perturbation", "NT", groups=["NT", "B"])
    assert within["NT"] == 0


def test_several_controls(screen: ad.AnnData) -> None:
    distance = ptg.Distance("r2_distance")
    square = distance.pairwise(screen, "perturbation")
    found = distance.onesided_distances(screen, "perturbation", ["NT", "A"], groups=["B", "A"])
    assert list(found.index) == ["B", "A"]
    assert list(found.columns) == ["NT", "A"]
    assert found.index.name == "perturbation"
    assert found.columns.name == "selected_group"
    np.testing.assert_allclose(found, square.loc[["B", "A"], ["NT", "A"]], rtol=1e-12)
    single = distance.onesided_distances(screen, "perturbation", ("NT",))
    assert isinstance(single, pd.DataFrame)


def test_bootstrap_results_have_the_shape_of_the_plain_ones(screen: ad.AnnData) -> None:
    distance = ptg.Distance("mse")
    means, variances = distance.pairwise(screen, "perturbation", bootstrap=True, n_bootstrap=3)
    assert means.name == "pairwise mse"
    assert variances.name == "pairwise mse variance"
    for table in (means, variances):
        assert list(table.index) == list(table.columns) == GROUPS
        assert (np.diag(table) == 0).all()
        assert np.array_equal(table, table.T)
    means, variances = distance.onesided_distances(screen, "perturbation", "NT", bootstrap=True, n_bootstrap=3)
    assert means.name == "mse to NT"
    assert variances.name == "pairwise mse variance to NT"
    assert means["NT"] == variances["NT"] == 0
    tables = distance.onesided_distances(screen, "perturbation", ["NT", "C"], bootstrap=True, n_bootstrap=3)
    assert [list(table.columns) for table in tables] == [["NT", "C"]] * 2


def test_distances_without_one_warning(screen: ad.AnnData) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ptg.Distance().pairwise(screen, "perturbation", show_progressbar=False, multi_gpu=[0])


def test_groups_of_one_cell_are_listed_once(screen: ad.AnnData) -> None:
    labels = screen.obs["perturbation"].astype(object)
    labels.iloc[[5, 6]] = ["single1", "single2"]
    screen.obs["perturbation"] = labels
    with pytest.warns(UserWarning, match="'single1', 'single2' have one cell") as caught:
        found = ptg.Distance().pairwise(screen, "perturbation")
    assert len(caught) == 1
    others = ["A", "B", "C", "NT"]
    assert found.loc[others, others].notna().all(axis=None)
    assert found["single1"].isna().sum() == 5
    assert (np.diag(found) == 0).all()
    with pytest.warns(UserWarning, match="'single1', 'single2' have one cell"):
        ptg.Distance().onesided_distances(screen, "perturbation", "NT", bootstrap=True, n_bootstrap=2)
    assert ptg.Distance(estimator="biased").pairwise(screen, "perturbation").notna().all(axis=None)


SOURCES = {
    "X sparse": ({"layer_key": "X"}, lambda adata: adata.X.toarray()),
    "layer": ({"layer_key": "counts"}, lambda adata: adata.layers["counts"].toarray()),
    "csc layer": ({"layer_key": "csc"}, lambda adata: adata.layers["counts"].toarray()),
    "dense layer": ({"layer_key": "dense"}, lambda adata: adata.layers["counts"].toarray()),
    "obsm": ({"obsm_key": "X_pca"}, lambda adata: adata.obsm["X_pca"]),
    "DataFrame": ({"obsm_key": "frame"}, lambda adata: adata.obsm["X_pca"]),
    "default": ({}, lambda adata: adata.obsm["X_pca"]),
}


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("metric", available())
def test_where_the_cells_come_from(screen: ad.AnnData, source: str, metric: str) -> None:
    screen.layers["counts"] = screen.layers["overdispersed"]
    screen.layers["csc"] = sp.csc_matrix(screen.layers["counts"])
    screen.layers["dense"] = screen.layers["counts"].toarray()
    screen.obsm["frame"] = pd.DataFrame(screen.obsm["X_pca"], index=screen.obs_names)
    keys, matrix = SOURCES[source]
    if available()[metric].needs == "counts" and "layer" not in source:  # there are no counts
        return
    screen = screen[:, :20].copy()  # fewer genes than cells in a group, for those who need that
    options = {"tol": 1e-8, "max_iter": 10_000} if metric.startswith("classifier") else {}
    found = ptg.Distance(metric, **keys, **options).onesided_distances(screen, "perturbation", "NT")
    plain = ad.AnnData(obs=screen.obs, obsm={"X_pca": matrix(screen).astype(float)})
    expected = ptg.Distance(metric, **options).onesided_distances(plain, "perturbation", "NT")
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_attributes() -> None:
    distance = ptg.Distance("edistance", None, "X_umap")
    assert (distance.metric, distance.layer_key, distance.obsm_key) == ("edistance", None, "X_umap")
    distance = ptg.Distance(layer_key="X")
    assert (distance.layer_key, distance.obsm_key) == ("X", None)
    assert ptg.Distance().obsm_key == "X_pca"


@pytest.mark.parametrize("kind", ["int", "bool", "string", "unordered object"])
def test_label_types(screen: ad.AnnData, kind: str) -> None:
    raw = np.arange(240) % 2
    labels = {
        "int": raw,
        "bool": raw == 1,
        "string": pd.array(raw.astype(str), dtype="string"),
        "unordered object": np.array(["x" if one else 7 for one in raw], dtype=object),
    }
    screen.obs["label"] = labels[kind]
    found = ptg.Distance("euclidean").pairwise(screen, "label")
    means = [screen.obsm["X_pca"][raw == i].mean(0) for i in (0, 1)]
    np.testing.assert_allclose(found.iloc[0, 1], np.linalg.norm(means[0] - means[1]), rtol=1e-4)
    control = found.index[0]
    assert ptg.Distance().onesided_distances(screen, "label", control).name == f"edistance to {control}"


def test_a_group_called_name(screen: ad.AnnData) -> None:
    """An attribute of a DataFrame must not be taken for its column."""
    expected = ptg.Distance("mse").pairwise(screen, "perturbation")
    screen.obs["perturbation"] = screen.obs["perturbation"].cat.rename_categories({"B": "name"})
    found = ptg.Distance("mse").pairwise(screen, "perturbation")
    np.testing.assert_array_equal(found, expected)
    assert found.loc["A", "name"] == expected.loc["A", "B"]


def test_controls_as_pandas_lists_labels(screen: ad.AnnData) -> None:
    """``obs[...].unique()`` is a Categorical."""
    controls = screen.obs["perturbation"].dropna().unique()[:2]
    found = ptg.Distance("mse").onesided_distances(screen, "perturbation", controls)
    assert list(found.columns) == list(controls)


def test_cells_without_a_label_do_not_count(screen: ad.AnnData) -> None:
    before = ptg.Distance().pairwise(screen, "perturbation")
    screen.obsm["X_pca"][:2] = 1e6  # the two cells without a label
    assert before.equals(ptg.Distance().pairwise(screen, "perturbation"))


def test_one_group_alone(screen: ad.AnnData) -> None:
    assert ptg.Distance().pairwise(screen, "perturbation", groups=["A"]).to_numpy().tolist() == [[0.0]]
    assert ptg.Distance().onesided_distances(screen, "perturbation", "A", groups=["A"]).tolist() == [0.0]


def test_mixed_arrays() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.poisson(rng.exponential(3.0, (20, 1)), (20, 4)), rng.poisson(rng.exponential(1.0, (20, 1)), (20, 4))
    for metric in PAIR_METRICS:
        expected = ptg.Distance(metric)(x, y)
        assert ptg.Distance(metric)(sp.csr_matrix(x), y.astype(np.float32)) == pytest.approx(expected, rel=1e-12)
