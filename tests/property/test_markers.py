"""Laws of the rank sums and of the ranking of genes."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.stats import mannwhitneyu

from ptg.execute import open_run
from ptg.kernels.contract import Backend, Resources
from ptg.mixscape.markers import RankedGenes, find_markers, rank_genes

# Values that tie often, zeros and signs included, and any others.
values = st.one_of(
    st.sampled_from([0.0, 0.0, 0.0, 1.0, -1.0, 0.5]), st.floats(-50, 50, allow_subnormal=False).map(lambda x: x + 0.0)
)
matrices = hnp.arrays(np.float64, st.tuples(st.integers(2, 40), st.integers(1, 6)), elements=values)


def u_of(matrix: Any, groups: list[np.ndarray], control: np.ndarray) -> np.ndarray:
    return Backend("cpu").ranksum.u_statistics(
        matrix,
        np.concatenate(groups).astype(np.int64),
        np.cumsum([0, *map(len, groups)]),
        control.astype(np.int64),
        resources=Resources(),
    )


def ranked_of(matrix: Any, codes: np.ndarray, targets: list[int], **options: Any) -> RankedGenes:
    with open_run("test") as run:
        return rank_genes(matrix, codes, 0, targets, run=run, **options)


@given(matrix=matrices, data=st.data())
def test_u_is_scipys(matrix: np.ndarray, data: st.DataObject) -> None:
    split = data.draw(st.integers(1, len(matrix) - 1))
    target, control = np.arange(split), np.arange(split, len(matrix))
    expected = mannwhitneyu(matrix[:split], matrix[split:], method="asymptotic").statistic
    for form in (matrix, sp.csr_matrix(matrix)):
        np.testing.assert_array_equal(u_of(form, [target], control)[0], expected)


@given(matrix=matrices, data=st.data())
def test_swapping_the_two_groups_mirrors_u(matrix: np.ndarray, data: st.DataObject) -> None:
    split = data.draw(st.integers(1, len(matrix) - 1))
    target, control = np.arange(split), np.arange(split, len(matrix))
    n_pairs = len(target) * len(control)
    np.testing.assert_array_equal(u_of(matrix, [target], control), n_pairs - u_of(matrix, [control], target))
    np.testing.assert_array_equal(u_of(-matrix, [target], control), n_pairs - u_of(matrix, [target], control))


@given(matrix=matrices)
def test_a_group_against_itself_has_the_mean(matrix: np.ndarray) -> None:
    cells = np.arange(len(matrix))
    np.testing.assert_array_equal(u_of(matrix, [cells], cells), len(cells) ** 2 / 2)


@given(matrix=matrices, data=st.data())
def test_u_is_additive_over_cells(matrix: np.ndarray, data: st.DataObject) -> None:
    split = data.draw(st.integers(1, len(matrix) - 1))
    control = np.arange(split, len(matrix))
    together = u_of(matrix, [np.arange(split)], control)[0]
    alone = u_of(matrix, [np.array([cell]) for cell in range(split)], control)
    np.testing.assert_array_equal(alone.sum(axis=0), together)


@given(matrix=matrices, data=st.data())
def test_only_the_order_of_values_matters(matrix: np.ndarray, data: st.DataObject) -> None:
    """Any rising function that keeps zero leaves U as it is; the buckets of the search are then other ones."""
    split = data.draw(st.integers(1, len(matrix) - 1))
    target, control = np.arange(split), np.arange(split, len(matrix))
    ranks = np.searchsorted(np.unique(matrix), matrix) - np.searchsorted(np.unique(matrix), 0.0)
    steep = np.sign(ranks) * 1.5 ** np.abs(ranks)
    np.testing.assert_array_equal(u_of(steep, [target], control), u_of(matrix, [target], control))


@given(matrix=matrices.filter(lambda x: len(x) >= 6), seed=st.integers(0, 2**32 - 1))
def test_cells_may_come_in_any_order(matrix: np.ndarray, seed: int) -> None:
    codes = np.arange(len(matrix)) % 3 - 0
    order = np.random.default_rng(seed).permutation(len(matrix))
    for method in ("wilcoxon", "t-test"):
        found = ranked_of(matrix[order], codes[order], [1, 2], method=method)
        expected = ranked_of(matrix, codes, [1, 2], method=method)
        np.testing.assert_allclose(found.logfoldchanges, expected.logfoldchanges, rtol=1e-6, atol=1e-6)
        if method == "wilcoxon":
            np.testing.assert_array_equal(found.scores, expected.scores)


@given(matrix=matrices.filter(lambda x: len(x) >= 6), threshold=st.sampled_from([0.0, 0.25, 1.0]))
def test_markers_are_those_that_pass(matrix: np.ndarray, threshold: float) -> None:
    ranked = ranked_of(matrix, np.arange(len(matrix)) % 2, [1])
    (found,) = find_markers(ranked, logfc_threshold=threshold, pval_cutoff=0.5, min_de_genes=1)
    record = ranked[0]
    adjusted, changes = np.empty(len(record.order)), np.empty(len(record.order))
    adjusted[record.order], changes[record.order] = record.pvals_adj, record.logfoldchanges
    assert set(found) == set(np.flatnonzero((np.abs(changes) >= threshold) & (adjusted < 0.5)))
    assert (np.diff(ranked.scores[0][found]) <= 0).all()
