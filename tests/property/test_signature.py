"""Laws of the signature: order of cells and genes, duplicates, shifts of the embedding, known answers."""

from __future__ import annotations

from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support import signature_columns

from ptg.execute import open_run
from ptg.mixscape.signature import perturbation_signature

pytestmark = pytest.mark.filterwarnings("ignore:n_neighbors=:UserWarning")

MODES: list[dict[str, Any]] = [
    {"use_rep": "X_pca", "n_neighbors": 5},
    {"use_rep": "X_pca", "n_neighbors": 5, "split_by": "split"},
    {"ref_selection_mode": "split_by", "split_by": "split"},
]
OVER_MODES = pytest.mark.parametrize("options", MODES)


@st.composite
def screens(draw: st.DrawFn) -> ad.AnnData:
    """10 to 90 cells in one to three splits, each with controls; continuous embedding, so no equal distances."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n_cells, n_genes, n_splits = draw(st.integers(10, 90)), draw(st.integers(1, 12)), draw(st.integers(1, 3))
    x = np.log1p(rng.poisson(draw(st.sampled_from([0.1, 1.0, 20.0])), (n_cells, n_genes))).astype(np.float64)
    labels = rng.choice(["NT", "A", "B"], n_cells, p=[0.4, 0.3, 0.3])
    labels[:n_splits] = "NT"
    split = rng.integers(0, n_splits, n_cells)
    split[:n_splits] = np.arange(n_splits)
    obs = pd.DataFrame({"perturbation": labels, "split": split.astype(str)}, index=[f"cell{i}" for i in range(n_cells)])
    return ad.AnnData(x, obs=obs, obsm={"X_pca": rng.normal(size=(n_cells, 4))})


def sign(adata: ad.AnnData, **options: Any) -> np.ndarray:
    return perturbation_signature(adata, "perturbation", "NT", copy=True, **options).layers["X_pert"]


def close(found: np.ndarray, expected: np.ndarray) -> None:
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-13)


@OVER_MODES
@given(adata=screens(), seed=st.integers(0, 2**32 - 1))
def test_cells_may_come_in_any_order(options: dict[str, Any], adata: ad.AnnData, seed: int) -> None:
    order = np.random.default_rng(seed).permutation(adata.n_obs)
    close(sign(adata[order].copy(), **options), sign(adata, **options)[order])


@OVER_MODES
@given(adata=screens(), seed=st.integers(0, 2**32 - 1))
def test_genes_are_independent(options: dict[str, Any], adata: ad.AnnData, seed: int) -> None:
    genes = np.random.default_rng(seed).permutation(adata.n_vars)[: max(adata.n_vars // 2, 1)]
    np.testing.assert_array_equal(sign(adata[:, genes].copy(), **options), sign(adata, **options)[:, genes])


@OVER_MODES
@given(adata=screens())
def test_perturbed_cells_are_independent(options: dict[str, Any], adata: ad.AnnData) -> None:
    keep = (adata.obs["perturbation"] != "A").to_numpy()
    np.testing.assert_array_equal(sign(adata[keep].copy(), **options), sign(adata, **options)[keep])


@OVER_MODES
@given(adata=screens(), shift=st.sampled_from([0.0, 3.0, 1e3]))
def test_the_embedding_may_be_moved_and_turned(options: dict[str, Any], adata: ad.AnnData, shift: float) -> None:
    expected = sign(adata, **options)
    turned, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(4, 4)))
    adata.obsm["X_pca"] = adata.obsm["X_pca"] @ turned + shift
    close(sign(adata, **options), expected)


@given(adata=screens())
def test_a_split_is_a_screen_of_its_own(adata: ad.AnnData) -> None:
    whole = sign(adata, **MODES[1])
    for name in adata.obs["split"].unique():
        rows = (adata.obs["split"] == name).to_numpy()
        np.testing.assert_array_equal(sign(adata[rows].copy(), **MODES[0]), whole[rows])


@OVER_MODES
@given(adata=screens())
def test_identical_controls_are_the_reference(options: dict[str, Any], adata: ad.AnnData) -> None:
    """Known answer: where all controls are the same cell, the signature is that cell minus each cell."""
    controls = (adata.obs["perturbation"] == "NT").to_numpy()
    adata.X[controls] = adata.X[np.flatnonzero(controls)[0]]
    close(sign(adata, **options), adata.X[np.flatnonzero(controls)[0]] - adata.X)


@given(adata=screens())
def test_one_neighbour_is_the_nearest(adata: ad.AnnData) -> None:
    """Known answer: a cell moved onto a control in the embedding is compared with that control alone."""
    controls = np.flatnonzero(adata.obs["perturbation"] == "NT")
    others = np.flatnonzero(adata.obs["perturbation"] != "NT")
    paired = np.resize(controls, len(others))
    adata.obsm["X_pca"][others] = adata.obsm["X_pca"][paired]
    found = sign(adata, use_rep="X_pca", n_neighbors=1)
    close(found[others], adata.X[paired] - adata.X[others])


@OVER_MODES
@given(adata=screens(), seed=st.integers(0, 2**32 - 1))
def test_graph_and_layer_agree(options: dict[str, Any], adata: ad.AnnData, seed: int) -> None:
    layer = sign(adata, **options)
    perturbation_signature(adata, "perturbation", "NT", output="graph", **options)
    rng = np.random.default_rng(seed)
    rows, genes = rng.integers(0, adata.n_obs, 13), rng.integers(0, adata.n_vars, 5)
    with open_run("test") as run:
        found = signature_columns(adata, rows, genes, run=run)
    np.testing.assert_array_equal(found, layer[np.ix_(rows, genes)])
