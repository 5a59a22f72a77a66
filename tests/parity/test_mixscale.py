"""mixscale on Papalexi et al. (2021) against pertpy 1.4."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

import ptg

MODES = {"nn_exact": {"use_rep": "X_pca"}, "split_by": {"ref_selection_mode": "split_by"}}


@pytest.fixture(scope="module", params=list(MODES))
def signed(
    request: pytest.FixtureRequest, reference: Path, papalexi: Callable[[], ad.AnnData]
) -> tuple[str, ad.AnnData, pd.DataFrame]:
    adata = papalexi()
    adata.X = sp.csr_matrix(adata.X).astype(np.float64)
    options: dict[str, Any] = MODES[request.param]
    ptg.Mixscale().perturbation_signature(adata, "perturbation", "NT", split_by="replicate", **options)
    expected = pd.read_csv(reference / "golden" / "mixscape" / "pertpy_cells.csv.gz", index_col=0)
    return request.param, adata, expected.loc[adata.obs_names]


def check(found: pd.Series, expected: pd.Series, is_control: Any) -> None:
    """Scored cells agree; pertpy gives cells that it cannot score 1, ptg 0; controls have 0 in both."""
    unscored = (expected == 1.0).to_numpy()
    scored = ~unscored & ~is_control
    assert scored.sum() > 4000
    assert np.corrcoef(found[scored], expected[scored])[0, 1] >= 0.9999
    np.testing.assert_allclose(found[scored], expected[scored], rtol=1e-8, atol=1e-9)
    assert (found[~scored] == 0).all()


def test_scores_equal_pertpy(signed: tuple[str, ad.AnnData, pd.DataFrame]) -> None:
    mode, adata, expected = signed
    ptg.Mixscale().mixscale(adata, "perturbation", "NT")
    check(adata.obs["mixscale_score"], expected[f"{mode}_mixscale"], (adata.obs["perturbation"] == "NT").to_numpy())


@pytest.mark.parametrize("signed", ["split_by"], indirect=True)
def test_scores_per_replicate_equal_pertpy(signed: tuple[str, ad.AnnData, pd.DataFrame]) -> None:
    _, adata, expected = signed
    ptg.Mixscale().mixscale(adata, "perturbation", "NT", split_by="replicate", new_class_name="s")
    check(adata.obs["s"], expected["split_by_mixscale_per_replicate"], (adata.obs["perturbation"] == "NT").to_numpy())


def test_numbers_of_markers_equal_pertpy(signed: tuple[str, ad.AnnData, pd.DataFrame], reference: Path) -> None:
    _, adata, _ = signed
    ptg.Mixscale().mixscale(adata, "perturbation", "NT")
    expected = json.loads((reference / "golden" / "mixscape" / "meta.json").read_text())["mixscale_n_genes"]
    assert {target: len(genes) for target, genes in adata.uns["mixscale_de_genes"].items()} == expected
