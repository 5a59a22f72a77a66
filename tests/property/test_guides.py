"""Laws of guide assignment on drawn counts: the order of cells and guides, the storage and copies must not matter."""

from __future__ import annotations

import warnings

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

import ptg

PARAMETERS = ["poisson_rate", "gaussian_mean", "gaussian_std", "mix_probs_1", "threshold", "final_loss"]


@st.composite
def counts(draw: st.DrawFn) -> np.ndarray:
    """Up to 300 cells and 6 guides: background, one or several guides per cell, some guides in few cells or none."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n_cells, n_guides = draw(st.integers(1, 300)), draw(st.integers(1, 6))
    carries = rng.random((n_cells, n_guides)) < draw(st.sampled_from([0.02, 0.2, 0.6]))
    signal = np.round(2 ** rng.normal(draw(st.floats(1, 10)), draw(st.floats(0.1, 2)), carries.shape))
    background = rng.poisson(draw(st.sampled_from([0.0, 0.1, 1.0])), carries.shape)
    return np.where(carries, signal, background).astype(np.int64)


def mixture(matrix: object, names: list[str] | None = None) -> ad.AnnData:
    names = [f"g{i}" for i in range(matrix.shape[1])] if names is None else names
    obs = pd.DataFrame(index=np.arange(matrix.shape[0]).astype(str))
    adata = ad.AnnData(matrix, obs=obs, var=pd.DataFrame(index=names))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        ptg.GuideAssignment().assign_mixture_model(adata, show_progressbar=False)
    return adata


def same_fit(left: ad.AnnData, right: ad.AnnData) -> None:
    pd.testing.assert_frame_equal(left.var, right.var, check_exact=True)


@given(counts(), st.integers(0, 2**32 - 1))
def test_the_order_of_cells_does_not_matter(matrix, seed):
    order = np.random.default_rng(seed).permutation(len(matrix))
    whole, permuted = mixture(matrix), mixture(matrix[order])
    same_fit(whole, permuted)
    assert whole.obs["assigned_guide"].to_numpy()[order].tolist() == permuted.obs["assigned_guide"].tolist()


@given(counts(), st.integers(0, 2**32 - 1))
def test_the_order_of_guides_does_not_matter(matrix, seed):
    order = np.random.default_rng(seed).permutation(matrix.shape[1])
    names = [f"g{i}" for i in range(matrix.shape[1])]
    whole, permuted = mixture(matrix, names), mixture(matrix[:, order], [names[i] for i in order])
    pd.testing.assert_frame_equal(whole.var.iloc[order], permuted.var, check_exact=True)


@given(counts(), st.sampled_from([np.float32, np.float64, np.int32]), st.booleans())
def test_the_storage_does_not_matter(matrix, dtype, one_thread):
    whole = mixture(matrix)
    ptg.settings.n_threads = 1 if one_thread else 3
    try:
        for container in (np.asfortranarray, sp.csr_matrix, sp.csc_matrix):
            other = mixture(container(matrix.astype(dtype)))
            same_fit(whole, other)
            assert whole.obs["assigned_guide"].equals(other.obs["assigned_guide"])
            assert (whole.layers["assigned_guides"] != other.layers["assigned_guides"]).nnz == 0
    finally:
        ptg.settings.n_threads = None


@given(counts())
def test_a_copied_guide_has_the_same_fit(matrix):
    n_guides = matrix.shape[1]
    twice = mixture(np.hstack([matrix, matrix]))
    left, right = (twice.var[PARAMETERS].to_numpy()[part] for part in (slice(n_guides), slice(n_guides, None)))
    np.testing.assert_array_equal(left, right)
    np.testing.assert_array_equal(left, mixture(matrix).var[PARAMETERS].to_numpy())


@given(counts())
def test_parameters_are_inside_the_box_and_cells_above_the_threshold_are_assigned(matrix):
    adata = mixture(matrix)
    fit = adata.var[adata.var["converged"]]
    assert fit["poisson_rate"].between(1e-4, 50, inclusive="neither").all()
    assert fit["gaussian_mean"].between(-5, 20, inclusive="neither").all()
    assert fit["gaussian_std"].between(0.05, 50, inclusive="neither").all()
    assert fit["mix_probs_1"].between(1e-3, 1 - 1e-3, inclusive="neither").all()
    assert (fit["gaussian_mean"] > fit["poisson_rate"]).all()
    assert ((adata.var["not_fitted_reason"] == "") == adata.var["converged"]).all()
    threshold = adata.var["threshold"].fillna(np.inf).to_numpy()
    np.testing.assert_array_equal(adata.layers["assigned_guides"].toarray(), matrix >= threshold)


@settings(max_examples=50)
@given(counts(), st.floats(0.5, 40))
def test_max_guide_is_among_those_above_the_threshold(matrix, threshold):
    assignment = ptg.GuideAssignment()
    above = assignment.assign_by_threshold(matrix, assignment_threshold=threshold)
    largest = assignment.assign_to_max_guide(sp.csc_matrix(matrix), assignment_threshold=threshold)
    np.testing.assert_array_equal(above, matrix >= threshold)
    expected = np.where(above.any(1), matrix.argmax(1).astype(str), "Negative")
    assert largest.tolist() == expected.tolist()
