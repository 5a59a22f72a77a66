"""`Mixscape.mixscape` on small screens: what is written, and what happens to targets that cannot be tested."""

from __future__ import annotations

import math
from functools import cache
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from tests.support import small_screen, snapshot

import ptg
from ptg.execute import open_run, settings
from ptg.kernels.contract.projection import OK
from ptg.mixscape import columns, tables
from ptg.mixscape.screen import read_screen
from ptg.mixscape.selection import Expression, MarkerRule, SelectAsSeurat, split_markers
from ptg.mixscape.signature_source import LayerSignature


def signed_screen(**signature: Any) -> ad.AnnData:
    """A small screen with its signature."""
    return _signed_screen(tuple(signature.items())).copy()


@cache
def _signed_screen(signature: tuple[tuple[str, Any], ...]) -> ad.AnnData:
    adata = small_screen()
    options: dict[str, Any] = {"use_rep": "X_pca", "n_dims": None} | dict(signature)
    ptg.Mixscape().perturbation_signature(adata, "perturbation", "NT", **options)
    return adata


def classified(adata: ad.AnnData, **options: Any) -> ad.AnnData:
    ptg.Mixscape().mixscape(adata, "perturbation", "NT", **options)
    return adata


def test_classes_probabilities_and_table() -> None:
    adata = classified(signed_screen())
    table = adata.uns["mixscape_targets"]
    assert list(table.index) == ["A", "B", "C"]
    assert list(table.columns) == [
        "split",
        "n_markers",
        "n_cells",
        "n_iterations",
        "converged",
        "fraction_perturbed",
        "reason",
    ]
    assert (table["split"] == "all").all()
    assert table["reason"].tolist() == ["", "", "0 marker genes, fewer than min_de_genes=5"]
    assert (table.loc[["A", "B"], "fraction_perturbed"] > 0.5).all()
    assert table.loc["C", ["n_iterations", "converged", "fraction_perturbed"]].tolist() == [0, False, 0.0]
    labels = adata.obs["perturbation"].astype(object)
    classes, globally = adata.obs["mixscape_class"], adata.obs["mixscape_class_global"]
    posterior = adata.obs["mixscape_class_p_ko"]
    assert posterior.dtype == np.float64
    assert {type(name) for name in classes} == {str, float} == {type(name) for name in globally}  # NaN without a label
    assert set(classes[labels == "NT"]) == {"NT"} == set(globally[labels == "NT"])
    assert set(classes[labels == "C"]) == {"C NP"}
    assert (posterior[~labels.isin(["A", "B"])] == 0).all()
    for target in "AB":
        own = labels == target
        assert ((posterior > 0.5) == (classes == f"{target} KO"))[own].all()
        assert ((globally == "KO") == (classes == f"{target} KO"))[own].all()
        assert table.loc[target, "fraction_perturbed"] == pytest.approx((globally[own] == "KO").mean())
        assert table.loc[target, "n_cells"] == own.sum()


def test_cells_without_a_label_have_no_class() -> None:
    adata = classified(signed_screen())
    assert adata.obs["mixscape_class"].isna().tolist()[:3] == [True, True, False]
    assert adata.obs["mixscape_class_global"].isna().sum() == 2
    assert (adata.obs["mixscape_class_p_ko"].iloc[:2] == 0).all()


def test_copy_leaves_the_original_alone() -> None:
    adata = signed_screen()
    before = snapshot(adata)
    result = ptg.Mixscape().mixscape(adata, "perturbation", "NT", copy=True)
    assert result is not None
    assert "mixscape_class" in result.obs
    assert "mixscape_class" not in adata.obs
    assert list(snapshot(adata)["uns"]) == list(before["uns"])


def test_names_follow_the_arguments() -> None:
    adata = classified(signed_screen(), new_class_name="effect", perturbation_type="OE")
    assert {"effect", "effect_global", "effect_p_oe"} <= set(adata.obs.columns)
    assert set(adata.obs["effect_global"].dropna()) == {"NT", "NP", "OE"}
    assert "A OE" in set(adata.obs["effect"])


def test_the_global_class_is_not_parsed_from_text() -> None:
    """Targets may contain spaces, or end like a class."""
    adata = signed_screen()
    plain = classified(adata.copy())
    names = {"A": "gene A NP", "B": "KO", "C": "NP"}
    adata.obs["perturbation"] = adata.obs["perturbation"].cat.rename_categories(names)
    classified(adata)
    pd.testing.assert_series_equal(adata.obs["mixscape_class_global"], plain.obs["mixscape_class_global"])
    pd.testing.assert_series_equal(adata.obs["mixscape_class_p_ko"], plain.obs["mixscape_class_p_ko"])
    expected = (
        plain.obs["mixscape_class"]
        .astype(object)
        .map(lambda name: f"{names[name[0]]}{name[1:]}" if name[0] in names else name, na_action="ignore")
    )
    assert adata.obs["mixscape_class"].astype(object).fillna("").tolist() == expected.fillna("").tolist()
    assert {"gene A NP KO", "KO NP", "NP NP"} <= set(expected)


def test_scores_keep_all_cells_of_the_target_and_a_sample_of_the_controls(monkeypatch: pytest.MonkeyPatch) -> None:
    everything = classified(signed_screen()).uns["mixscape"]["A"]["all"]
    assert (everything["perturbation"] == "NT").sum() == 90
    monkeypatch.setattr("ptg.mixscape.classify.N_SAMPLE", 30)
    adata = classified(signed_screen())
    frame = adata.uns["mixscape"]["A"]["all"]
    assert list(frame.columns) == ["pvec", "perturbation"]
    assert frame["perturbation"].value_counts().to_dict() == {"A": (adata.obs["perturbation"] == "A").sum(), "NT": 30}
    assert (adata.obs.loc[frame.index, "perturbation"] == frame["perturbation"].astype(str)).all()
    assert frame.index.equals(adata.obs_names[adata.obs_names.isin(frame.index)])
    pd.testing.assert_series_equal(frame["pvec"], everything.loc[frame.index, "pvec"])
    controls, sample = (values.loc[values["perturbation"] == "NT", "pvec"] for values in (everything, frame))
    for share in (0.1, 0.5, 0.9):
        assert sample.quantile(share) == pytest.approx(controls.quantile(share), abs=0.1 * controls.std())
    assert {sample.min(), sample.max()} == {controls.min(), controls.max()}


def test_the_frame_of_a_target_is_the_users_own() -> None:
    frames = classified(signed_screen()).uns["mixscape"]
    first, second = (frames[target]["all"] for target in list(frames)[:2])
    first["weight"] = 1.0
    first["pvec"] = 0.0
    assert list(first.columns) == ["pvec", "perturbation", "weight"]
    assert list(second.columns) == ["pvec", "perturbation"]
    assert (second["pvec"] != 0.0).all()


def test_at_most_a_thousand_controls_are_kept() -> None:
    assert tables.N_SAMPLE == 1000


def test_results_survive_h5ad(tmp_path: Path) -> None:
    adata = signed_screen()
    adata.obs["perturbation"] = adata.obs["perturbation"].cat.rename_categories({"A": "HLA-A/B", "C": "a b"})
    adata.obs["lane"] = np.where(np.arange(240) % 2, "1/2", "2/2")
    classified(adata, split_by="lane", min_de_genes=2)
    adata.write_h5ad(tmp_path / "screen.h5ad")
    back = ad.read_h5ad(tmp_path / "screen.h5ad")
    assert list(adata.uns["mixscape"]["HLA-A|B"]) == ["1|2", "2|2"]
    for split in ("1|2", "2|2"):
        found, expected = (data.uns["mixscape"]["HLA-A|B"][split] for data in (back, adata))
        np.testing.assert_array_equal(found["pvec"], expected["pvec"])
        assert found["perturbation"].astype(str).tolist() == expected["perturbation"].astype(str).tolist()
        assert list(found.index) == list(expected.index)
    for column in adata.uns["mixscape_targets"]:
        assert back.uns["mixscape_targets"][column].tolist() == adata.uns["mixscape_targets"][column].tolist()
    assert back.obs["mixscape_class"].astype(str).tolist() == adata.obs["mixscape_class"].astype(str).tolist()


def test_names_that_h5ad_does_not_take_as_keys(tmp_path: Path) -> None:
    adata = signed_screen()
    adata.obs["perturbation"] = adata.obs["perturbation"].cat.rename_categories({"A": "", "B": "."})
    classified(adata)
    ptg.Mixscape().mixscale(adata, "perturbation", "NT")
    adata.write_h5ad(tmp_path / "screen.h5ad")
    back = ad.read_h5ad(tmp_path / "screen.h5ad")
    assert list(adata.uns["mixscape"]) == ["|", "|."]
    for key, label in {"|": "", "|.": "."}.items():
        assert set(back.uns["mixscape"][key]["all"]["perturbation"]) == {label, "NT"}
        assert back.uns["mixscale_de_genes"][key].tolist() == adata.uns["mixscale_de_genes"][key].tolist()


def test_splits_are_analysed_by_themselves() -> None:
    adata = classified(signed_screen(), split_by="replicate", min_de_genes=3)
    assert adata.uns["mixscape_targets"]["split"].tolist() == ["r1"] * 3 + ["r2"] * 3
    for split in ("r1", "r2"):
        part = signed_screen()[adata.obs["replicate"] == split].copy()
        classified(part, min_de_genes=3)
        own = adata.obs.loc[part.obs_names]
        np.testing.assert_array_equal(own["mixscape_class_p_ko"], part.obs["mixscape_class_p_ko"])
        assert own["mixscape_class"].astype(str).tolist() == part.obs["mixscape_class"].astype(str).tolist()


def test_cells_without_a_split_have_no_class() -> None:
    adata = signed_screen()
    missing = np.flatnonzero(adata.obs["perturbation"].isin(["A", "NT"]))[:20]
    adata.obs.loc[adata.obs_names[missing], "replicate"] = np.nan
    classified(adata, split_by="replicate")
    is_control = (adata.obs["perturbation"].iloc[missing] == "NT").to_numpy()
    assert (adata.obs["mixscape_class"].iloc[missing].isna().to_numpy() == ~is_control).all()


def test_degenerate_targets_get_a_reason_and_no_exception() -> None:
    adata = signed_screen()
    labels = adata.obs["perturbation"].astype(object).to_numpy(copy=True)
    split = np.array(["whole"] * 240, dtype=object)
    b_cells, c_cells = np.flatnonzero(labels == "B"), np.flatnonzero(labels == "C")
    split[b_cells[:10]] = "no control"
    split[np.append(c_cells[:5], np.flatnonzero(labels == "NT")[0])] = "one control"
    labels[c_cells[5]] = "lonely"
    labels[c_cells[6:9]] = "flat"
    adata.obs["perturbation"], adata.obs["lane"] = labels, split
    flat = np.flatnonzero(labels == "flat")
    x = adata.X.toarray()
    x[flat] = x[flat[0]] + 3.0
    adata.X = x
    adata.layers["X_pert"] = np.asarray(adata.layers["X_pert"]).copy()
    adata.layers["X_pert"][flat] = 7.0
    classified(adata, split_by="lane", pval_cutoff=1.0)
    table = adata.uns["mixscape_targets"].reset_index().set_index(["target", "split"])["reason"]
    assert "no control cells" in table["B", "no control"]
    assert "1 control cell" in table["C", "one control"]
    assert "1 cell, at least 2" in table["lonely", "whole"]
    assert table["flat", "whole"] == "the scores of its cells do not vary"
    assert table["A", "whole"] == ""
    assert set(adata.obs["mixscape_class"][labels == "flat"]) == {"flat NP"}
    assert set(adata.obs["mixscape_class"].iloc[b_cells[:10]]) == {"B NP"}


def test_no_target_can_be_tested() -> None:
    adata = classified(signed_screen(), logfc_threshold=100.0)
    assert adata.uns["mixscape"] == {}
    assert set(adata.obs["mixscape_class_global"].dropna()) == {"NT", "NP"}
    assert (adata.uns["mixscape_targets"]["n_markers"] == 0).all()


def test_few_perturbed_cells_mean_none() -> None:
    adata = signed_screen()
    classified(adata, min_de_genes=8)
    assert adata.uns["mixscape_targets"].loc["A", "fraction_perturbed"] > 0
    labels = adata.obs["perturbation"].astype(object)
    few = np.flatnonzero(labels == "A")[6:]
    adata.obs.loc[adata.obs_names[few], "perturbation"] = np.nan
    classified(adata, min_de_genes=7, pval_cutoff=1.0)
    row = adata.uns["mixscape_targets"].loc["A"]
    assert (row["fraction_perturbed"], row["reason"]) == (0.0, "")
    assert (adata.obs["mixscape_class_p_ko"][adata.obs["perturbation"] == "A"] > 0.5).any()
    assert not (adata.obs["mixscape_class"] == "A KO").any()


@pytest.mark.parametrize("mode", ["nn", "split_by"])
def test_the_kept_graph_serves_as_well_as_the_layer(mode: str) -> None:
    options = {"ref_selection_mode": mode, "split_by": "replicate"}
    layer, graph = signed_screen(output="layer", **options), signed_screen(output="graph", **options)
    assert "X_pert" not in graph.layers
    classified(layer)
    classified(graph)
    np.testing.assert_allclose(
        graph.obs["mixscape_class_p_ko"], layer.obs["mixscape_class_p_ko"], rtol=1e-4, atol=1e-6
    )  # the layer is rounded to float32
    assert graph.obs["mixscape_class"].equals(layer.obs["mixscape_class"])


def test_sparse_and_dense_layers_agree() -> None:
    adata = signed_screen()
    other = adata.copy()
    other.layers["sparse"] = sp.csr_matrix(adata.layers["X_pert"])
    classified(adata)
    classified(other, layer="sparse")
    pd.testing.assert_frame_equal(adata.obs, other.obs)


def test_batches_stay_within_memory_and_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = classified(signed_screen())
    sizes = []
    whole = columns.batches

    def small(source: Any, split: Any, markers: Any, memory: int) -> Any:
        for batch in whole(source, split, markers, 2 * 16 * 90 * 12):
            sizes.append((len(batch.targets), len(batch.columns.control)))
            yield batch

    monkeypatch.setattr("ptg.mixscape.classify.batches", small)
    found = classified(signed_screen())
    assert [n_targets for n_targets, _ in sizes] == [1, 1]
    pd.testing.assert_frame_equal(found.obs, expected.obs)


def test_a_batch_ends_where_the_controls_would_exceed_the_memory() -> None:
    adata = signed_screen()
    split = read_screen(adata, "perturbation", "NT", None).whole()
    with open_run("test", device="cpu") as run:
        source = LayerSignature(np.asarray(adata.layers["X_pert"]), "the layer", run)
    markers = {0: np.arange(10), 1: np.arange(5, 15), 2: np.arange(30)}
    of = lambda limit: [  # noqa: E731
        (batch.targets, len(batch.columns.control))
        for batch in columns.batches(source, split, markers, 2 * 16 * 90 * limit)
    ]
    assert of(1000) == [([0, 1, 2], 30)]
    assert of(15) == [([0, 1], 15), ([2], 30)]
    assert of(1) == [([0], 10), ([1], 10), ([2], 30)]


def test_what_is_not_read_of_the_signature_is_not_checked() -> None:
    adata = signed_screen()
    expected = classified(adata.copy()).obs
    adata.layers["X_pert"][np.flatnonzero(adata.obs["perturbation"] == "C")] = np.nan  # without markers
    pd.testing.assert_frame_equal(classified(adata).obs, expected, check_exact=True)


def test_threads_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    results = []
    for n_threads in (1, 4):
        monkeypatch.setattr(settings, "n_threads", n_threads)
        results.append(classified(signed_screen()).obs)
    pd.testing.assert_frame_equal(*results, check_exact=True)


def test_scaling_can_be_switched_off() -> None:
    scaled, plain = classified(signed_screen()), classified(signed_screen(), scale=False)
    assert not np.allclose(scaled.obs["mixscape_class_p_ko"], plain.obs["mixscape_class_p_ko"])
    assert plain.uns["mixscape_targets"].loc["A", "fraction_perturbed"] > 0.5


def test_flavors_differ_as_documented() -> None:
    weighted, bare = classified(signed_screen()), classified(signed_screen(), flavor="seurat")
    markers = [data.uns["mixscape_targets"]["n_markers"] for data in (weighted, bare)]
    assert (markers[1] <= markers[0]).all()
    assert not weighted.obs["mixscape_class_p_ko"].equals(bare.obs["mixscape_class_p_ko"])


def test_stopping_rule_is_an_option() -> None:
    stopped = classified(signed_screen(), max_iter=1, iter_num=1)
    table = stopped.uns["mixscape_targets"].loc["A"]
    assert (table["n_iterations"], bool(table["converged"])) == (1, False)
    runs = [classified(signed_screen(), tol=tol, max_iter=100_000) for tol in (1e-3, 1e-13, 1e-14)]
    probabilities = [data.obs["mixscape_class_p_ko"].to_numpy() for data in runs]
    assert np.abs(probabilities[1] - probabilities[2]).max() < 1e-6 < np.abs(probabilities[0] - probabilities[1]).max()
    assert bool(runs[1].uns["mixscape_targets"].loc["A", "converged"])


@pytest.mark.parametrize("method", ["t-test", "t-test_overestim_var", "logreg"])
def test_other_tests_find_markers_too(method: str) -> None:
    threshold = {"logreg": 1.0}.get(method, 0.25)
    adata = classified(signed_screen(), test_method=method, logfc_threshold=threshold)
    assert adata.uns["mixscape_targets"].loc["A", "n_markers"] >= 5
    assert adata.uns["mixscape_targets"].loc["A", "fraction_perturbed"] > 0.5


def test_markers_are_searched_in_the_layer_asked_for() -> None:
    adata = signed_screen()
    adata.layers["nothing"] = np.zeros(adata.shape)
    classified(adata, de_layer="nothing")
    assert (adata.uns["mixscape_targets"]["n_markers"] == 0).all()


def test_labels_of_any_type_are_accepted() -> None:
    adata = signed_screen()
    codes = adata.obs["perturbation"].cat.codes.to_numpy()
    adata.obs["number"] = np.where(codes < 0, 3, codes)
    ptg.Mixscape().mixscape(adata, "number", 3)
    assert set(adata.obs["mixscape_class_global"]) == {"3", "NP", "KO"}
    assert adata.obs["mixscape_class"].notna().all()


def test_status_without_reason_is_success() -> None:
    assert tables.REASONS[OK] == ""
    assert math.isinf(ptg.mixscape.classify.FLAVORS["pertpy"].clip)


def test_a_signature_without_differences_gives_a_reason_and_no_scores() -> None:
    adata = signed_screen()
    adata.layers["X_pert"] = np.zeros(adata.shape)
    classified(adata)
    assert adata.uns["mixscape"] == {}
    reason = "its cells do not differ from the controls in the signature of its marker genes"
    assert adata.uns["mixscape_targets"]["reason"].tolist()[:2] == [reason, reason]


def test_seurat_asks_for_a_tenth_of_the_cells() -> None:
    adata = signed_screen()
    x = adata.X.toarray()[:, :8]
    a_cells = np.flatnonzero(adata.obs["perturbation"] == "A")
    for gene in (5, 6):  # expressed by 5 and 6 of 59 cells: 8 % and 10 %
        x[:, gene] = 0.0
        x[a_cells[:gene], gene] = 6.0
    screen = read_screen(adata, "perturbation", "NT", None)
    rule = MarkerRule("t-test", 1, 0.25, 1.0)
    with open_run("test", device="cpu") as run:
        found = split_markers(Expression(x, None, run), screen.whole(), screen.control, rule, SelectAsSeurat())
    assert [gene in found[0].genes for gene in (5, 6)] == [False, True]
