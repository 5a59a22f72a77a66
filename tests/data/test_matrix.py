from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from ptg.data import InputError, as_matrix, dense_rows, read_counts, read_matrix

VALUES = np.array([[0.0, 1.0, 0.0], [2.0, 0.0, 3.0]])


@pytest.mark.parametrize(
    "container",
    [
        np.asarray,
        np.asfortranarray,
        lambda x: pd.DataFrame(x, columns=list("abc")),
        sp.csr_matrix,
        sp.csc_matrix,
        sp.coo_matrix,
        sp.csr_array,
        lambda x: x.astype(np.int32),
        lambda x: x.astype(bool),
    ],
)
def test_every_container_gives_the_same_matrix(container):
    given = container(VALUES)
    matrix = as_matrix(given, "x")
    expected = np.asarray(given.todense() if sp.issparse(given) else given, dtype=np.float64)
    assert np.array_equal(dense_rows(matrix, slice(None)), expected)
    assert matrix.dtype == np.float64
    assert sp.issparse(matrix) == sp.issparse(given)
    if not sp.issparse(matrix):
        assert matrix.flags.c_contiguous


def test_float32_stays_and_is_not_copied():
    x = VALUES.astype(np.float32)
    assert as_matrix(x, "x") is x
    csr = sp.csr_matrix(x)
    assert np.shares_memory(as_matrix(csr, "x").data, csr.data)


def test_unsorted_csr_with_duplicates_is_summed_without_touching_the_input():
    data, indices, indptr = np.array([1.0, 2.0, 3.0]), np.array([2, 0, 2], np.int64), np.array([0, 3, 3], np.int64)
    given = sp.csr_matrix((data, indices, indptr), shape=(2, 3))
    assert np.array_equal(as_matrix(given, "x").toarray(), [[2.0, 0.0, 4.0], [0.0, 0.0, 0.0]])
    assert given.indices.tolist() == [2, 0, 2]
    assert given.data.tolist() == [1.0, 2.0, 3.0]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (np.array([[1.0, np.nan]]), ("x has 1 NaN",)),
        (np.array([[np.inf, -np.inf]]), ("x has 2 NaN or infinite",)),
        (sp.csr_matrix(np.array([[np.inf, 0.0]])), ("infinite",)),
        (np.zeros(3), ("1 dimension",)),
        (np.zeros((0, 3)), ("empty", "(0, 3)")),
        (np.array([["a", "b"]]), ("Pass numbers",)),
        ([[1.0]], ("builtins.list", "NumPy array")),
        (np.array([[1j]]), ("complex128",)),
    ],
)
def test_matrices_that_are_not_accepted(values, words):
    with pytest.raises(InputError) as caught:
        as_matrix(values, "x")
    assert all(word in str(caught.value) for word in words), caught.value


def test_huge_but_finite_values_are_accepted():
    assert as_matrix(np.full((2, 2), 1e308), "x").shape == (2, 2)


def test_layers_obsm_and_x():
    adata = ad.AnnData(
        VALUES, layers={"twice": 2 * VALUES}, obsm={"emb": pd.DataFrame(VALUES[:, :2], index=["0", "1"])}
    )
    assert np.array_equal(read_matrix(adata, layer="twice"), 2 * VALUES)
    assert np.array_equal(read_matrix(adata, layer="X"), VALUES)
    assert np.array_equal(read_matrix(adata, obsm="emb"), VALUES[:, :2])
    with pytest.raises(InputError, match="twice"):
        read_matrix(adata, layer="twise")
    with pytest.raises(InputError, match="adata.X, which is empty"):
        read_matrix(ad.AnnData(obs=pd.DataFrame(index=["0"])))


@pytest.mark.parametrize("container", [np.asarray, sp.csr_matrix])
def test_backed_files_are_read(tmp_path, container):
    path = tmp_path / "backed.h5ad"
    ad.AnnData(container(VALUES)).write_h5ad(path)
    adata = ad.read_h5ad(path, backed="r")
    assert np.array_equal(dense_rows(read_matrix(adata), slice(None)), VALUES)
    adata.file.close()


def test_counts_drop_stored_zeros():
    given = sp.csr_matrix((np.array([0.0, 5.0]), np.array([0, 1]), np.array([0, 2])), shape=(1, 2))
    assert read_counts(given, "counts").nnz == 1
    assert given.nnz == 2


@pytest.mark.parametrize(("value", "word"), [(-1.0, "negative"), (0.5, "whole numbers")])
def test_values_that_are_not_counts(value, word):
    with pytest.raises(InputError, match=word):
        read_counts(np.array([[value, 1.0]]), "counts")
