"""Laws of mixscape, mixscale and lda: order of cells, names of targets, threads, number of controls kept."""

from __future__ import annotations

from functools import cache
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support import small_screen

import ptg
from ptg.execute import settings as ptg_settings

EXACT = {"tol": 1e-13, "max_iter": 100_000}
"""Run to convergence: the start of the mixture, which depends on the order of cells, no longer matters."""

seeds = st.integers(0, 2**32 - 1)


@cache
def _screen() -> ad.AnnData:
    adata = small_screen()
    ptg.Mixscape().perturbation_signature(adata, "perturbation", "NT", use_rep="X_pca", n_dims=None)
    # Half of A's cells escape, so that there is something to separate.
    layer = np.asarray(adata.layers["X_pert"]).copy()
    a_cells = np.flatnonzero(adata.obs["perturbation"] == "A")
    controls = np.flatnonzero(adata.obs["perturbation"] == "NT")
    layer[a_cells[::2]] = layer[controls[: len(a_cells[::2])]]
    adata.layers["X_pert"] = layer
    return adata


def screen() -> ad.AnnData:
    return _screen().copy()


def analysed(adata: ad.AnnData, control: str = "NT", **options: Any) -> ad.AnnData:
    mixscape = ptg.Mixscape()
    mixscape.mixscape(adata, "perturbation", control, **(EXACT | options))
    mixscape.mixscale(adata, "perturbation", control)
    mixscape.lda(adata, "perturbation", control)
    return adata


@cache
def _plain() -> ad.AnnData:
    return analysed(screen())


def test_there_is_something_to_separate() -> None:
    share = _plain().uns["mixscape_targets"]["fraction_perturbed"]
    assert 0.3 < share["A"] < 0.7 < share["B"]


@settings(max_examples=10)
@given(seed=seeds)
def test_order_of_cells_does_not_matter(seed: int) -> None:
    order = np.random.default_rng(seed).permutation(240)
    found = analysed(screen()[order].copy())
    expected = _plain().obs.iloc[order]
    pd.testing.assert_series_equal(found.obs["mixscape_class"], expected["mixscape_class"])
    for column in ("mixscape_class_p_ko", "mixscale_score"):
        np.testing.assert_allclose(found.obs[column], expected[column], rtol=1e-6, atol=1e-6)
    cells = pd.Index(_plain().uns["mixscape_lda_cells"])
    places = cells.get_indexer(found.uns["mixscape_lda_cells"])
    np.testing.assert_allclose(found.uns["mixscape_lda"], _plain().uns["mixscape_lda"][places], rtol=1e-7, atol=1e-7)


labels = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), min_size=1, max_size=12).map(str.strip)
awkward = st.sampled_from(["NP", "KO", "A KO", "A NP", "NT NP", "a b c", "HLA-A/B", "nan", "None", "1", "NT KO", "|"])


@settings(max_examples=40)
@given(names=st.lists(labels.filter(bool) | awkward, min_size=3, max_size=3, unique=True))
def test_names_of_targets_do_not_matter(names: list[str]) -> None:
    if "NT" in names or len({name.replace("/", "|") for name in names}) < 3:
        return
    new = dict(zip("ABC", names, strict=True))
    adata = screen()
    # Keep the order of the targets, whatever the alphabet says.
    adata.obs["perturbation"] = adata.obs["perturbation"].cat.rename_categories(new)
    analysed(adata)
    expected = _plain()
    columns = ["mixscape_class_p_ko", "mixscale_score"]
    pd.testing.assert_frame_equal(adata.obs[columns], expected.obs[columns], check_exact=True)
    assert adata.obs["mixscape_class_global"].astype(str).equals(expected.obs["mixscape_class_global"].astype(str))
    translated = {f"{old} {kind}": f"{name} {kind}" for old, name in new.items() for kind in ("KO", "NP")}
    classes = expected.obs["mixscape_class"].astype(object).map(lambda name: translated.get(name, name))
    assert adata.obs["mixscape_class"].astype(object).fillna("").tolist() == classes.fillna("").tolist()
    assert list(adata.uns["mixscape_targets"].index) == names
    np.testing.assert_array_equal(adata.uns["mixscape_lda"], expected.uns["mixscape_lda"])


@settings(max_examples=10)
@given(seed=seeds)
def test_a_target_does_not_depend_on_the_others(seed: int) -> None:
    keep = np.random.default_rng(seed).random(240) < 0.5
    adata = screen()
    others = adata.obs["perturbation"].isin(["B", "C"]).to_numpy() & keep
    adata.obs.loc[adata.obs_names[others], "perturbation"] = np.nan
    ptg.Mixscape().mixscape(adata, "perturbation", "NT", **EXACT)
    ptg.Mixscape().mixscale(adata, "perturbation", "NT")
    own = adata.obs["perturbation"] == "A"
    for column in ("mixscape_class_p_ko", "mixscale_score"):
        np.testing.assert_array_equal(adata.obs.loc[own, column], _plain().obs.loc[own, column])


@pytest.mark.parametrize("n_threads", [2, 3])
def test_threads_and_memory_do_not_change_a_bit(n_threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ptg_settings, "n_threads", n_threads)
    monkeypatch.setattr(ptg_settings, "memory", 1 << 20)
    many = analysed(screen())
    monkeypatch.setattr(ptg_settings, "n_threads", 1)
    monkeypatch.setattr(ptg_settings, "memory", 1 << 30)
    one = analysed(screen())
    pd.testing.assert_frame_equal(many.obs, one.obs, check_exact=True)
    np.testing.assert_array_equal(many.uns["mixscape_lda"], one.uns["mixscape_lda"])


@settings(max_examples=15)
@given(scale=st.floats(0.05, 20.0), shift=st.floats(-50.0, 50.0))
def test_scaled_signatures_do_not_depend_on_units(scale: float, shift: float) -> None:
    """With scale=True the signature may be shifted and stretched gene by gene."""
    adata = screen()
    adata.layers["X_pert"] = np.asarray(adata.layers["X_pert"], dtype=np.float64) * scale + shift
    ptg.Mixscape().mixscape(adata, "perturbation", "NT", **EXACT)
    ptg.Mixscape().mixscale(adata, "perturbation", "NT")
    for column in ("mixscape_class_p_ko", "mixscale_score"):
        np.testing.assert_allclose(adata.obs[column], _plain().obs[column], rtol=1e-5, atol=1e-6)


@settings(max_examples=15)
@given(seed=seeds)
def test_posteriors_and_classes_are_consistent(seed: int) -> None:
    rng = np.random.default_rng(seed)
    adata = screen()
    noise = rng.normal(0, rng.uniform(0.0, 1.0), adata.shape)
    adata.layers["X_pert"] = np.asarray(adata.layers["X_pert"], dtype=np.float64) + noise
    ptg.Mixscape().mixscape(adata, "perturbation", "NT", random_state=int(rng.integers(1000)))
    posterior = adata.obs["mixscape_class_p_ko"]
    assert posterior.between(0, 1).all()
    perturbed = adata.obs["mixscape_class_global"] == "KO"
    assert (posterior[perturbed] > 0.5).all()
    shares = perturbed.groupby(adata.obs["perturbation"], observed=True).mean()
    table = adata.uns["mixscape_targets"]
    np.testing.assert_allclose(table["fraction_perturbed"], shares[table.index])
