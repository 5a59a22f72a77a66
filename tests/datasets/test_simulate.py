from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

from ptg.data import InputError, looks_raw, read_counts
from ptg.datasets import simulate_screen


@pytest.fixture(scope="module")
def drawn():
    return simulate_screen(2000, 120, 8, seed=3)


def test_both_matrices_are_raw_counts_of_the_same_cells(drawn):
    rna, guides = drawn
    assert rna.shape == (2000, 120)
    assert guides.shape == (2000, 6 + 8 * 3)
    assert rna.obs_names.equals(guides.obs_names)
    for adata in drawn:
        assert sp.issparse(adata.X)
        assert adata.X.dtype == np.float32
        assert looks_raw(adata.X)
        assert read_counts(adata.X, "X").has_canonical_format


def test_the_same_seed_gives_the_same_screen_and_another_seed_another(drawn):
    again, other = simulate_screen(2000, 120, 8, seed=3)[0], simulate_screen(2000, 120, 8, seed=4)[0]
    assert (again.X != drawn[0].X).nnz == 0
    assert again.obs.equals(drawn[0].obs)
    assert (other.X != drawn[0].X).nnz > 0


def test_depth_is_what_was_asked_for(drawn):
    depth = drawn[0].obs["n_counts"]
    assert np.array_equal(depth, np.asarray(drawn[0].X.sum(1)).ravel())
    assert depth.median() == pytest.approx(3000, rel=0.05)
    assert depth.min() > 300


def test_strong_targets_move_their_cells_and_targets_without_effect_do_not(drawn):
    rna, _ = drawn
    x = np.log1p(rna.X.toarray() / rna.obs["n_counts"].to_numpy()[:, None] * 3000)
    truth, label = rna.obs["truly_perturbed"].to_numpy(), rna.obs["perturbation"]
    control = x[label == "NT"].mean(0)
    moved = {t: np.abs(x[(label == t) & truth].mean(0) - control).mean() for t in ("target1", "target6")}
    still = np.abs(x[(label == "target7").to_numpy()].mean(0) - control).mean()
    escaped = np.abs(x[(label == "target1").to_numpy() & ~truth].mean(0) - control).mean()
    assert moved["target1"] > 2 * moved["target6"] > 2 * still
    assert moved["target1"] > 2 * escaped
    assert rna.uns["simulated_targets"].loc["target7", "effect"] == 0.0


def test_truth_has_escaping_cells_doublets_and_a_target_too_small_to_test(drawn):
    obs = drawn[0].obs
    assert 0.1 < 1 - obs.loc[obs["perturbation"] == "target1", "truly_perturbed"].mean() < 0.5
    assert not obs.loc[obs["perturbation"] == "NT", "truly_perturbed"].any()
    assert (obs["perturbation"] == "target8").sum() == 4
    assert 0.02 < obs["guide"].astype(str).str.contains("+", regex=False).mean() < 0.06
    assert obs["perturbation"].isna().any()


def test_a_cell_has_most_reads_of_its_own_guide_unless_it_was_not_read(drawn):
    _, guides = drawn
    single = ~guides.obs["guide"].astype(str).str.contains("+", regex=False)
    own = guides.var_names.get_indexer(guides.obs.loc[single, "guide"].astype(str))
    counts = guides.X.toarray()[single]
    read = counts[np.arange(len(own)), own] >= 5
    assert 0.92 < read.mean() < 0.98
    best = counts.argmax(1)
    assert (best[read] == own[read]).mean() > 0.98
    assert guides.var.loc[guides.obs["guide"].astype(str)[single].iloc[0], "target"] in set(guides.obs["perturbation"])


def test_replicates_differ(drawn):
    rna, _ = drawn
    control = (rna.obs["perturbation"] == "NT").to_numpy()
    means = [
        np.log(rna.X[control & (rna.obs["replicate"] == r).to_numpy()].mean(0) + 0.1) for r in ("rep1", "rep2", "rep3")
    ]
    assert np.std(means[0] - means[1]) > 0.15


def test_few_targets_all_have_an_effect():
    rna, _ = simulate_screen(200, 50, 2, 1, n_replicates=1)
    assert (rna.uns["simulated_targets"]["effect"] > 0).all()
    assert list(rna.obs["replicate"].unique()) == ["rep1"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"n_cells": 0}, ["n_cells=0", "at least"]),
        ({"n_cells": 100, "n_targets": 12}, ["n_cells=100", "12 targets", "156"]),
        ({"n_genes": 1.5}, ["n_genes=1.5"]),
        ({"n_targets": 0}, ["n_targets=0"]),
        ({"guides_per_target": 0}, ["guides_per_target=0"]),
        ({"escape_fraction": 1.2}, ["escape_fraction=1.2", "[0, 1]"]),
        ({"counts_per_cell": 0}, ["counts_per_cell=0"]),
        ({"seed": -1}, ["seed=-1"]),
    ],
)
def test_bad_arguments_are_named(arguments, words):
    with pytest.raises(InputError) as caught:
        simulate_screen(**arguments)
    assert [word for word in ["simulate_screen", *words] if word not in str(caught.value)] == []
