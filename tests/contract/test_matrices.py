"""Every backend's rows and blocks of matrices against NumPy's indexing."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from tests.support import BACKENDS, LAYOUTS, in_layout, kernels

from ptg.kernels.contract.matrices import Blocks


def values(dtype: type) -> np.ndarray:
    """90 x 70, a third of it not zero, one row all zero."""
    rng = np.random.default_rng(0)
    dense = (rng.normal(size=(90, 70)) * (rng.random((90, 70)) < 0.3)).astype(dtype)
    dense[4] = 0
    return dense


def some_blocks(n_rows: list[int], n_columns: list[int], shape: tuple[int, int] = (90, 70), seed: int = 1) -> Blocks:
    """Rows with repetitions, columns in any order."""
    rng = np.random.default_rng(seed)
    rows = [rng.integers(0, shape[0], n) for n in n_rows]
    columns = [rng.permutation(shape[1])[:n] for n in n_columns]
    return Blocks(
        np.concatenate([np.empty(0, np.int64), *rows]),
        np.cumsum([0, *n_rows]),
        np.concatenate([np.empty(0, np.int64), *columns]),
        np.cumsum([0, *n_columns]),
    )


BLOCKS = {
    "ragged": some_blocks([5, 0, 3, 40, 1, 0, 33], [7, 4, 0, 33, 1, 0, 64]),
    "one large block": some_blocks([300], [70]),
    "empty blocks last": some_blocks([3, 0, 0], [3, 2, 0]),
    "nothing in them": some_blocks([0, 4], [3, 0]),
    "none": some_blocks([], []),
}


def on_host(array: Any) -> Any:
    return array.get() if hasattr(array, "get") else array


def as_dense(matrix: Any) -> np.ndarray:
    host = on_host(matrix)
    return host.toarray() if sp.issparse(host) else host


def expected_blocks(dense: np.ndarray, blocks: Blocks) -> np.ndarray:
    found = [np.empty(0)]
    for block in range(len(blocks.row_offsets) - 1):
        rows = blocks.rows[blocks.row_offsets[block] : blocks.row_offsets[block + 1]]
        columns = blocks.columns[blocks.column_offsets[block] : blocks.column_offsets[block + 1]]
        found.append(dense[np.ix_(rows, columns)].T.astype(np.float64).ravel())
    return np.concatenate(found)


@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", BLOCKS)
def test_blocks_are_what_indexing_gives(backend: str, name: str, layout: str, dtype: type, kept: bool) -> None:
    implementation, resources = kernels(backend, n_threads=2)
    matrix = in_layout(values(dtype), layout)
    if kept:
        matrix = implementation.matrices.keep(matrix, resources=resources)
    found = implementation.matrices.read_blocks(matrix, BLOCKS[name], resources=resources)
    assert found.dtype == np.float64
    np.testing.assert_array_equal(on_host(found), expected_blocks(values(dtype), BLOCKS[name]))


@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("rows", [[4, 89, 0, 4, 4, 17], list(range(20, 60)), []])
def test_rows_are_what_indexing_gives(backend: str, rows: list[int], layout: str, dtype: type, kept: bool) -> None:
    implementation, resources = kernels(backend, n_threads=2)
    matrix = in_layout(values(dtype), layout)
    if kept:
        matrix = implementation.matrices.keep(matrix, resources=resources)
    found = implementation.matrices.take_rows(matrix, np.array(rows, dtype=np.int64), resources=resources)
    assert found.dtype == dtype
    assert found.shape == (len(rows), 70)
    np.testing.assert_array_equal(as_dense(found), values(dtype)[rows])


def test_more_rows_than_a_task(backend: str) -> None:
    implementation, resources = kernels(backend, n_threads=3)
    rows = np.random.default_rng(2).integers(0, 90, 10_001)
    for layout in LAYOUTS:
        matrix = in_layout(values(np.float32), layout)
        found = implementation.matrices.take_rows(matrix, rows, resources=resources)
        np.testing.assert_array_equal(as_dense(found), values(np.float32)[rows], err_msg=layout)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_is_kept_is_the_matrix(backend: str, layout: str) -> None:
    implementation, resources = kernels(backend)
    matrix = in_layout(values(np.float64), layout)
    kept = implementation.matrices.keep(matrix, resources=resources)
    assert (kept.shape, kept.dtype) == (matrix.shape, matrix.dtype)
    if sp.issparse(matrix):
        assert kept.nnz == matrix.nnz
    np.testing.assert_array_equal(as_dense(kept), values(np.float64))
    again = implementation.matrices.keep(kept, resources=resources)
    np.testing.assert_array_equal(as_dense(again), values(np.float64))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_does_not_fit_stays(backend: str, layout: str) -> None:
    implementation, resources = kernels(backend, memory=1000)
    matrix = in_layout(values(np.float64), layout)
    assert implementation.matrices.keep(matrix, resources=resources) is matrix


@pytest.mark.parametrize("layout", LAYOUTS)
def test_kernels_take_what_is_kept(backend: str, layout: str) -> None:
    implementation, resources = kernels(backend)
    matrix = in_layout(values(np.float64), layout)
    kept = implementation.matrices.keep(matrix, resources=resources)
    rows, offsets = np.arange(90), np.array([0, 30, 30, 90])
    for call in (
        lambda some: implementation.moments.group_sums(some, offsets, resources=resources),
        lambda some: implementation.moments.group_moments(some, offsets, resources=resources)[1],
        lambda some: implementation.ranksum.u_statistics(some, rows[:30], offsets[:3], rows[60:], resources=resources),
    ):
        np.testing.assert_array_equal(on_host(call(kept)), on_host(call(matrix)))


@pytest.mark.parametrize("device", BACKENDS[1:])
def test_a_cupy_that_cannot_count_the_values(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its first row would begin at a negative place: here 8 bits are too few, as 32 are for 2^31 values."""
    from ptg.kernels.cuda import matrices

    def in_few_bits(parts: tuple[Any, Any, Any], shape: tuple[int, int]) -> Any:
        return SimpleNamespace(indptr=parts[2].astype(np.int8))

    monkeypatch.setattr(matrices.csp, "csr_matrix", in_few_bits)
    _, resources = kernels(device)
    assert matrices.bring(sp.csr_matrix(np.ones((1, 127))), resources).indptr[-1] == 127
    with pytest.raises(ValueError, match="no CSR matrix of 128 values: update it, or pass device='cpu'"):
        matrices.bring(sp.csr_matrix(np.ones((1, 128))), resources)
