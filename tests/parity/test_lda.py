"""lda on Papalexi et al. (2021) against pertpy 1.4."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pytest
import scipy.sparse as sp

import ptg

MODES = {"nn_exact": {"use_rep": "X_pca"}, "split_by": {"ref_selection_mode": "split_by"}}


@pytest.mark.parametrize("dense", [False, True], ids=["sparse", "dense"])
@pytest.mark.parametrize("mode", list(MODES))
def test_coordinates_equal_pertpy_up_to_signs(
    mode: str, dense: bool, reference: Path, papalexi: Callable[[], ad.AnnData]
) -> None:
    adata = papalexi()
    adata.X = sp.csr_matrix(adata.X).astype(np.float64)
    if dense:
        adata.X = adata.X.toarray()
    mixscape = ptg.Mixscape()
    options: dict[str, Any] = MODES[mode]
    mixscape.perturbation_signature(adata, "perturbation", "NT", split_by="replicate", **options)
    mixscape.mixscape(adata, "perturbation", "NT")
    mixscape.lda(adata, "perturbation", "NT")
    expected = np.load(reference / "golden" / "mixscape" / f"lda_{mode}.npz", allow_pickle=True)
    assert adata.uns["mixscape_lda_cells"].tolist() == expected["cells"].tolist()
    found = adata.uns["mixscape_lda"]
    assert found.shape == expected["embedding"].shape
    signs = np.sign((found * expected["embedding"]).sum(axis=0))
    scale = np.abs(expected["embedding"]).max(axis=0)
    assert (np.abs(found * signs - expected["embedding"]).max(axis=0) <= 1e-6 * scale).all()
