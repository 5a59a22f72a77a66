"""mixscape on Papalexi et al. (2021) against pertpy 1.4, a converged classifier, and Seurat 4.3."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

import ptg
from ptg.mixscape import classify
from ptg.mixscape.selection import SelectAsSeurat, select_as_pertpy

MODES = {"nn_exact": {"use_rep": "X_pca"}, "split_by": {"ref_selection_mode": "split_by"}}


@pytest.fixture(scope="module")
def expression(papalexi: Callable[[], ad.AnnData]) -> ad.AnnData:
    adata = papalexi()
    adata.X = sp.csr_matrix(adata.X).astype(np.float64)
    return adata


@pytest.fixture(scope="module", params=list(MODES))
def classified(request: pytest.FixtureRequest, expression: ad.AnnData) -> tuple[str, ad.AnnData]:
    adata = expression.copy()
    mixscape = ptg.Mixscape()
    mixscape.perturbation_signature(adata, "perturbation", "NT", split_by="replicate", **MODES[request.param])
    mixscape.mixscape(adata, "perturbation", "NT")
    return request.param, adata


def read_table(reference: Path, name: str, adata: ad.AnnData) -> pd.DataFrame:
    return pd.read_csv(reference / "golden" / name, index_col=0).loc[adata.obs_names]


def differences(adata: ad.AnnData, classes: Any, posterior: Any) -> tuple[float, float]:
    """Share of perturbed cells with another class, and the largest difference of the posterior."""
    carry_guide = (adata.obs["perturbation"] != "NT").to_numpy()
    other = adata.obs["mixscape_class"].astype(str).to_numpy() != np.asarray(classes)
    return float(other[carry_guide].mean()), float(
        np.abs(adata.obs["mixscape_class_p_ko"] - np.asarray(posterior)).max()
    )


def test_classes_and_posteriors_equal_pertpy(classified: tuple[str, ad.AnnData], reference: Path) -> None:
    mode, adata = classified
    expected = read_table(reference, "mixscape/pertpy_cells.csv.gz", adata)
    other, furthest = differences(adata, expected[f"{mode}_class"], expected[f"{mode}_p_ko"])
    assert other <= 0.005
    assert furthest <= 1e-3
    found = adata.obs["mixscape_class_global"].astype(str).to_numpy()
    assert (found != expected[f"{mode}_class_global"].to_numpy()).mean() <= 0.005


def test_first_scores_equal_pertpy(classified: tuple[str, ad.AnnData], reference: Path) -> None:
    mode, adata = classified
    expected = read_table(reference, "mixscape/pertpy_cells.csv.gz", adata)[f"{mode}_pvec_first_iteration"]
    scores = adata.uns["mixscape"]
    assert len(scores) == 7
    for target, by_split in scores.items():
        frame = by_split["all"]
        own = frame.loc[frame["perturbation"] == target, "pvec"]
        np.testing.assert_allclose(own, expected[own.index], rtol=1e-9, atol=1e-10)
        assert (frame["perturbation"] == "NT").sum() == 1000


def test_converged_mixture_equals_the_converged_classifier(expression: ad.AnnData, reference: Path) -> None:
    adata = expression.copy()
    mixscape = ptg.Mixscape()
    mixscape.perturbation_signature(adata, "perturbation", "NT", split_by="replicate", use_rep="X_pca")
    mixscape.mixscape(adata, "perturbation", "NT", tol=1e-12, max_iter=100_000, reg_covar=0.0)
    expected = read_table(reference, "mixscape/own_converged_cells.csv.gz", adata)
    found = adata.obs["mixscape_class_global"].astype(str).to_numpy()
    assert (found == expected["converged_weights_class_global"].to_numpy()).all()
    np.testing.assert_allclose(adata.obs["mixscape_class_p_ko"], expected["converged_weights_p_ko"], atol=1e-3)


@pytest.mark.parametrize(
    ("select", "table", "column"),
    [
        # The reference run handed Seurat data of unknown origin, of which it takes means as they are.
        (SelectAsSeurat(of_counts=False), "seurat/seurat_cells.csv.gz", "LR_"),
        (select_as_pertpy, "seurat/seurat_cells_pertpy_genes.csv.gz", ""),
    ],
    ids=["Seurat's genes", "pertpy's genes"],
)
def test_seurat_flavor_equals_seurat(
    select: Any, table: str, column: str, expression: ad.AnnData, reference: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flavor = dataclasses.replace(classify.FLAVORS["seurat"], select=select)
    monkeypatch.setitem(classify.FLAVORS, "seurat", flavor)
    adata = expression.copy()
    mixscape = ptg.Mixscape()
    mixscape.perturbation_signature(adata, "perturbation", "NT", split_by="replicate", use_rep="X_pca")
    mixscape.mixscape(adata, "perturbation", "NT", flavor="seurat")
    expected = read_table(reference, table, adata)
    other, furthest = differences(adata, expected[f"{column}class"], expected[f"{column}p_ko"])
    assert other == 0
    assert furthest <= 1e-3


def test_seurat_markers_equal_seurat(expression: ad.AnnData, reference: Path) -> None:
    from ptg.execute import open_run
    from ptg.mixscape.screen import read_screen
    from ptg.mixscape.selection import Expression, MarkerRule, split_markers

    screen = read_screen(expression, "perturbation", "NT", None)
    rule = MarkerRule("wilcoxon", 1, 0.25, 0.05)
    with open_run("test", device="cpu") as run:
        found = split_markers(
            Expression(expression.X, None, run), screen.whole(), screen.control, rule, SelectAsSeurat(of_counts=False)
        )
    listed = pd.read_csv(reference / "golden" / "seurat" / "seurat_de_genes.csv.gz").query("variant == 'wilcox'")
    expected = listed.groupby("target")["gene"].agg(set).to_dict()
    names = expression.var_names.str.replace("_", "-").to_numpy()
    assert {screen.names[code]: set(names[own.genes]) for code, own in found.items() if len(own.genes)} == expected
