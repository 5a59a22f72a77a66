from __future__ import annotations

import warnings
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import stats
from tests.support import LAYOUTS, in_layout, small_screen

from ptg.data import InputError
from ptg.execute import open_run
from ptg.mixscape.markers import METHODS, RankedGenes, find_markers, find_top_markers, rank_genes

TARGETS = ["A", "B", "C"]
TESTED = ["wilcoxon", "t-test", "t-test_overestim_var"]


def codes_of(adata: ad.AnnData) -> np.ndarray:
    return adata.obs["perturbation"].cat.codes.to_numpy().astype(np.int64)


def ranked_of(adata: ad.AnnData, targets: Any = (0, 1, 2), **options: Any) -> RankedGenes:
    """Rank all genes; the control has code 3."""
    with open_run("test") as run:
        return rank_genes(adata.X, codes_of(adata), 3, list(targets), run=run, **options)


def by_scanpy(adata: ad.AnnData, method: str, targets: list[str] = TARGETS) -> dict[str, pd.DataFrame]:
    scanpy = pytest.importorskip("scanpy")
    adata = adata[adata.obs["perturbation"].isin([*targets, "NT"])].copy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scanpy.tl.rank_genes_groups(adata, "perturbation", groups=targets, reference="NT", method=method, use_raw=False)
    result = adata.uns["rank_genes_groups"]
    columns = [name for name in ("names", "scores", "logfoldchanges", "pvals", "pvals_adj") if name in result]
    return {target: pd.DataFrame({name: result[name][target] for name in columns}) for target in targets}


def assert_like_scanpy(record: Any, expected: pd.DataFrame, adata: ad.AnnData) -> None:
    """Same order, and numbers to the precision in which scanpy keeps them (scores and fold changes: float32)."""
    assert adata.var_names[record.order].tolist() == expected["names"].tolist()
    np.testing.assert_allclose(record.scores, expected["scores"], rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(record.logfoldchanges, expected["logfoldchanges"], rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(record.pvals, expected["pvals"], rtol=1e-10, atol=1e-300)
    np.testing.assert_allclose(record.pvals_adj, expected["pvals_adj"], rtol=1e-10, atol=1e-300)


@pytest.mark.parametrize("method", TESTED)
@pytest.mark.parametrize("sparse", [True, False])
@pytest.mark.parametrize("base", [None, 2.0])
def test_ranking_is_scanpys(method, sparse, base):
    adata = small_screen(sparse=sparse)
    adata.X = adata.X.astype(np.float64)
    if base is not None:
        adata.uns["log1p"] = {"base": base}
    expected = by_scanpy(adata, method)
    for record, target in zip(ranked_of(adata, method=method, log_base=base), TARGETS, strict=True):
        assert_like_scanpy(record, expected[target], adata)


@pytest.mark.parametrize("method", TESTED)
def test_ties_constants_and_negative_values_are_scanpys(method):
    adata = small_screen(sparse=False)
    x = np.round(adata.X.astype(np.float64))
    x[:, 5] = 0.0
    x[:, 6] = 2.0
    x[:, 7] -= 1.0
    adata.X = x
    expected = by_scanpy(adata, method)
    with np.errstate(invalid="ignore"):
        for record, target in zip(ranked_of(adata, method=method), TARGETS, strict=True):
            assert_like_scanpy(record, expected[target], adata)


def test_logistic_regression_is_scanpys():
    """scanpy compares the two groups that are left; the larger category code, the control's, is its positive class."""
    adata = small_screen()
    expected = by_scanpy(adata, "logreg", ["A"])["A"].set_index("names")["scores"]
    ranked = ranked_of(adata, [0], method="logreg")
    np.testing.assert_allclose(-ranked.scores[0], expected[adata.var_names], rtol=1e-5, atol=1e-6)


def test_logistic_regression_ranks_by_size_and_has_no_p_values(screen):
    record = ranked_of(screen, [0], method="logreg")[0]
    assert (np.diff(np.abs(record.scores)) <= 0).all()
    assert record.scores.min() < 0 < record.scores.max()
    assert np.isnan(record.pvals).all()
    assert np.isnan(record.pvals_adj).all()


def test_logistic_regression_says_when_it_did_not_converge(screen):
    screen.X = screen.X * 1000
    with pytest.warns(UserWarning, match=r"did not converge for \d of 3 targets") as caught:
        ranked_of(screen, method="logreg")
    assert len(caught) == 1


@pytest.mark.parametrize("method", METHODS)
def test_targets_do_not_influence_each_other(screen, method):
    together = ranked_of(screen, method=method)
    for position, target in enumerate([0, 1, 2]):
        alone = ranked_of(screen, [target], method=method)
        np.testing.assert_array_equal(alone.scores[0], together.scores[position])
        np.testing.assert_array_equal(alone.logfoldchanges[0], together.logfoldchanges[position])


def test_results_follow_the_order_of_targets(screen):
    forward, backward = ranked_of(screen, [0, 1, 2]), ranked_of(screen, [2, 1, 0])
    np.testing.assert_array_equal(forward.scores, backward.scores[::-1])


@pytest.mark.parametrize("method", METHODS)
def test_a_target_without_cells_has_nothing(screen, method):
    ranked = ranked_of(screen, [0, 4], method=method)
    for values in (ranked.scores[1], ranked.logfoldchanges[1]):
        assert np.isnan(values).all()
    assert ranked.pvals is None or np.isnan(ranked.pvals[1]).all()
    markers = find_markers(ranked, logfc_threshold=0.0, pval_cutoff=1.0, min_de_genes=1)
    assert len(markers[0]) > 0
    assert len(markers[1]) == 0


@pytest.mark.parametrize(("method", "known"), [("wilcoxon", True), ("t-test", False)])
def test_a_target_of_one_cell(screen, method, known):
    keep = (screen.obs["perturbation"] != "A").to_numpy(copy=True)
    keep[np.flatnonzero(~keep)[5]] = True
    ranked = ranked_of(screen[keep].copy(), [0, 1], method=method)
    assert np.isfinite(ranked.scores[0]).all() == known
    assert np.isfinite(ranked.scores[1]).all()
    assert np.isfinite(ranked.logfoldchanges[0]).all()


def test_without_controls_there_is_nothing(screen):
    few = screen[(screen.obs["perturbation"] != "NT").to_numpy()].copy()
    few.obs["perturbation"] = few.obs["perturbation"].cat.set_categories(["A", "B", "C", "NT"])
    for method in METHODS:
        assert np.isnan(ranked_of(few, method=method).scores).all()


def test_unknown_method_names_the_known_ones(screen):
    with pytest.raises(InputError, match=r"test_method='wilcoxn'.*nearest: 'wilcoxon'"):
        ranked_of(screen, method="wilcoxn")


@pytest.mark.parametrize("method", TESTED)
def test_memory_and_threads_do_not_matter(screen, method, monkeypatch):
    from ptg import settings

    expected = ranked_of(screen, method=method)
    monkeypatch.setattr(settings, "memory", 1 << 20)
    monkeypatch.setattr(settings, "n_threads", 3)
    found = ranked_of(screen, method=method)
    np.testing.assert_array_equal(found.scores, expected.scores)
    np.testing.assert_array_equal(found.pvals, expected.pvals)


def test_groups_are_read_in_batches(screen, monkeypatch):
    """Only whole groups, at least one at a time, whatever the memory."""
    from ptg.mixscape.gene_tests import Comparison

    expected = ranked_of(screen, method="t-test")
    whole = Comparison._batches
    parts: list[int] = []

    def narrow(self):
        for matrix, offsets in whole(self):
            parts.append(len(offsets) - 1)
            yield matrix, offsets

    monkeypatch.setattr(Comparison, "_batches", narrow)
    with open_run("test") as run:
        import dataclasses

        small = dataclasses.replace(run, resources=dataclasses.replace(run.resources, memory=20_000))
        found = rank_genes(screen.X, codes_of(screen), 3, [0, 1, 2], method="t-test", run=small)
    assert parts == [1, 1, 1, 1] or len(parts) > 1
    np.testing.assert_array_equal(found.scores, expected.scores)


def test_p_values_against_scipy(screen):
    """Without ties the z of the rank sum is SciPy's."""
    rng = np.random.default_rng(0)
    screen.X = rng.normal(size=screen.shape)
    ranked = ranked_of(screen)
    is_target, is_control = (codes_of(screen) == code for code in (0, 3))
    expected = stats.mannwhitneyu(
        screen.X[is_target], screen.X[is_control], method="asymptotic", use_continuity=False
    ).pvalue
    np.testing.assert_allclose(ranked.pvals[0], expected, rtol=1e-10)


def test_u_at_its_mean_has_p_1():
    matrix = np.array([[1.0], [2.0], [1.0], [2.0]])
    with open_run("test") as run:
        ranked = rank_genes(matrix, np.array([0, 0, 1, 1]), 1, [0], run=run)
    assert ranked.scores[0, 0] == 0.0
    assert ranked.pvals[0, 0] == 1.0


# --- selection ---------------------------------------------------------------------------------------------------


def example() -> RankedGenes:
    """Two targets, six genes; ten more with p = 1 pull the adjusted values up."""
    scores = np.array([[5.0, -6.0, 4.0, 3.0, -2.0, 1.0], [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]])
    pvals = np.array([[1e-6, 1e-9, 1e-4, 1e-3, 0.04, 0.3], [0.9] * 6])
    changes = np.array([[1.0, -2.0, 0.25, 0.2, -1.0, 2.0], [3.0] * 6])
    return RankedGenes(scores, pvals, changes)


def test_markers_pass_both_thresholds_in_ranked_order():
    markers = find_markers(example(), logfc_threshold=0.25, pval_cutoff=0.05, min_de_genes=1)
    assert [genes.tolist() for genes in markers] == [[0, 2, 4, 1], []]
    strict = find_markers(example(), logfc_threshold=0.25, pval_cutoff=0.048, min_de_genes=1)
    assert strict[0].tolist() == [0, 2, 1]  # 0.04 * 6 / 5 is not below 0.048


def test_too_few_markers_are_none():
    for minimum, expected in [(4, 4), (5, 0)]:
        markers = find_markers(example(), logfc_threshold=0.25, pval_cutoff=0.05, min_de_genes=minimum)
        assert len(markers[0]) == expected


def test_top_markers_come_by_p_value():
    options = {"logfc_threshold": 0.25, "pval_cutoff": 0.05}
    found = find_top_markers(example(), **options, min_de_genes=1, max_de_genes=3)
    assert found[0].tolist() == [1, 0, 2]
    assert find_top_markers(example(), **options, min_de_genes=1, max_de_genes=99)[0].tolist() == [1, 0, 2, 4]
    assert find_top_markers(example(), **options, min_de_genes=4, max_de_genes=3)[0].tolist() == []


def test_equal_p_values_stay_in_ranked_order():
    scores = np.array([[1.0, 3.0, 2.0, -4.0]])
    ranked = RankedGenes(scores, np.full((1, 4), 1e-3), np.ones((1, 4)))
    found = find_top_markers(ranked, logfc_threshold=0.0, pval_cutoff=0.05, min_de_genes=1, max_de_genes=3)
    assert found[0].tolist() == [1, 2, 0]


def test_without_p_values_only_the_fold_change_counts():
    ranked = RankedGenes(np.array([[0.5, -2.0, 1.0]]), None, np.array([[1.0, 1.0, 0.1]]))
    options = {"logfc_threshold": 0.25, "pval_cutoff": 0.0, "min_de_genes": 1}
    assert find_markers(ranked, **options)[0].tolist() == [1, 0]
    assert find_top_markers(ranked, **options, max_de_genes=1)[0].tolist() == [1]


@pytest.mark.parametrize("seed", range(4))
def test_adjusted_p_values_are_statsmodels(seed):
    pvals = np.round(np.random.default_rng(seed).random(200) ** 3, 3)
    record = RankedGenes(np.zeros((1, 200)), pvals[None], np.zeros((1, 200)))[0]
    np.testing.assert_allclose(record.pvals_adj, stats.false_discovery_control(record.pvals), rtol=1e-14)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_do_not_matter(screen, layout):
    expected = ranked_of(screen)
    screen.X = in_layout(screen.X.toarray(), layout)
    np.testing.assert_array_equal(ranked_of(screen).scores, expected.scores)
