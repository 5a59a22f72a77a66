"""Principal axes and discriminants of every backend against definitions, and the backends against each other."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np
import pytest
import scipy.linalg
import scipy.sparse as sp
from tests.support import BACKENDS, in_layout, kernels


def cells_and_groups(n_genes: int = 23, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Sparse-looking expression of four classes (40, 25, 9, 2 cells), one gene constant, one all zero."""
    rng = np.random.default_rng(seed)
    codes = np.repeat(np.arange(4), [40, 25, 9, 2])
    values = np.maximum(rng.normal(0.3, 1.0, (76, n_genes)) + rng.normal(0, 1, (4, n_genes))[codes], 0.0)
    values[:, 3] = 2.5
    values[:, 4] = 0.0
    order = rng.permutation(76)
    return values[order], codes[order]


def slow_axes(values: np.ndarray, count: int) -> np.ndarray:
    values = values.astype(np.float64)
    deviation = values.std(0, ddof=1)
    centred = (values - values.mean(0)) / np.where(deviation < 1e-12, 1.0, deviation)
    centred[:, deviation < 1e-12] = 0.0
    axes = np.linalg.svd(centred, full_matrices=False)[2][:count].T
    return axes * np.sign(axes[np.abs(axes).argmax(0), np.arange(count)])


#: Module, constant, value: what makes small data take a path that is meant for large ones.
PATHS = {
    "cpu": {
        "whole": [],
        "iterative": [("discriminant_axes", "_DIRECT", 0)],
        "unformed": [("discriminant_axes", "_SCATTER", 0)],
        "pieces": [("discriminant_axes", "_TILE", 7), ("discriminant_axes", "_BLOCK", 8)],
    },
    "cuda": {
        "whole": [],
        "iterative": [],  # from twice as many genes on as the subspace has vectors
        "unformed": [("principal_axes", "_FORMED", 0)],
        "pieces": [
            ("matrix_parts", "_BLOCK_VALUES", 200),
            ("principal_axes", "_GROUP_BYTES", 4000),
            ("discriminant_axes", "_FOLD", 10),
        ],
    },
}


def take_path(backend: str, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name, value in PATHS[backend][path]:
        monkeypatch.setattr(import_module(f"ptg.kernels.{backend}.{module}"), name, value)


def target_axes(backend: str, values: np.ndarray, codes: np.ndarray, layout: str, **options: Any) -> np.ndarray:
    """Axes of the classes from 1 on, of nobody, and of class 2 without axes, with class 0 as control."""
    implementation, resources = kernels(backend, **options)
    order = np.argsort(codes, kind="stable")[40:]
    return implementation.projection.principal_axes(
        in_layout(values[codes == 0], layout, values.dtype),
        in_layout(values[order], layout, values.dtype),
        AXES_OFFSETS,
        N_AXES,
        resources=resources,
    )


AXES_OFFSETS, N_AXES = np.array([0, 25, 25, 34, 36]), np.array([4, 2, 0, 3])


@pytest.mark.parametrize("layout", ["dense", "csr"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("path", list(PATHS["cpu"]))
@pytest.mark.parametrize("n_genes", [23, 250])
def test_principal_axes_match_definition(
    backend: str, layout: str, dtype: type, path: str, n_genes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    take_path(backend, path, monkeypatch)
    values, codes = cells_and_groups(n_genes)
    values = values.astype(dtype)
    found = target_axes(backend, values, codes, layout, n_threads=2)
    order = np.argsort(codes, kind="stable")[40:]
    expected = [
        slow_axes(np.concatenate([values[codes == 0], values[order[start:stop]]]), count)
        for start, stop, count in zip(AXES_OFFSETS[:-1], AXES_OFFSETS[1:], N_AXES, strict=True)
    ]
    np.testing.assert_allclose(found, np.concatenate(expected, axis=1), atol=1e-9)


@pytest.mark.smallest
@pytest.mark.parametrize("device", BACKENDS[1:])
def test_the_first_axis_by_a_small_subspace(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The iterative way as it is, in a size that the sanitizers can watch."""
    from ptg.kernels.cuda import eigen

    monkeypatch.setattr(eigen, "_SMALLEST_SUBSPACE", 0)
    implementation, resources = kernels(device)
    values, codes = cells_and_groups(100)
    control, cells = values[codes == 0], values[codes == 1]
    found = implementation.projection.principal_axes(
        control, cells, np.array([0, len(cells)]), np.array([1]), resources=resources
    )
    np.testing.assert_allclose(found, slow_axes(np.concatenate([control, cells]), 1), atol=1e-9)


@pytest.mark.parametrize("device", BACKENDS[1:])
@pytest.mark.parametrize("n_genes", [23, 250])
def test_so_many_axes_that_their_matrices_are_large(device: str, n_genes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """As 200 axes of 1,050 genes, or 400 of any number: more rows than a block of threads rotates."""
    from ptg.kernels.cuda import eigen

    monkeypatch.setattr(eigen, "_LARGEST", 20)
    values, codes = cells_and_groups(n_genes)
    found = target_axes(device, values, codes, "dense")
    expected = slow_axes(np.concatenate([values[codes == 0], values[codes == 1]]), N_AXES[0])
    np.testing.assert_allclose(found[:, : N_AXES[0]], expected, atol=1e-9)


@pytest.mark.parametrize("layout", ["dense", "csr"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("path", ["whole", "pieces"])
def test_discriminants_match_definition(
    backend: str, layout: str, dtype: type, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    take_path(backend, path, monkeypatch)
    implementation, resources = kernels(backend, n_threads=2)
    values, codes = cells_and_groups()
    axes = np.linalg.qr(np.random.default_rng(2).normal(size=(23, 6)))[0]
    found = implementation.projection.discriminants(
        in_layout(values, layout, dtype), codes, axes, tol=1e-4, resources=resources
    )
    projected = values.astype(dtype).astype(np.float64) @ axes
    means = np.stack([projected[codes == code].mean(0) for code in range(4)])
    within = (projected - means[codes]).T @ (projected - means[codes]) / 76
    between = (means - projected.mean(0)).T * np.bincount(codes) @ (means - projected.mean(0))
    loadings = scipy.linalg.eigh(between, within)[1][:, ::-1][:, :3]
    loadings *= np.sign(loadings[np.abs(loadings).argmax(0), np.arange(3)])
    np.testing.assert_allclose(found.loadings, loadings, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(found.coordinates, (projected - projected.mean(0)) @ loadings, rtol=1e-8, atol=1e-9)


def test_discriminants_of_equal_axes_have_full_rank_only_once(backend: str) -> None:
    """A repeated axis adds nothing: singular values below the tolerance are dropped."""
    implementation, resources = kernels(backend)
    values, codes = cells_and_groups()
    axes = np.linalg.qr(np.random.default_rng(2).normal(size=(23, 4)))[0]
    once, twice = (
        implementation.projection.discriminants(values, codes, some, tol=1e-4, resources=resources)
        for some in (axes, np.repeat(axes, 2, axis=1))
    )
    signs = np.sign((once.coordinates * twice.coordinates).sum(0))
    np.testing.assert_allclose(twice.coordinates * signs, once.coordinates, atol=1e-8)


def test_axes_and_discriminants_do_not_depend_on_threads(backend: str) -> None:
    values, codes = cells_and_groups()
    results = []
    for n_threads in (1, 3):
        options = {"n_threads": n_threads, "memory": (1 << 20) * n_threads}
        axes = target_axes(backend, values, codes, "csr", **options)
        implementation, resources = kernels(backend, **options)
        found = implementation.projection.discriminants(
            sp.csr_matrix(values), codes, axes, tol=1e-4, resources=resources
        )
        results.append((axes, found.coordinates))
    np.testing.assert_array_equal(results[0][0], results[1][0])
    np.testing.assert_array_equal(results[0][1], results[1][1])


def everything(backend: str) -> list[np.ndarray]:
    """Axes and discriminants of one small screen."""
    values, codes = cells_and_groups(250)
    axes = target_axes(backend, values, codes, "csr")
    implementation, resources = kernels(backend)
    found = implementation.projection.discriminants(values, codes, axes, tol=1e-4, resources=resources)
    return [axes, *found]


def test_ten_calls_have_the_same_bits(backend: str) -> None:
    first = everything(backend)
    for _ in range(9):
        for values, expected in zip(everything(backend), first, strict=True):
            np.testing.assert_array_equal(values, expected)


@pytest.mark.parametrize("other", BACKENDS[1:])
def test_backends_agree(other: str) -> None:
    for values, expected in zip(everything(other), everything("cpu"), strict=True):
        assert values.dtype == expected.dtype
        np.testing.assert_allclose(values, expected, rtol=1e-9, atol=1e-9)
