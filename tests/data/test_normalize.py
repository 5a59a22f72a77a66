from __future__ import annotations

import anndata as ad
import numpy as np
import pytest
import scipy.sparse as sp

from ptg.data import InputError, log_normalize, looks_raw

COUNTS = np.array([[1.0, 0.0, 3.0], [0.0, 10.0, 0.0], [2.0, 2.0, 4.0]])


@pytest.mark.parametrize("container", [np.asarray, np.asfortranarray, sp.csr_matrix, sp.csc_matrix])
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int32, np.uint16])
def test_values_are_the_formula_rounded_once(container, dtype):
    given = container(COUNTS.astype(dtype))
    result = log_normalize(given, target_sum=7.0)
    expected = np.log1p(COUNTS * (7.0 / COUNTS.sum(1, keepdims=True)))
    expected = expected.astype(np.float32) if dtype == np.float32 else expected
    assert sp.issparse(result) == sp.issparse(given)
    assert result.dtype == expected.dtype
    assert np.array_equal(result.toarray() if sp.issparse(result) else result, expected)


def test_size_factors_replace_the_sum_and_admit_cells_without_counts():
    counts = sp.csr_matrix(np.vstack([COUNTS, np.zeros(3)]))
    factors = [100, 200, 300, 400]
    result = log_normalize(counts, factors).toarray()
    assert np.array_equal(result, np.log1p(counts.toarray() * (1e4 / np.array(factors, float)[:, np.newaxis])))
    assert not result[3].any()


def test_the_result_shares_nothing_with_the_counts():
    counts = sp.csr_matrix(COUNTS)
    result = log_normalize(counts)
    expected = result.toarray()
    counts.data[:] = 0
    counts.eliminate_zeros()
    assert np.array_equal(result.toarray(), expected)


def test_large_dense_input_is_normalised_in_blocks():
    counts = np.ones((40_000, 2), np.float32)
    assert np.array_equal(log_normalize(counts), np.full((40_000, 2), np.log1p(5e3), np.float32))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: log_normalize(-COUNTS), ["counts", "negative", "raw"]),
        (lambda: log_normalize(COUNTS / 7), ["counts", "whole numbers"]),
        (lambda: log_normalize(np.vstack([COUNTS, np.zeros(3)])), ["1 cell", "without a single count", "size_factors"]),
        (lambda: log_normalize(COUNTS, [1, 2]), ["size_factors", "(2,)", "3 cells"]),
        (lambda: log_normalize(COUNTS, [1, 0, 2]), ["size_factors", "1 value", "zero"]),
        (lambda: log_normalize(COUNTS, [1, np.nan, -2]), ["size_factors", "2 value", "missing"]),
        (lambda: log_normalize(COUNTS, ["a", "b", "c"]), ["size_factors", "numbers"]),
        (lambda: log_normalize(COUNTS, target_sum=0), ["target_sum", "0"]),
        (lambda: log_normalize("counts"), ["counts", "str"]),
    ],
)
def test_bad_input_is_named(call, words):
    with pytest.raises(InputError) as caught:
        call()
    assert [word for word in words if word not in str(caught.value)] == []


@pytest.mark.parametrize(
    ("matrix", "raw"),
    [
        (COUNTS, True),
        (sp.csc_matrix(COUNTS), True),
        (COUNTS.astype(np.int64), True),
        (np.log1p(COUNTS), False),
        (sp.csr_matrix(np.log1p(COUNTS)), False),
        (-COUNTS, False),
        (np.array([[1.0, np.nan]]), False),
    ],
)
def test_raw_counts_are_recognised(matrix, raw):
    assert looks_raw(matrix) is raw


def test_papalexi_is_normalised_as_the_reference(reference, papalexi):
    golden = papalexi()
    raw = ad.read_h5ad(reference / "data" / "papalexi2021.h5ad")[golden.obs_names, golden.var_names]
    result = log_normalize(raw.X, raw.obs["n_umis_full"])
    assert np.array_equal(result.indices, golden.X.indices)
    np.testing.assert_allclose(result.data, golden.X.data, rtol=1e-6)
