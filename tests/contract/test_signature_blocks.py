"""Every backend's blocks of the signature against the whole signature, and that against its definition."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from tests.contract.test_matrices import BLOCKS, expected_blocks, on_host
from tests.support import BACKENDS, LAYOUTS, in_layout, kernels

N_CELLS, N_GENES = 90, 70


def expression(dtype: type) -> np.ndarray:
    dense = np.log1p(np.random.default_rng(5).poisson(0.6, (N_CELLS, N_GENES))).astype(dtype)
    dense[:, 3] = 0
    return dense


def graph() -> tuple[np.ndarray, np.ndarray]:
    """One to six neighbours of each cell, in any order, among 40 of them."""
    rng = np.random.default_rng(6)
    neighbors = [rng.permutation(40)[: rng.integers(1, 7)] for _ in range(N_CELLS)]
    return np.cumsum([0, *map(len, neighbors)]), np.concatenate(neighbors)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", BLOCKS)
def test_blocks_are_the_definition(backend: str, name: str, layout: str, dtype: type, kept: bool) -> None:
    implementation, resources = kernels(backend, n_threads=2)
    matrix, (offsets, neighbors) = in_layout(expression(dtype), layout), graph()
    values = expression(dtype)
    means = np.stack(
        [np.expm1(values)[neighbors[a:b]].astype(np.longdouble).mean(axis=0) for a, b in pairwise(offsets)]
    )
    expected = expected_blocks((np.log1p(means) - values).astype(float), BLOCKS[name])
    if kept:
        matrix = implementation.matrices.keep(matrix, resources=resources)
    found = implementation.neighbors.signature_blocks(matrix, BLOCKS[name], offsets, neighbors, resources=resources)
    # NumPy's float32 expm1 is not the only one within a unit in the last place.
    atol = 2e-15 if backend == "cpu" or dtype is np.float64 else 3e-7
    np.testing.assert_allclose(on_host(found), expected, rtol=0, atol=atol)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_blocks_have_the_bits_of_the_whole(backend: str, layout: str) -> None:
    implementation, resources = kernels(backend)
    matrix, (offsets, neighbors) = in_layout(expression(np.float64), layout), graph()
    whole = np.empty((N_CELLS, N_GENES))
    implementation.neighbors.neighbor_signature(
        matrix, np.arange(N_CELLS), offsets, neighbors, out=whole, resources=resources
    )
    for name, blocks in BLOCKS.items():
        kept = implementation.matrices.keep(matrix, resources=resources)
        found = implementation.neighbors.signature_blocks(kept, blocks, offsets, neighbors, resources=resources)
        np.testing.assert_array_equal(on_host(found), expected_blocks(whole, blocks), err_msg=name)


@pytest.mark.parametrize("backend", BACKENDS)
def test_ten_calls_have_the_same_bits(backend: str) -> None:
    implementation, resources = kernels(backend, n_threads=3)
    matrix, (offsets, neighbors) = in_layout(expression(np.float32), "csr"), graph()
    kept = implementation.matrices.keep(matrix, resources=resources)
    first, *others = (
        on_host(
            implementation.neighbors.signature_blocks(kept, BLOCKS["ragged"], offsets, neighbors, resources=resources)
        )
        for _ in range(10)
    )
    for again in others:
        np.testing.assert_array_equal(again, first)
