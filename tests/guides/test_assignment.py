from __future__ import annotations

import warnings

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from tests.support import assert_unchanged, snapshot

import ptg

COUNTS = np.array(
    [
        [9, 0, 0, 1],
        [5, 5, 0, 0],
        [0, 4, 0, 4],
        [0, 0, 0, 0],
        [6, 7, 8, 9],
    ]
)
NAMES = ["A", "B", "C", "D"]
CONTAINERS = [
    np.asarray,
    np.asfortranarray,
    sp.csr_matrix,
    sp.csc_matrix,
    sp.coo_matrix,
    sp.csr_array,
    lambda counts: pd.DataFrame(counts, columns=NAMES),
]
MIXTURE_COLUMNS = [
    "poisson_rate", "gaussian_mean", "gaussian_std", "mix_probs_0", "mix_probs_1", "threshold", "final_loss",
    "converged", "n_iterations", "not_fitted_reason",
]  # fmt: skip


def guides_of(counts: object) -> ad.AnnData:
    n_cells, n_guides = counts.shape
    return ad.AnnData(
        counts,
        obs=pd.DataFrame(index=[f"cell{i}" for i in range(n_cells)]),
        var=pd.DataFrame(index=NAMES if n_guides == len(NAMES) else [f"guide{i}" for i in range(n_guides)]),
    )


def low_moi(n_cells: int = 600, n_guides: int = 6, seed: int = 0) -> np.ndarray:
    """One guide per cell over background; every tenth cell has none, every ninth a second one."""
    rng = np.random.default_rng(seed)
    counts = rng.poisson(0.3, (n_cells, n_guides))
    cells = np.arange(n_cells)
    signal = np.round(2 ** rng.normal(5.5, 0.8, n_cells)).astype(int)
    counts[cells, cells % n_guides] = np.where(cells % 10 == 0, counts[cells, cells % n_guides], signal)
    counts[cells[::9], (cells[::9] + 2) % n_guides] = signal[::9]
    return counts


# ---------------------------------------------------------------- by threshold


@pytest.mark.parametrize("container", CONTAINERS)
def test_threshold_of_bare_matrices(container):
    given = container(COUNTS)
    found = ptg.GuideAssignment().assign_by_threshold(given, assignment_threshold=5)
    dense = found.toarray() if sp.issparse(found) else found
    np.testing.assert_array_equal(dense, COUNTS >= 5)
    assert dense.dtype == np.int8
    assert sp.issparse(found) == sp.issparse(given)
    assert isinstance(found, sp.sparray) == isinstance(given, sp.sparray)


@pytest.mark.parametrize("container", [np.asarray, sp.csr_matrix, sp.csc_matrix])
def test_threshold_of_anndata(container):
    adata = guides_of(container(COUNTS.astype(np.float32)))
    assert ptg.GuideAssignment().assign_by_threshold(adata, assignment_threshold=4.5, output_layer="called") is None
    layer = adata.layers["called"]
    assert isinstance(layer, sp.csr_matrix)
    assert layer.dtype == np.int8
    assert list(adata.layers) == ["called"]
    np.testing.assert_array_equal(layer.toarray(), COUNTS >= 4.5)


def test_layers():
    adata = guides_of(np.zeros((5, 4)))
    adata.layers["raw"] = sp.csc_matrix(COUNTS)
    assignment = ptg.GuideAssignment(device="cpu")
    assignment.assign_by_threshold(adata, assignment_threshold=5, layer="raw")
    assert adata.layers["assigned_guides"].sum() == (COUNTS >= 5).sum()
    assignment.assign_to_max_guide(adata, assignment_threshold=5, layer="raw")
    assert adata.obs["assigned_guide"].tolist() == ["A", "A", "Negative", "Negative", "D"]
    assignment.assign_to_max_guide(adata, assignment_threshold=5, layer="X")
    assert set(adata.obs["assigned_guide"]) == {"Negative"}


# ---------------------------------------------------------------- largest guide


@pytest.mark.parametrize("container", CONTAINERS)
def test_max_guide_of_bare_matrices(container):
    found = ptg.GuideAssignment().assign_to_max_guide(container(COUNTS), assignment_threshold=4, var=NAMES)
    assert found.tolist() == ["A", "A", "B", "Negative", "D"]
    assert found.dtype == object


@pytest.mark.parametrize("var", [NAMES, pd.Index(NAMES), pd.DataFrame(index=NAMES)])
def test_names_of_bare_matrices(var):
    call = ptg.GuideAssignment().assign_to_max_guide
    assert call(COUNTS, assignment_threshold=9, var=var).tolist() == ["A", *["Negative"] * 3, "D"]
    assert call(COUNTS, assignment_threshold=9).tolist() == ["0", *["Negative"] * 3, "3"]
    named = pd.DataFrame(COUNTS, columns=list("wxyz"))
    assert call(named, assignment_threshold=9).tolist() == ["w", *["Negative"] * 3, "z"]


def test_max_guide_of_anndata():
    adata = guides_of(sp.csr_matrix(COUNTS))
    ptg.GuideAssignment().assign_to_max_guide(
        adata, assignment_threshold=5, obs_key="best", no_grna_assigned_key="none"
    )
    assert adata.obs["best"].dtype == "category"
    assert adata.obs["best"].cat.categories.tolist() == ["A", "D", "none"]
    assert adata.obs["best"].tolist() == ["A", "A", "none", "none", "D"]
    expected = np.zeros(COUNTS.shape)
    expected[[0, 1, 4], [0, 0, 3]] = 1
    np.testing.assert_array_equal(adata.layers["assigned_guides"].toarray(), expected)


def test_no_layer_on_request():
    adata = guides_of(low_moi())
    ptg.GuideAssignment().assign_to_max_guide(adata, assignment_threshold=5, output_layer=None)
    ptg.GuideAssignment().assign_mixture_model(adata, output_layer=None)
    assert not list(adata.layers)


@pytest.mark.parametrize("order", ["ascending", "descending"])
def test_ties_take_the_first_column_however_stored(order):
    indices = np.array([1, 3] if order == "ascending" else [3, 1, 0], dtype=np.int32)
    data = np.array([7.0, 7.0] if order == "ascending" else [7.0, 7.0, 0.0])
    matrix = sp.csr_matrix((data, indices, np.array([0, indices.size])), shape=(1, 4))
    assert ptg.GuideAssignment().assign_to_max_guide(matrix, assignment_threshold=1).tolist() == ["1"]


# ---------------------------------------------------------------- mixture


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.uint16, np.int64])
@pytest.mark.parametrize("container", [np.asarray, sp.csr_matrix, sp.csc_matrix])
def test_mixture_of_anndata(container, dtype):
    counts = low_moi()
    adata = guides_of(container(counts.astype(dtype)))
    assert ptg.GuideAssignment().assign_mixture_model(adata, show_progressbar=False) is None
    assert adata.var.columns.tolist() == MIXTURE_COLUMNS
    assert adata.var["converged"].all()
    assert adata.var["not_fitted_reason"].eq("").all()
    np.testing.assert_allclose(adata.var["mix_probs_0"] + adata.var["mix_probs_1"], 1.0, rtol=1e-15)
    np.testing.assert_allclose(adata.var["gaussian_mean"], 5.5, atol=0.3)
    np.testing.assert_allclose(adata.var["gaussian_std"], 0.8, atol=0.25)
    above = counts >= adata.var["threshold"].to_numpy()
    layer = adata.layers["assigned_guides"]
    assert isinstance(layer, sp.csr_matrix)
    assert layer.dtype == np.int8
    np.testing.assert_array_equal(layer.toarray(), above)
    expected = ["+".join(adata.var_names[row]) or "negative" for row in above]
    assert adata.obs["assigned_guide"].tolist() == expected
    assert adata.obs["assigned_guide"].dtype == "category"


def test_labels_of_several_guides():
    adata = guides_of(low_moi())
    ptg.GuideAssignment().assign_mixture_model(
        adata,
        assigned_guides_key="guides",
        no_grna_assigned_key="none",
        max_assignments_per_cell=1,
        multiple_grna_assigned_key="many",
    )
    per_cell = adata.layers["assigned_guides"].sum(1).A1
    assert (adata.obs["guides"][per_cell > 1] == "many").all()
    assert (adata.obs["guides"][per_cell == 0] == "none").all()
    assert set(adata.obs["guides"][per_cell == 1]) <= set(adata.var_names)
    ptg.GuideAssignment().assign_mixture_model(adata, multiple_grna_assignment_string=" & ")
    assert adata.obs["assigned_guide"].astype(str).str.contains(" & ").sum() == (per_cell > 1).sum()


def test_results_only():
    adata = guides_of(sp.csr_matrix(low_moi()))
    before = snapshot(adata)
    labels = ptg.GuideAssignment().assign_mixture_model(adata, only_return_results=True)
    assert_unchanged(adata, before)
    assert labels.dtype == object
    bare = ptg.GuideAssignment().assign_mixture_model(adata.X, var=adata.var)
    np.testing.assert_array_equal(labels, bare)
    ptg.GuideAssignment().assign_mixture_model(adata)
    np.testing.assert_array_equal(labels, adata.obs["assigned_guide"].astype(object))


def test_a_higher_posterior_gives_higher_thresholds():
    adata = guides_of(low_moi())
    thresholds = []
    for level in (0.1, 0.5, 0.99):
        ptg.GuideAssignment().assign_mixture_model(adata, posterior_threshold=level)
        thresholds.append(adata.var["threshold"].to_numpy())
    assert (np.diff(thresholds, axis=0) >= 0).all()
    assert (thresholds[2] > thresholds[0]).any()


def test_guides_that_are_not_fitted_are_named_in_one_warning():
    counts = np.column_stack([low_moi(), np.zeros(600), np.ones(600), np.full(600, 3)]).astype(int)
    adata = guides_of(counts)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        ptg.GuideAssignment().assign_mixture_model(adata)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    for words in ("3 of 9 guides", "'guide6'", "'guide7'", "'guide8'", "fewer than 2 cells", "below 2", "no interior"):
        assert words in str(caught[0].message)
    unfitted = adata.var.iloc[6:]
    assert unfitted[MIXTURE_COLUMNS[:7]].isna().all(axis=None)
    assert not unfitted["converged"].any()
    assert not unfitted["n_iterations"].any()
    assert (unfitted["not_fitted_reason"] != "").all()
    assert adata.layers["assigned_guides"][:, 6:].nnz == 0


def test_steps_used_up_are_reported():
    adata = guides_of(low_moi())
    with pytest.warns(UserWarning, match="6 of 6 guides were not fitted.*not converged within max_iter"):
        ptg.GuideAssignment().assign_mixture_model(adata, max_iter=2)
    assert not adata.var["converged"].any()
    assert set(adata.obs["assigned_guide"]) == {"negative"}


def test_the_result_can_be_written_and_read(tmp_path):
    adata = guides_of(sp.csr_matrix(low_moi()))
    ptg.GuideAssignment().assign_mixture_model(adata)
    adata.write_h5ad(tmp_path / "guides.h5ad")
    back = ad.read_h5ad(tmp_path / "guides.h5ad")
    pd.testing.assert_frame_equal(back.var, adata.var)
    assert back.obs["assigned_guide"].tolist() == adata.obs["assigned_guide"].tolist()


def test_a_backed_file(tmp_path):
    guides_of(sp.csr_matrix(low_moi())).write_h5ad(tmp_path / "guides.h5ad")
    backed = ad.read_h5ad(tmp_path / "guides.h5ad", backed="r")
    in_memory = ptg.GuideAssignment().assign_mixture_model(low_moi(), var=backed.var)
    labels = ptg.GuideAssignment().assign_mixture_model(backed, only_return_results=True)
    np.testing.assert_array_equal(labels, in_memory)
    backed.file.close()


def test_thousands_of_counts_in_many_cells():
    """High multiplicity of infection: every cell has some of the guides, with tens of thousands of counts."""
    rng = np.random.default_rng(0)
    has = rng.random((2000, 8)) < 0.3
    counts = np.where(has, np.round(2 ** rng.normal(12, 1.5, has.shape)), rng.poisson(1.0, has.shape)).astype(int)
    adata = guides_of(sp.csr_matrix(counts))
    ptg.GuideAssignment().assign_mixture_model(adata, max_assignments_per_cell=8)
    assert adata.var["converged"].all()
    assert (adata.layers["assigned_guides"].toarray() == has).mean() > 0.999


def test_more_entries_than_a_block(monkeypatch):
    monkeypatch.setattr(ptg.settings, "memory", 1 << 20)
    counts = low_moi(20_000, 12)
    small = guides_of(counts)
    ptg.GuideAssignment().assign_mixture_model(small)
    monkeypatch.setattr(ptg.settings, "memory", None)
    whole = guides_of(counts)
    ptg.GuideAssignment().assign_mixture_model(whole)
    assert_unchanged(small, snapshot(whole))
