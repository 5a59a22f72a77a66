"""`Mixscale` and `Mixscape.mixscale` on small screens."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from tests.support import small_screen

import ptg
from ptg.mixscape.score_markers import MarkerSearch
from ptg.mixscape.screen import read_screen
from ptg.mixscape.selection import MarkerRule


def signed_screen() -> ad.AnnData:
    return _signed_screen().copy()


@cache
def _signed_screen() -> ad.AnnData:
    adata = small_screen()
    ptg.Mixscale().perturbation_signature(adata, "perturbation", "NT", use_rep="X_pca", n_dims=None)
    rng = np.random.default_rng(5)
    guides = adata.obs["perturbation"].astype(object).fillna("none") + rng.choice(["g1", "g2"], 240)
    adata.obs["guide_id"] = pd.Categorical(guides)
    return adata


def scored(adata: ad.AnnData, **options: Any) -> ad.AnnData:
    ptg.Mixscale().mixscale(adata, "perturbation", "NT", **options)
    return adata


def test_scores_follow_the_definition() -> None:
    adata = scored(signed_screen())
    labels = adata.obs["perturbation"].astype(object).to_numpy()
    signature = np.asarray(adata.layers["X_pert"], dtype=np.float64)
    for target in "AB":
        genes = adata.var_names.get_indexer(adata.uns["mixscale_de_genes"][target])
        rows = np.isin(labels, [target, "NT"])
        values = signature[np.ix_(rows, genes)]
        values = np.minimum((values - values.mean(0)) / values.std(0, ddof=1), 10)
        own, control = labels[rows] == target, labels[rows] == "NT"
        direction = values[own].mean(0) - values[control].mean(0)
        score = values @ direction / (direction @ direction)
        expected = (score[own] - score[control].mean()) / score[control].std(ddof=1)
        np.testing.assert_allclose(adata.obs["mixscale_score"][labels == target], expected, rtol=1e-10)
        frame = adata.uns["mixscale"][target]["all"]
        np.testing.assert_allclose(frame["pvec"], score, rtol=1e-10, atol=1e-12)


def test_cells_that_cannot_be_scored_have_zero() -> None:
    adata = scored(signed_screen())
    labels = adata.obs["perturbation"].astype(object)
    assert adata.obs["mixscale_score"].dtype == np.float64
    assert (adata.obs["mixscale_score"][~labels.isin(["A", "B"])] == 0).all()
    assert (adata.obs["mixscale_score"][labels.isin(["A", "B"])] != 0).all()
    table = adata.uns["mixscale_targets"]
    assert list(table.columns) == ["split", "n_markers", "n_cells", "reason"]
    assert table["reason"].tolist() == ["", "", "0 marker genes, fewer than min_de_genes=5"]


def test_both_classes_share_the_method() -> None:
    mixscale, mixscape = scored(signed_screen()), signed_screen()
    ptg.Mixscape().mixscale(mixscape, "perturbation", "NT", perturbation_type="anything")
    pd.testing.assert_frame_equal(mixscape.obs, mixscale.obs)
    copy = ptg.Mixscape().mixscale(signed_screen(), "perturbation", "NT", new_class_name="s", copy=True)
    assert copy is not None
    np.testing.assert_array_equal(copy.obs["s"], mixscale.obs["mixscale_score"])


def test_markers_are_the_most_significant_of_all_cells() -> None:
    adata = scored(signed_screen(), split_by="replicate", max_de_genes=6)
    everything = scored(signed_screen()).uns["mixscale_de_genes"]["A"]
    assert adata.uns["mixscale_de_genes"]["A"].tolist() == everything[:6].tolist()
    assert set(adata.uns["mixscale"]["A"]) == {"r1", "r2"}
    assert adata.uns["mixscale_targets"]["n_markers"].tolist() == [6, 6, 0] * 2
    table = adata.uns["mixscale_targets"].reset_index()
    sizes = adata.obs["perturbation"].value_counts()
    assert table.groupby("target")["n_cells"].sum().to_dict() == {name: sizes[name] for name in "ABC"}


def test_each_split_is_standardised_by_its_own_controls() -> None:
    adata = scored(signed_screen(), split_by="replicate")
    genes = {name: list(own) for name, own in adata.uns["mixscale_de_genes"].items()}
    for split in ("r1", "r2"):
        part = adata[adata.obs["replicate"] == split].copy()
        scored(part, de_genes_by_target=genes, new_class_name="alone")
        np.testing.assert_array_equal(part.obs["alone"], part.obs["mixscale_score"])


def test_given_genes_take_the_place_of_the_search() -> None:
    adata = signed_screen()
    genes = [f"gene{i}" for i in (3, 1, 2, 1, 0, 4)]
    with pytest.warns(UserWarning, match=r"targets 'D' and genes 'nope' not in the data"):
        scored(adata, de_genes_by_target={"A": [*genes, "nope"], "C": ["gene1"], "D": ["gene1"]})
    assert adata.uns["mixscale_de_genes"]["A"].tolist() == ["gene3", "gene1", "gene2", "gene0", "gene4"]
    assert adata.uns["mixscale_targets"]["reason"].tolist() == [
        "",
        "not in de_genes_by_target",
        "1 marker gene, fewer than min_de_genes=5",
    ]


def test_fine_mode_pools_the_markers_of_guides() -> None:
    adata = scored(signed_screen(), fine_mode=True)
    pooled = adata.uns["mixscale_de_genes"]["A"].tolist()
    by_guide = signed_screen()
    by_guide.obs["perturbation"] = by_guide.obs["guide_id"].cat.rename_categories({"NTg1": "NT"}).astype(object)
    by_guide.obs.loc[by_guide.obs["guide_id"] == "NTg2", "perturbation"] = "NT"
    scored(by_guide)
    cells = np.flatnonzero(adata.obs["perturbation"] == "A")
    order = pd.unique(adata.obs["guide_id"].iloc[cells].astype(str))
    expected = [gene for guide in order for gene in by_guide.uns["mixscale_de_genes"][guide]]
    assert pooled == list(dict.fromkeys(expected))
    assert len(pooled) > len(by_guide.uns["mixscale_de_genes"][order[0]])


def test_guides_of_one_cell_are_left_out() -> None:
    adata = signed_screen()
    adata.obs["guide_id"] = [f"g{i}" for i in range(240)]
    scored(adata, fine_mode=True)
    assert set(adata.uns["mixscale_targets"]["reason"]) == {"no guide with at least 2 cells"}


def test_harmonised_controls_have_the_composition_of_the_target() -> None:
    adata = signed_screen()
    rng = np.random.default_rng(0)
    is_a = (adata.obs["perturbation"] == "A").to_numpy()
    adata.obs["lane"] = np.where(is_a, rng.choice(["x", "y"], 240, p=[0.8, 0.2]), rng.choice(["x", "y"], 240))
    screen = read_screen(adata, "perturbation", "NT", "lane")
    search = MarkerSearch(MarkerRule("wilcoxon", 5, 0.25, 0.05), 100, None, 0.1, 0)
    whole = screen.whole()
    sample = search._sample(screen, whole, 0)
    share = lambda cells: (screen.split_codes[cells] == 0).mean()  # noqa: E731
    assert set(sample) < set(whole.control_cells)
    assert share(sample) == pytest.approx(share(whole.cells[0]), abs=0.03)
    assert abs(share(whole.control_cells) - share(whole.cells[0])) > 0.1
    np.testing.assert_array_equal(sample, search._sample(screen, whole, 0))
    one = scored(adata.copy(), harmonize=True, split_by="lane")
    other = scored(adata.copy(), harmonize=True, split_by="lane", random_state=1)
    assert not one.obs["mixscale_score"].equals(other.obs["mixscale_score"])


def test_harmonisation_gives_up_small_splits_then_all() -> None:
    adata = signed_screen()
    labels = adata.obs["perturbation"].astype(object).to_numpy()
    lane = np.array(["x", "y", "z"], dtype=object)[np.arange(240) % 3]
    controls = np.flatnonzero(labels == "NT")
    lane[controls[lane[controls] == "z"][1:]] = "x"
    adata.obs["lane"] = lane
    screen = read_screen(adata, "perturbation", "NT", "lane")
    rule = MarkerRule("wilcoxon", 5, 0.25, 0.05)
    two = MarkerSearch(rule, 100, None, 0.5, 0)._sample(screen, screen.whole(), 0)
    assert set(screen.split_codes[two]) == {0, 1}
    strict = MarkerSearch(rule, 100, None, 1.0, 0)._sample(screen, screen.whole(), 0)
    np.testing.assert_array_equal(strict, controls)


def test_results_survive_h5ad(tmp_path: Path) -> None:
    adata = signed_screen()
    adata.obs["perturbation"] = adata.obs["perturbation"].cat.rename_categories({"A": "A/1"})
    scored(adata)
    adata.write_h5ad(tmp_path / "screen.h5ad")
    back = ad.read_h5ad(tmp_path / "screen.h5ad")
    for name, genes in adata.uns["mixscale_de_genes"].items():
        assert list(back.uns["mixscale_de_genes"][name]) == list(genes)
    assert list(adata.uns["mixscale"]) == ["A|1", "B"]
    assert back.uns["mixscale_targets"]["reason"].tolist() == adata.uns["mixscale_targets"]["reason"].tolist()


def test_controls_that_do_not_vary_give_a_reason() -> None:
    adata = signed_screen()
    controls = np.flatnonzero(adata.obs["perturbation"] == "NT")
    adata.layers["X_pert"] = np.asarray(adata.layers["X_pert"]).copy()
    adata.layers["X_pert"][controls] = 0.5
    scored(adata)
    assert adata.uns["mixscale_targets"]["reason"].iloc[0] == "the controls' scores do not vary"
    assert (adata.obs["mixscale_score"] == 0).all()


def test_large_values_are_clipped_at_ten() -> None:
    adata = signed_screen()
    layer = np.asarray(adata.layers["X_pert"], dtype=np.float64).copy()
    labels = adata.obs["perturbation"].astype(object).to_numpy()
    layer[np.flatnonzero(labels == "NT")[0], :12] = 1e3
    adata.layers["X_pert"] = layer
    scored(adata)
    rows = np.isin(labels, ["A", "NT"])
    values = layer[np.ix_(rows, adata.var_names.get_indexer(adata.uns["mixscale_de_genes"]["A"]))]
    values = (values - values.mean(0)) / values.std(0, ddof=1)
    assert values.max() > 12
    values = np.minimum(values, 10)
    own, control = labels[rows] == "A", labels[rows] == "NT"
    direction = values[own].mean(0) - values[control].mean(0)
    expected = values @ direction / (direction @ direction)
    np.testing.assert_allclose(adata.uns["mixscale"]["A"]["all"]["pvec"], expected, rtol=1e-9, atol=1e-10)
    standardised = (expected[own] - expected[control].mean()) / expected[control].std(ddof=1)
    np.testing.assert_allclose(adata.obs["mixscale_score"][labels == "A"], standardised, rtol=1e-9)
