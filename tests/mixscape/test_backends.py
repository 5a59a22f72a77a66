"""The whole of Mixscape, Mixscale and lda on a GPU gives what it gives on a CPU."""

from __future__ import annotations

from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from tests.support import BACKENDS, small_screen

import ptg
from ptg import settings

OUTPUTS = [("layer", "nn"), ("graph", "nn"), ("layer", "split_by"), ("graph", "split_by")]


def everything(
    device: str, *, sparse: bool = True, output: str = "layer", mode: str = "nn", **options: Any
) -> ad.AnnData:
    adata = small_screen(sparse=sparse)
    mixscape = ptg.Mixscape(device=device)
    mixscape.perturbation_signature(
        adata,
        "perturbation",
        "NT",
        use_rep="X_pca",
        output=output,
        ref_selection_mode=mode,
        split_by="replicate" if mode == "split_by" else None,
    )
    mixscape.mixscape(adata, "perturbation", "NT", **options)
    mixscape.mixscale(adata, "perturbation", "NT", max_de_genes=9)
    mixscape.lda(adata, "perturbation", "NT", n_comps=3)
    return adata


def assert_same(found: ad.AnnData, expected: ad.AnnData) -> None:
    pd.testing.assert_frame_equal(found.obs, expected.obs, rtol=1e-7, atol=1e-7)
    assert list(found.layers) == list(expected.layers)
    if "X_pert" in expected.layers:
        np.testing.assert_allclose(found.layers["X_pert"], expected.layers["X_pert"], rtol=0, atol=1e-6)
    for key in ("mixscape_targets", "mixscape_lda_targets", "mixscale_targets"):
        pd.testing.assert_frame_equal(found.uns[key], expected.uns[key])
    for key, genes in expected.uns["mixscale_de_genes"].items():
        np.testing.assert_array_equal(found.uns["mixscale_de_genes"][key], genes)
    for name in ("mixscape", "mixscale"):
        assert list(found.uns[name]) == list(expected.uns[name])
        for target, frames in expected.uns[name].items():
            for split, frame in frames.items():
                pd.testing.assert_frame_equal(found.uns[name][target][split], frame, rtol=1e-6, atol=1e-7)
    np.testing.assert_array_equal(found.uns["mixscape_lda_cells"], expected.uns["mixscape_lda_cells"])
    np.testing.assert_allclose(found.uns["mixscape_lda"], expected.uns["mixscape_lda"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("device", BACKENDS[1:])
@pytest.mark.parametrize("sparse", [True, False])
@pytest.mark.parametrize(("output", "mode"), OUTPUTS)
def test_results_are_those_of_the_cpu(device: str, output: str, mode: str, sparse: bool) -> None:
    options = {"output": output, "mode": mode, "sparse": sparse}
    assert_same(everything(device, **options), everything("cpu", **options))


@pytest.mark.parametrize("device", BACKENDS[1:])
@pytest.mark.parametrize(
    "options", [{"flavor": "seurat"}, {"split_by": "replicate"}, {"test_method": "t-test"}, {"test_method": "logreg"}]
)
def test_options(device: str, options: dict[str, Any]) -> None:
    assert_same(everything(device, **options), everything("cpu", **options))


@pytest.mark.parametrize("device", BACKENDS)
@pytest.mark.parametrize(("output", "mode"), OUTPUTS[:2])
def test_little_memory_changes_nothing(device: str, output: str, mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """So little that no matrix stays on the device."""
    from ptg.execute import run

    expected = everything(device, output=output, mode=mode)
    monkeypatch.setattr(type(settings), "resolved_device_memory", lambda *_: 20_000)
    monkeypatch.setattr(type(settings), "resolved_memory", lambda *_: 20_000)
    assert run.settings.resolved_memory() == 20_000
    found = everything(device, output=output, mode=mode)
    pd.testing.assert_frame_equal(found.obs, expected.obs, check_exact=device == "cpu", rtol=1e-7, atol=1e-9)
