"""`Mixscape.lda` on small screens."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from tests.support import small_screen

import ptg


def classified_screen(*, sparse: bool = True, **options: Any) -> ad.AnnData:
    adata = _signed_screen().copy()
    if not sparse:
        adata.X = adata.X.toarray()
    ptg.Mixscape().mixscape(adata, "perturbation", "NT", **options)
    return adata


@cache
def _signed_screen() -> ad.AnnData:
    adata = small_screen()
    ptg.Mixscape().perturbation_signature(adata, "perturbation", "NT", use_rep="X_pca", n_dims=None)
    return adata


def separated(adata: ad.AnnData, **options: Any) -> ad.AnnData:
    ptg.Mixscape().lda(adata, "perturbation", "NT", **options)
    return adata


@pytest.mark.parametrize("sparse", [True, False])
def test_coordinates_follow_the_definition(sparse: bool) -> None:
    adata = separated(classified_screen(sparse=sparse), n_comps=4)
    x = (adata.X.toarray() if sparse else adata.X).astype(np.float64)
    labels = adata.obs["perturbation"].astype(object).to_numpy()
    perturbed = (adata.obs["mixscape_class_global"] == "KO").to_numpy()
    rows = perturbed | (labels == "NT")
    assert adata.uns["mixscape_lda_cells"].tolist() == adata.obs_names[rows].tolist()
    axes = []
    for target in "AB":
        own = x[(perturbed & (labels == target)) | (labels == "NT")]
        axes.append(PCA(4, svd_solver="full").fit((own - own.mean(0)) / own.std(0, ddof=1)).components_.T)
    projected = (x[rows] - x[rows].mean(0)) @ np.concatenate(axes, axis=1)
    expected = LinearDiscriminantAnalysis().fit(projected, labels[rows]).transform(projected)
    found = adata.uns["mixscape_lda"]
    assert found.shape == (rows.sum(), 2)
    # Versions of scikit-learn differ in the scale of all columns.
    expected *= np.sign((expected * found).sum(0)) * np.linalg.norm(found) / np.linalg.norm(expected)
    np.testing.assert_allclose(found, expected, rtol=1e-7, atol=1e-7)


def test_table_says_what_each_target_adds() -> None:
    adata = separated(classified_screen())
    table = adata.uns["mixscape_lda_targets"]
    assert list(table.columns) == ["n_markers", "n_cells", "n_comps", "reason"]
    assert table["n_comps"].tolist() == [10, 10, 0]
    assert table["reason"].tolist() == ["", "", "0 marker genes, fewer than min_de_genes=5"]


def test_components_are_capped_by_cells_and_genes() -> None:
    adata = classified_screen()
    assert separated(adata, n_comps=500).uns["mixscape_lda_targets"]["n_comps"].tolist() == [59, 59, 0]
    assert separated(adata, n_comps=None).uns["mixscape_lda_targets"]["n_comps"].tolist() == [50, 50, 0]


def test_a_target_with_markers_in_one_split_is_used() -> None:
    adata = classified_screen()
    lane = np.array(["x", "y"])[np.arange(240) % 2]
    adata.obs["lane"] = np.where(adata.obs["perturbation"] == "B", "y", lane)
    table = separated(adata, split_by="lane").uns["mixscape_lda_targets"]
    assert (table.loc[["A", "B"], "n_comps"] == 10).all()


def test_results_survive_h5ad_and_copy_leaves_the_original_alone(tmp_path: Path) -> None:
    adata = classified_screen()
    result = ptg.Mixscape().lda(adata, "perturbation", "NT", copy=True)
    assert result is not None
    assert "mixscape_lda" not in adata.uns
    result.write_h5ad(tmp_path / "screen.h5ad")
    back = ad.read_h5ad(tmp_path / "screen.h5ad")
    np.testing.assert_array_equal(back.uns["mixscape_lda"], result.uns["mixscape_lda"])
    assert list(back.uns["mixscape_lda_cells"]) == result.uns["mixscape_lda_cells"].tolist()


def test_other_class_names_and_types() -> None:
    adata = classified_screen(new_class_name="effect", perturbation_type="OE")
    separated(adata, mixscape_class_global="effect_global", perturbation_type="OE")
    assert adata.uns["mixscape_lda"].shape[1] == 2
