from __future__ import annotations

import warnings

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from tests.support import assert_unchanged, snapshot

from ptg.cli.journal import Journal
from ptg.cli.pipeline import ScreenSettings, analyse_screen
from ptg.cli.prepare import assign_labels, drop_empty_cells, keep_labelled_cells, match_cells, normalise
from ptg.data import InputError
from ptg.datasets import simulate_screen


def named(n, prefix="c"):
    return pd.DataFrame(index=[f"{prefix}{i}" for i in range(n)])


def test_the_inputs_are_not_modified():
    rna, guides = simulate_screen(300, 60, 2, 2, counts_per_cell=1000)
    before = snapshot(rna), snapshot(guides)
    results = analyse_screen(rna, guides, ScreenSettings("perturbation", "NT", n_bootstrap=5))
    assert_unchanged(rna, before[0])
    assert_unchanged(guides, before[1])
    assert sum(results.guides.cells.values()) == 300
    assert any("was replaced" in note.text and "agree on" in note.text for note in results.notes)


def test_labels_are_targets_of_the_assigned_guides():
    assigned = np.array([[1, 0, 0, 0], [1, 1, 0, 0], [1, 0, 1, 0], [0, 0, 0, 0], [0, 0, 0, 1], [0, 0, 1, 1]])
    var = pd.DataFrame({"target": ["A", "A", "B", "NT"]}, index=list("abcd"))
    guides = ad.AnnData(np.zeros((6, 4)), obs=named(6), var=var, layers={"assigned_guides": sp.csr_matrix(assigned)})
    results, labels = assign_labels(guides, "target", "NT")
    assert labels.astype(object).where(labels.notna(), None).tolist() == ["A", "A", None, None, "NT", None]
    assert results.cells == {"guides of one target": 3, "guides of several targets": 2, "no guide": 1}


def test_cells_are_matched_by_name_in_the_order_of_the_expression():
    rna = ad.AnnData(np.arange(4.0)[:, None], obs=named(4))
    guides = ad.AnnData(np.arange(5.0)[:, None], obs=named(6).iloc[[5, 3, 1, 2, 4]])
    journal = Journal()
    one, other = match_cells(rna, guides, journal)
    assert list(one.obs_names) == list(other.obs_names) == ["c1", "c2", "c3"]
    assert other.X.ravel().tolist() == [2.0, 3.0, 1.0]
    found = [note.text for note in journal.notes]
    assert found == ["Left out: 1 cell in the expression file only.", "Left out: 2 cells in the guide file only."]


def test_unlabelled_and_empty_cells_are_left_out_and_counted():
    obs = named(4).assign(label=["A", None, "B", "A"])
    rna = ad.AnnData(sp.csr_matrix([[1.0], [1.0], [0.0], [2.0]]), obs=obs)
    journal = Journal()
    screen = drop_empty_cells(keep_labelled_cells(rna, "label", journal), None, journal)
    assert list(screen.obs_names) == ["c0", "c3"]
    found = [note.text for note in journal.notes]
    assert found == ["Left out: 1 cell without a label in 'label'.", "Left out: 1 cell without a single RNA count."]
    assert drop_empty_cells(rna, "depth", journal) is rna


def test_integer_labels_become_strings():
    rna = ad.AnnData(np.ones((3, 1)), obs=named(3).assign(label=[1, 0, 1]))
    assert list(keep_labelled_cells(rna, "label", Journal()).obs["label"]) == ["1", "0", "1"]


def test_normalise_tells_raw_from_log_values():
    raw = ad.AnnData(np.array([[1.0, 3.0], [0.0, 2.0]]), obs=named(2).assign(depth=[8.0, 4.0]))
    logs = ad.AnnData(np.log1p(raw.X))
    assert "each cell's own sum" in normalise(raw.copy(), None)
    by_depth = raw.copy()
    assert "'depth'" in normalise(by_depth, "depth")
    assert np.array_equal(by_depth.X, np.log1p(raw.X * (1e4 / np.array([[8.0], [4.0]]))))
    assert np.array_equal(by_depth.layers["counts"], raw.X)
    before = logs.X.copy()
    assert "already" in normalise(logs, None)
    assert np.array_equal(logs.X, before)
    with pytest.raises(InputError, match="neither raw counts nor log1p"):
        normalise(ad.AnnData(raw.X * 30.5), None)


def test_a_screen_without_any_effect_is_analysed_to_the_end():
    rng = np.random.default_rng(0)
    obs = named(120).assign(label=rng.choice(["NT", "A", "B"], 120))
    rna = ad.AnnData(rng.poisson(3.0, (120, 60)).astype(float), obs=obs)
    results = analyse_screen(rna, None, ScreenSettings("label", "NT", n_bootstrap=0))
    assert "mixscape_lda" not in results.screen.uns
    assert [note.step for note in results.notes] == ["Discriminant analysis"]
    from ptg.report import render_report
    from ptg.report.figures import draw_pictures

    page = render_report(results, draw_pictures(results))
    assert "No target has cells that can be told from control" in page
    assert "nothing to discriminate" in page


def test_journal_keeps_user_warnings_and_passes_others_on():
    journal = Journal()

    def work():
        with journal.step("one") as step:
            warnings.warn("said once", UserWarning, stacklevel=1)
            warnings.warn("said once", UserWarning, stacklevel=1)
            warnings.warn("numbers", RuntimeWarning, stacklevel=1)
            step.note("noted")

    with pytest.warns(RuntimeWarning, match="numbers"):
        work()
    assert [(note.step, note.text) for note in journal.notes] == [("one", "noted"), ("one", "said once")]
    assert journal.seconds["one"] >= 0


@pytest.mark.parametrize(
    "changed", [{"n_components": 1}, {"seed": -1}, {"n_bootstrap": 1.5}, {"control": ""}, {"perturbation": 3}]
)
def test_settings_are_checked(changed):
    with pytest.raises(InputError, match=next(iter(changed))):
        ScreenSettings(**{"perturbation": "p", "control": "NT", **changed})
