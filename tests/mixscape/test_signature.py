from __future__ import annotations

import warnings
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from tests.support import signature_columns, small_screen

import ptg
from ptg.data import InputError
from ptg.data.embedding import principal_components
from ptg.execute import open_run
from ptg.mixscape import signature as signature_module
from ptg.mixscape.inputs import Inputs
from ptg.mixscape.signature import perturbation_signature
from ptg.mixscape.signature_source import read_signature

MODES = [
    {"use_rep": "X_pca"},
    {"use_rep": "X_pca", "split_by": "replicate"},
    {"ref_selection_mode": "split_by", "split_by": "replicate"},
]


def sign(adata: ad.AnnData, **options: Any) -> np.ndarray:
    copy = perturbation_signature(adata, "perturbation", "NT", copy=True, **options)
    return copy.layers["X_pert"]


def dense(matrix: Any) -> np.ndarray:
    return matrix.toarray() if sp.issparse(matrix) else np.asarray(matrix)


def by_definition(adata: ad.AnnData, representation: np.ndarray, k: int, split: np.ndarray | None = None) -> np.ndarray:
    """Cell by cell: k nearest controls of the same split, log1p of the mean of expm1, minus the cell."""
    x = dense(adata.X).astype(np.float64)
    is_control = (adata.obs["perturbation"] == "NT").to_numpy()
    split = np.zeros(adata.n_obs) if split is None else split
    out = np.empty_like(x)
    for i, point in enumerate(representation.astype(np.float64)):
        controls = np.flatnonzero(is_control & (split == split[i]))
        distance = ((representation[controls].astype(np.float64) - point) ** 2).sum(axis=1)
        nearest = controls[np.argsort(distance, kind="stable")[:k]]
        out[i] = np.log1p(np.expm1(x[nearest]).mean(axis=0)) - x[i]
    return out


@pytest.mark.parametrize("sparse", [True, False])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("split_by", [None, "replicate"])
def test_nn_is_the_definition(sparse, dtype, split_by):
    adata = small_screen(sparse=sparse)
    adata.X = adata.X.astype(dtype)
    found = sign(adata, use_rep="X_pca", n_dims=4, n_neighbors=7, split_by=split_by)
    split = None if split_by is None else adata.obs[split_by].cat.codes.to_numpy()
    expected = by_definition(adata, adata.obsm["X_pca"][:, :4], 7, split)
    assert found.dtype == dtype
    assert found.flags.c_contiguous
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-14 if dtype is np.float64 else 5e-7)


@pytest.mark.parametrize("sparse", [True, False])
def test_split_by_is_the_definition(sparse):
    adata = small_screen(sparse=sparse)
    found = sign(adata, ref_selection_mode="split_by", split_by="replicate")
    x, split = dense(adata.X).astype(np.float64), adata.obs["replicate"]
    for name in ("r1", "r2"):
        rows = (split == name).to_numpy()
        reference = x[rows & (adata.obs["perturbation"] == "NT").to_numpy()].mean(axis=0)
        np.testing.assert_allclose(found[rows], reference - x[rows], rtol=0, atol=5e-7)
    assert found.dtype == np.float32


def test_by_default_x_pca_and_15_dimensions(screen):
    screen.obsm["X_pca"] = np.random.default_rng(0).normal(size=(240, 30))
    np.testing.assert_allclose(sign(screen), by_definition(screen, screen.obsm["X_pca"][:, :15], 20), rtol=0, atol=5e-7)
    np.testing.assert_array_equal(sign(screen, n_dims=None), sign(screen, n_dims=30))
    assert np.abs(sign(screen, n_dims=None) - sign(screen)).max() > 0.01


def test_x_is_taken_below_50_genes(screen):
    few = screen[:, :49].copy()
    np.testing.assert_array_equal(sign(few), sign(few, use_rep="X"))
    np.testing.assert_allclose(sign(few), by_definition(few, dense(few.X)[:, :15], 20), rtol=0, atol=5e-7)
    fifty = screen[:, :50].copy()
    np.testing.assert_array_equal(sign(fifty), sign(fifty, use_rep="X_pca"))


def test_n_pcs_0_means_x(screen):
    np.testing.assert_array_equal(sign(screen, n_pcs=0), sign(screen, use_rep="X"))


def test_n_pcs_takes_the_first_of_x_pca(screen):
    np.testing.assert_array_equal(sign(screen, n_pcs=3), sign(screen, n_dims=3))


def test_any_obsm_key_is_a_representation(screen):
    screen.obsm["other"] = pd.DataFrame(np.random.default_rng(1).normal(size=(240, 3)), index=screen.obs_names)
    expected = by_definition(screen, screen.obsm["other"].to_numpy(), 20)
    np.testing.assert_allclose(sign(screen, use_rep="other"), expected, rtol=0, atol=5e-7)


def test_a_missing_x_pca_is_computed_and_kept(screen):
    del screen.obsm["X_pca"]
    perturbation_signature(screen, "perturbation", "NT", n_pcs=6)
    np.testing.assert_array_equal(screen.obsm["X_pca"], principal_components(screen.X, 6))
    kept = screen.layers["X_pert"].copy()
    np.testing.assert_array_equal(sign(screen), kept)


def test_a_missing_x_pca_is_computed_from_the_highly_variable_genes(screen):
    del screen.obsm["X_pca"]
    screen.var["highly_variable"] = np.arange(60) % 2 == 0
    perturbation_signature(screen, "perturbation", "NT")
    np.testing.assert_array_equal(screen.obsm["X_pca"], principal_components(screen.X[:, ::2].tocsr(), 50))


def test_control_cells_are_their_own_neighbours(screen):
    found = sign(screen, use_rep="X_pca", n_neighbors=1)
    controls = (screen.obs["perturbation"] == "NT").to_numpy()
    np.testing.assert_allclose(found[controls], 0.0, atol=5e-7)


def test_cells_without_a_label_have_a_signature(screen):
    assert screen.obs["perturbation"].isna().sum() == 2
    found = sign(screen)
    assert np.isfinite(found).all()
    assert np.abs(found[:2]).max(axis=1).min() > 0.1


def test_k_is_capped_per_split_with_one_warning(screen):
    keep = ~((screen.obs["perturbation"] == "NT") & (screen.obs["replicate"] == "r1")).to_numpy()
    keep[np.flatnonzero(~keep)[:3]] = True
    few = screen[keep].copy()
    with pytest.warns(UserWarning, match=r"n_neighbors=20 exceeds the control cells of 'r1 \(3\)'") as caught:
        found = sign(few, split_by="replicate")
    assert len(caught) == 1
    assert caught[0].filename == __file__
    split = few.obs["replicate"].cat.codes.to_numpy()
    np.testing.assert_allclose(found, by_definition(few, few.obsm["X_pca"], 20, split), rtol=0, atol=5e-7)


def test_a_single_control_is_enough(screen):
    keep = (screen.obs["perturbation"] != "NT").to_numpy(copy=True)
    keep[np.flatnonzero(~keep)[0]] = True
    one = screen[keep].copy()
    with pytest.warns(UserWarning, match=r"all cells \(1\)"):
        found = sign(one)
    x = dense(one.X).astype(np.float64)
    reference = x[(one.obs["perturbation"] == "NT").to_numpy()]
    np.testing.assert_allclose(found, reference - x, rtol=0, atol=5e-7)


@pytest.mark.parametrize("options", MODES)
@pytest.mark.parametrize("batch_size", [1, 17, 10_000])
def test_the_batch_size_does_not_matter(screen, options, batch_size):
    np.testing.assert_array_equal(sign(screen, batch_size=batch_size, **options), sign(screen, **options))


@pytest.mark.parametrize("options", MODES)
def test_threads_and_memory_do_not_matter(screen, options, monkeypatch):
    expected = sign(screen, **options)
    monkeypatch.setattr(ptg.settings, "n_threads", 3)
    monkeypatch.setattr(ptg.settings, "memory", 1 << 20)
    np.testing.assert_array_equal(sign(screen, **options), expected)


@pytest.mark.parametrize("options", MODES)
def test_copy_leaves_the_input_alone(screen, options):
    found = perturbation_signature(screen, "perturbation", "NT", copy=True, **options)
    assert "X_pert" not in screen.layers
    assert perturbation_signature(screen, "perturbation", "NT", **options) is None
    np.testing.assert_array_equal(screen.layers["X_pert"], found.layers["X_pert"])


def test_unsorted_wide_and_other_sparse_formats(screen):
    expected = sign(screen)
    for form in (sp.csc_matrix, sp.csr_array, sp.coo_matrix):
        other = screen.copy()
        other.X = form(screen.X) if form is not sp.coo_matrix else unsorted(screen.X)
        np.testing.assert_array_equal(sign(other), expected)


def unsorted(matrix: sp.csr_matrix) -> sp.csr_matrix:
    """The same matrix with the entries of each row reversed and 64-bit offsets."""
    rows = [slice(a, b) for a, b in zip(matrix.indptr[:-1], matrix.indptr[1:], strict=True)]
    order = np.concatenate([np.arange(row.stop - 1, row.start - 1, -1) for row in rows])
    other = sp.csr_matrix(matrix.shape, dtype=matrix.dtype)
    other.data, other.indices = matrix.data[order], matrix.indices[order].astype(np.int64)
    other.indptr = matrix.indptr.astype(np.int64)
    return other


# --- what is kept in place of the layer --------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("sparse", [True, False])
@pytest.mark.parametrize("options", MODES)
def test_graph_gives_the_same_columns(options, sparse, dtype):
    adata = small_screen(sparse=sparse)
    adata.X = adata.X.astype(dtype)
    layer = sign(adata, **options)
    perturbation_signature(adata, "perturbation", "NT", output="graph", **options)
    assert "X_pert" not in adata.layers
    rows, genes = np.array([5, 0, 200, 5, 31, *range(100, 160)]), np.array([59, 0, 7, 13])
    with open_run("test") as run:
        assert read_signature(Inputs(adata, run)).shape == adata.shape
        found = signature_columns(adata, rows, genes, run=run)
        np.testing.assert_array_equal(found.astype(dtype), layer[np.ix_(rows, genes)])
        np.testing.assert_array_equal(signature_columns(adata, rows, genes, "X_pert", run=run), found)
        assert signature_columns(adata, rows[:0], genes, run=run).shape == (0, 4)


@pytest.mark.parametrize("options", MODES)
def test_graph_survives_h5ad(screen, options, tmp_path):
    perturbation_signature(screen, "perturbation", "NT", output="graph", **options)
    screen.write_h5ad(tmp_path / "screen.h5ad")
    again = ad.read_h5ad(tmp_path / "screen.h5ad")
    rows, genes = np.arange(240), np.arange(60)
    with open_run("test") as run:
        expected = signature_columns(screen, rows, genes, run=run)
        np.testing.assert_array_equal(signature_columns(again, rows, genes, run=run), expected)
    assert again.uns["X_pert"]["pert_key"] == "perturbation"
    assert again.uns["X_pert"]["control"] == "NT"


def test_graph_is_small(screen):
    perturbation_signature(screen, "perturbation", "NT", output="graph", n_neighbors=5)
    graph = screen.obsp["X_pert_neighbors"]
    assert graph.nnz == 5 * 240
    np.testing.assert_allclose(graph.sum(axis=1), 1.0)
    is_control = (screen.obs["perturbation"] == "NT").to_numpy()
    assert is_control[graph.indices].all()


@pytest.mark.parametrize("first", MODES)
@pytest.mark.parametrize("second", MODES)
@pytest.mark.parametrize("output", ["layer", "graph"])
def test_a_second_call_replaces_the_first(screen, first, second, output):
    fresh = screen.copy()
    perturbation_signature(fresh, "perturbation", "NT", output=output, **second)
    for earlier in ("layer", "graph"):
        perturbation_signature(screen, "perturbation", "NT", output=earlier, **first)
    perturbation_signature(screen, "perturbation", "NT", output=output, **second)
    for slot in ("layers", "obsm", "varm", "obsp", "uns"):
        assert set(getattr(screen, slot)) == set(getattr(fresh, slot))
    with open_run("test") as run:
        found, expected = (
            signature_columns(adata, np.arange(240), np.arange(60), run=run) for adata in (screen, fresh)
        )
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("options", MODES)
def test_auto_keeps_the_graph_where_the_layer_does_not_fit(screen, options, monkeypatch):
    monkeypatch.setattr(signature_module, "available_memory", lambda: 2 * 240 * 60 * 4)
    sign(screen, **options)  # exactly half: still the layer
    monkeypatch.setattr(signature_module, "available_memory", lambda: 2 * 240 * 60 * 4 - 1)
    with pytest.warns(UserWarning, match="output='layer'") as caught:
        perturbation_signature(screen, "perturbation", "NT", **options)
    assert len(caught) == 1
    assert "X_pert" not in screen.layers
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        perturbation_signature(screen, "perturbation", "NT", output="layer", **options)
    assert "X_pert" in screen.layers


# --- reading -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", [np.asarray, sp.csr_matrix, sp.csc_matrix])
def test_a_layer_is_read_as_it_is(screen, form):
    screen.layers["mine"] = form(dense(screen.X) - 1)
    rows, genes = np.array([9, 3, 3]), np.array([4, 1])
    with open_run("test") as run:
        found = signature_columns(screen, rows, genes, "mine", run=run)
    np.testing.assert_array_equal(found, (dense(screen.X) - 1)[np.ix_(rows, genes)].astype(np.float64))


def test_no_signature_is_an_error(screen):
    with open_run("test") as run:
        with pytest.raises(InputError, match="Run perturbation_signature first"):
            read_signature(Inputs(screen, run))
        with pytest.raises(InputError, match=r"layer='mine' is not in adata.layers"):
            read_signature(Inputs(screen, run), "mine")


def test_a_graph_whose_controls_were_removed_is_an_error(screen):
    perturbation_signature(screen, "perturbation", "NT", output="graph")
    targets = screen[(screen.obs["perturbation"] == "A").to_numpy()].copy()
    with open_run("test") as run, pytest.raises(InputError, match=r"59 cell\(s\).*Run it again"):
        read_signature(Inputs(targets, run))


def test_a_graph_of_fewer_genes_is_the_signature_of_those(screen):
    layer = sign(screen)
    perturbation_signature(screen, "perturbation", "NT", output="graph")
    some = screen[:, 10:20].copy()
    with open_run("test") as run:
        found = signature_columns(some, np.arange(240), np.arange(10), run=run)
    np.testing.assert_array_equal(found.astype(np.float32), layer[:, 10:20])
