"""The signature of Papalexi et al. (2021) against pertpy 1.4 with an exact neighbour search."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pytest
from tests.support import signature_columns

from ptg.execute import open_run
from ptg.mixscape.signature import perturbation_signature

MODES: dict[str, dict[str, Any]] = {
    "X_pert_nn_exact": {"use_rep": "X_pca", "n_neighbors": 20, "n_dims": 15},
    "X_pert_split_by": {"ref_selection_mode": "split_by"},
}


@pytest.fixture(scope="module")
def stored(papalexi: Callable[[], ad.AnnData]) -> ad.AnnData:
    """The cells as stored: float32."""
    return papalexi()


@pytest.fixture(scope="module")
def expected(reference: Path) -> dict[str, np.ndarray]:
    with np.load(reference / "golden" / "mixscape" / "X_pert_300cells.npz", allow_pickle=True) as file:
        return dict(file)


def in_float64(adata: ad.AnnData, *, dense: bool = False) -> ad.AnnData:
    other = adata.copy()
    other.X = other.X.toarray().astype(np.float64) if dense else other.X.astype(np.float64)
    return other


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dense", [False, True])
def test_layer_equals_pertpy(mode: str, dense: bool, stored: ad.AnnData, expected: dict[str, np.ndarray]) -> None:
    adata = in_float64(stored, dense=dense)
    assert adata.var_names.tolist() == expected["genes"].tolist()
    perturbation_signature(adata, "perturbation", "NT", split_by="replicate", **MODES[mode])
    rows = adata.obs_names.get_indexer(expected["cells"])
    np.testing.assert_allclose(adata.layers["X_pert"][rows], expected[mode], rtol=0, atol=1e-12)


@pytest.mark.parametrize("mode", MODES)
def test_graph_gives_the_same_columns(mode: str, stored: ad.AnnData, expected: dict[str, np.ndarray]) -> None:
    adata = in_float64(stored)
    perturbation_signature(adata, "perturbation", "NT", split_by="replicate", output="graph", **MODES[mode])
    rows, genes = adata.obs_names.get_indexer(expected["cells"]), np.arange(7, 298, 13)
    with open_run("test") as run:
        found = signature_columns(adata, rows, genes, run=run)
    np.testing.assert_allclose(found, expected[mode][:, genes], rtol=0, atol=1e-12)


@pytest.mark.parametrize("mode", MODES)
def test_float32_is_as_good_as_its_rounding(mode: str, stored: ad.AnnData, expected: dict[str, np.ndarray]) -> None:
    """Half a unit in the last place of x and of the result, for |x| below 8; and expm1 in float32."""
    result = perturbation_signature(stored, "perturbation", "NT", split_by="replicate", copy=True, **MODES[mode])
    rows = stored.obs_names.get_indexer(expected["cells"])
    found = result.layers["X_pert"]
    assert found.dtype == np.float32
    np.testing.assert_allclose(found[rows], expected[mode], rtol=0, atol=1e-6)
