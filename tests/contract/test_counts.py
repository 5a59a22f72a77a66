"""Histograms of counts, and what is assigned by counts, of every backend against slow definitions."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
import scipy.sparse as sp
from tests.support import BACKENDS, kernels

from ptg.kernels.contract.mixture import CountHistograms


def entries(n_entries: int, n_guides: int, *, largest: int, dtype: type = np.float32, seed: int = 0):
    rng = np.random.default_rng(seed)
    counts = np.minimum(np.round(2 ** rng.exponential(2.0, n_entries)) - 1, largest).astype(dtype)
    return rng.integers(0, n_guides, n_entries).astype(np.int32), counts


def slow_histograms(indices: np.ndarray, counts: np.ndarray, n_guides: int) -> list[dict[int, int]]:
    found = Counter((int(guide), int(count)) for guide, count in zip(indices, counts, strict=True) if count > 0)
    return [{count: n for (g, count), n in sorted(found.items()) if g == guide} for guide in range(n_guides)]


def as_dicts(histograms: CountHistograms) -> list[dict[int, int]]:
    values, multiplicities, offsets = histograms
    return [dict(zip(values[a:b].tolist(), multiplicities[a:b].tolist(), strict=True)) for a, b in pairwise(offsets)]


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, np.uint16])
@pytest.mark.parametrize(
    ("n_entries", "n_guides", "largest"), [(0, 3, 9), (1, 1, 9), (400, 7, 3000), (5000, 40, 60000)]
)
def test_histograms(mixture, bounds, dtype, n_entries, n_guides, largest):
    indices, counts = entries(n_entries, n_guides, largest=largest, dtype=dtype)
    found = mixture.count_histograms(indices, counts, n_guides, resources=bounds())
    expected = slow_histograms(indices, counts, n_guides)
    assert as_dicts(found) == expected
    assert [list(bins) for bins in as_dicts(found)] == [sorted(bins) for bins in expected]
    assert [part.dtype for part in found] == [np.int64] * 3
    assert found.max_counts.tolist() == [max(bins, default=0) for bins in expected]
    assert found.n_cells.tolist() == [sum(bins.values()) for bins in expected]


def test_histograms_do_not_depend_on_blocks_threads_or_order(mixture, bounds):
    indices, counts = entries(300_000, 50, largest=2000)
    whole = mixture.count_histograms(indices, counts, 50, resources=bounds())
    order = np.random.default_rng(1).permutation(indices.size)
    for n_threads, memory, by in [(1, 1 << 20, slice(None)), (3, 1 << 20, order), (2, 1 << 30, order)]:
        resources = bounds(n_threads=n_threads, memory=memory)
        other = mixture.count_histograms(indices[by], counts[by], 50, resources=resources)
        for left, right in zip(whole, other, strict=True):
            np.testing.assert_array_equal(left, right)


def count_matrix(n_cells: int, n_guides: int, dtype: type) -> sp.csr_matrix:
    rng = np.random.default_rng(n_cells)
    dense = rng.poisson(1.0, (n_cells, n_guides)) * rng.integers(1, 9, (n_cells, n_guides))
    return sp.csr_matrix((dense * (rng.random(dense.shape) < 0.5)).astype(dtype))


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32])
@pytest.mark.parametrize("n_threads", [1, 3])
@pytest.mark.parametrize("n_cells", [1, 5, 40_000])
def test_cells_above_thresholds(mixture, bounds, n_cells, n_threads, dtype):
    matrix = count_matrix(n_cells, 17, dtype)
    thresholds = np.random.default_rng(0).integers(1, 9, 17).astype(float)
    thresholds[[2, 5]] = np.nan
    indptr, indices = mixture.assign_above(
        matrix.indptr, matrix.indices, matrix.data, thresholds, resources=bounds(n_threads=n_threads)
    )
    found = sp.csr_matrix((np.ones(indices.size), indices, indptr), shape=matrix.shape).toarray()
    np.testing.assert_array_equal(found, matrix.toarray() >= np.where(np.isnan(thresholds), np.inf, thresholds))
    assert indptr.dtype == np.int64
    assert indices.dtype == matrix.indices.dtype


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32])
@pytest.mark.parametrize("n_threads", [1, 3])
@pytest.mark.parametrize("n_cells", [1, 5, 40_000])
def test_max_guide(mixture, bounds, n_cells, n_threads, dtype):
    matrix = count_matrix(n_cells, 17, dtype)
    dense = matrix.toarray()
    guides, largest = mixture.max_guide(
        matrix.indptr, matrix.indices, matrix.data, resources=bounds(n_threads=n_threads)
    )
    np.testing.assert_array_equal(largest, dense.max(1))
    np.testing.assert_array_equal(guides, np.where(dense.max(1) > 0, dense.argmax(1), -1))
    assert (guides.dtype, largest.dtype) == (np.int64, np.float64)


def test_max_guide_of_unsorted_rows_and_stored_zeros(mixture, bounds):
    indptr = np.array([0, 3, 4, 4])
    indices, counts = np.array([4, 1, 3, 2], dtype=np.int32), np.array([7.0, 7.0, 9.0 - 2.0, 0.0])
    guides, largest = mixture.max_guide(indptr, indices, counts, resources=bounds())
    assert guides.tolist() == [1, -1, -1]
    assert largest.tolist() == [7.0, 0.0, 0.0]


def test_no_entries(mixture, bounds):
    indptr, empty = np.zeros(4, dtype=np.int64), np.zeros(0)
    assignments = mixture.assign_above(indptr, empty.astype(int), empty, np.ones(2), resources=bounds())
    assert assignments.indptr.tolist() == [0, 0, 0, 0]
    guides, largest = mixture.max_guide(indptr, empty.astype(int), empty, resources=bounds())
    assert guides.tolist() == [-1, -1, -1]
    assert largest.tolist() == [0, 0, 0]


@pytest.mark.parametrize("other", BACKENDS[1:])
@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int64, np.float16, np.float32, np.float64])
def test_counts_on_the_device_in_any_type(other, dtype):
    cupy = pytest.importorskip("cupy")
    indices, counts = entries(3000, 40, largest=200)
    counts = counts.astype(dtype)
    run, resources = kernels(other)
    expected = slow_histograms(indices, counts, 40)
    assert as_dicts(run.mixture.count_histograms(indices, counts, 40, resources=resources)) == expected
    there = cupy.asarray(indices), cupy.asarray(counts)
    assert as_dicts(run.mixture.count_histograms(*there, 40, resources=resources)) == expected
    indptr = np.arange(0, 3001, 10)
    here = run.mixture.max_guide(indptr, indices, counts, resources=resources)
    for found, same in zip(run.mixture.max_guide(indptr, *there, resources=resources), here, strict=True):
        np.testing.assert_array_equal(found, same)
    here = run.mixture.assign_above(indptr, indices, counts, np.full(40, 3.0), resources=resources)
    found = run.mixture.assign_above(indptr, *there, np.full(40, 3.0), resources=resources)
    for left, right in zip(found, here, strict=True):
        np.testing.assert_array_equal(left, right)


@pytest.mark.parametrize("n_cells", [0, 3])
def test_cells_without_entries(mixture, bounds, n_cells):
    csr = (np.zeros(n_cells + 1, dtype=np.int64), np.zeros(0, dtype=np.int32), np.zeros(0, dtype=np.float32))
    assigned = mixture.assign_above(*csr, np.ones(2), resources=bounds())
    assert assigned.indptr.tolist() == [0] * (n_cells + 1)
    assert assigned.indices.dtype == np.int32
    assert len(assigned.indices) == 0
    guides, counts = mixture.max_guide(*csr, resources=bounds())
    assert guides.tolist() == [-1] * n_cells
    assert counts.tolist() == [0.0] * n_cells
