"""CuPy and cupyx inputs through the public API: the same numbers, and results where the input lives."""

from __future__ import annotations

from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from tests.support import small_screen

import ptg
from ptg.execute import open_run, place_like, to_host
from ptg.execute.device import why_no_gpu

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(bool(why_no_gpu()), reason=why_no_gpu() or "a GPU is there"),
]
DEVICES = [None, "cuda:0", "cpu"]


@pytest.fixture
def cp():
    return pytest.importorskip("cupy")


@pytest.fixture
def csp():
    return pytest.importorskip("cupyx.scipy.sparse")


@pytest.fixture
def containers(cp, csp):
    """Every container that stays on the GPU, made from a dense NumPy array."""
    return {
        "dense": cp.asarray,
        "Fortran order": lambda x: cp.asfortranarray(cp.asarray(x)),
        "csr": lambda x: csp.csr_matrix(cp.asarray(x)),
        "csc": lambda x: csp.csc_matrix(cp.asarray(x)),
        "coordinates": lambda x: csp.coo_matrix(cp.asarray(x)),
    }


KINDS = ["dense", "Fortran order", "csr", "csc"]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("metric", ["edistance", "mse"])
@pytest.mark.parametrize("kind", KINDS)
def test_distances(containers, kind: str, metric: str, device: str | None) -> None:
    here = small_screen(sparse=False)
    here.X = here.X.astype(np.float64)
    there = here.copy()
    there.X = containers[kind](here.X)
    found = ptg.Distance(metric, layer_key="X", device=device).pairwise(there, "perturbation")
    expected = ptg.Distance(metric, layer_key="X", device="cpu").pairwise(here, "perturbation")
    pd.testing.assert_frame_equal(found, expected, rtol=1e-9, atol=1e-12)
    arguments = {"bootstrap": True, "n_bootstrap": 5, "random_state": 1}
    found = ptg.Distance(metric, layer_key="X", device=device).onesided_distances(
        there, "perturbation", "NT", **arguments
    )
    expected = ptg.Distance(metric, layer_key="X", device="cpu").onesided_distances(
        here, "perturbation", "NT", **arguments
    )
    for a, b in zip(found, expected, strict=True):
        pd.testing.assert_series_equal(a, b, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("kind", [*KINDS, "coordinates"])
def test_arrays_of_two_groups(containers, kind: str, device: str | None) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((20, 3)), rng.standard_normal((31, 3))
    distance = ptg.Distance(device=device)
    expected = ptg.Distance(device="cpu")(x, y)
    for one, other in ((containers[kind](x), y), (x, containers[kind](y)), (containers[kind](x), sp.csr_matrix(y))):
        assert distance(one, other) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("kind", KINDS)
def test_guides(cp, csp, containers, kind: str, device: str | None) -> None:
    counts = np.random.default_rng(0).poisson(0.5, (300, 4)).astype(np.float32)
    counts[np.arange(300), np.arange(300) % 4] += np.round(2 ** np.random.default_rng(1).normal(5.0, 1.0, 300))
    here, there = ad.AnnData(counts), ad.AnnData(containers[kind](counts))
    ptg.GuideAssignment(device="cpu").assign_mixture_model(here)
    ptg.GuideAssignment(device=device).assign_mixture_model(there)
    assert (there.obs["assigned_guide"] == here.obs["assigned_guide"]).all()
    layer = there.layers["assigned_guides"]
    assert isinstance(layer, csp.csr_matrix)
    assert layer.dtype == np.float32
    assert np.array_equal(layer.get().toarray(), here.layers["assigned_guides"].toarray())
    bare = ptg.GuideAssignment(device=device).assign_by_threshold(containers[kind](counts), assignment_threshold=5)
    assert isinstance(bare, cp.ndarray if kind in {"dense", "Fortran order"} else csp.csr_matrix)
    assert np.array_equal((bare if isinstance(bare, cp.ndarray) else bare.toarray()).get(), counts >= 5)


def screened(adata: ad.AnnData, device: str | None, **signature: Any) -> ad.AnnData:
    """All four calls of Mixscape and Mixscale."""
    tool = ptg.Mixscape(device=device)
    tool.perturbation_signature(adata, "perturbation", "NT", **signature)
    tool.mixscape(adata, "perturbation", "NT")
    tool.mixscale(adata, "perturbation", "NT", max_de_genes=9)
    tool.lda(adata, "perturbation", "NT", n_comps=3)
    return adata


SIGNATURES = {
    "embedding": {"use_rep": "X_pca", "output": "layer"},
    "expression": {"use_rep": "X", "n_dims": None, "output": "layer"},
    "splits": {"ref_selection_mode": "split_by", "split_by": "replicate", "output": "layer"},
    "graph": {"use_rep": "X_pca", "output": "graph"},
    "references": {"ref_selection_mode": "split_by", "split_by": "replicate", "output": "graph"},
}


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("signature", list(SIGNATURES))
@pytest.mark.parametrize("kind", KINDS)
def test_mixscape(cp, containers, kind: str, signature: str, device: str | None) -> None:
    here = small_screen(sparse=False)
    here.X = here.X.astype(np.float64)
    there = here.copy()
    there.X = containers[kind](here.X)
    before = type(there.X)
    if signature == "embedding":
        there.obsm["X_pca"] = cp.asarray(here.obsm["X_pca"])
    found = screened(there, device, **SIGNATURES[signature])
    expected = screened(here, "cpu", **SIGNATURES[signature])
    assert type(there.X) is before
    pd.testing.assert_frame_equal(found.obs, expected.obs, rtol=1e-7, atol=1e-7)
    np.testing.assert_allclose(found.uns["mixscape_lda"], expected.uns["mixscape_lda"], rtol=1e-5, atol=1e-6)
    assert ("X_pert" in expected.layers) == (SIGNATURES[signature]["output"] == "layer")
    if "X_pert" in expected.layers:
        assert isinstance(found.layers["X_pert"], cp.ndarray)
        np.testing.assert_allclose(found.layers["X_pert"].get(), expected.layers["X_pert"], rtol=0, atol=1e-10)


@pytest.mark.parametrize("device", DEVICES)
def test_a_signature_that_is_not_finite(cp, device: str | None) -> None:
    adata = small_screen(sparse=False)
    adata.X = cp.asarray(adata.X)
    tool = ptg.Mixscape(device=device)
    tool.perturbation_signature(adata, "perturbation", "NT", use_rep="X_pca", output="layer")
    adata.layers["X_pert"][...] = cp.nan
    with pytest.raises(ptg.InputError, match=r"Mixscape.mixscape: adata.layers\['X_pert'\] has \d+ NaN or infinite"):
        tool.mixscape(adata, "perturbation", "NT")


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite(cp, containers, kind: str, device: str | None, value: float) -> None:
    before = cp.cuda.runtime.getDevice()
    with pytest.raises(ptg.InputError, match=r"X has 1 NaN or infinite value\(s\) among 2"):
        ptg.Distance(device=device)(containers[kind](np.array([[1.0, value]])), np.ones((1, 2)))
    assert cp.cuda.runtime.getDevice() == before


@pytest.mark.parametrize(("value", "word"), [(-1.0, "negative"), (0.5, "whole numbers"), (3e9, "at most")])
@pytest.mark.parametrize("kind", KINDS)
def test_values_that_are_not_counts(containers, kind: str, value: float, word: str) -> None:
    with pytest.raises(ptg.InputError, match=word):
        ptg.GuideAssignment().assign_by_threshold(containers[kind](np.array([[value, 1.0]])), assignment_threshold=1)


def test_unsorted_csr_with_duplicates_is_summed_without_touching_the_input(cp, csp) -> None:
    parts = (cp.array([1.0, 2.0, 3.0]), cp.array([2, 0, 2], dtype=np.int32), cp.array([0, 3, 3], dtype=np.int32))
    given = csp.csr_matrix(parts, shape=(2, 3))
    dense = np.array([[2.0, 0.0, 4.0], [0.0, 0.0, 0.0]])
    expected = ptg.Distance("euclidean", device="cpu")(dense, np.eye(3))
    assert ptg.Distance("euclidean")(given, np.eye(3)) == pytest.approx(expected)
    assert given.indices.tolist() == [2, 0, 2]
    assert given.data.tolist() == [1.0, 2.0, 3.0]


def test_work_is_queued_on_the_callers_stream(cp) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((500, 20)), rng.standard_normal((400, 20))
    long_work, source = cp.ones((4000, 4000)), cp.asarray(x)
    cp.cuda.Device().synchronize()
    stream = cp.cuda.Stream(non_blocking=True)
    with stream:
        late = cp.zeros_like(source)
        for _ in range(20):
            long_work = long_work @ long_work * 1e-4
        late[...] = source
        found = ptg.Distance()(late, y)
        assert cp.cuda.get_current_stream() == stream
    assert found == pytest.approx(ptg.Distance(device="cpu")(x, y), rel=1e-10)


def test_results_go_where_the_input_lives(cp, csp) -> None:
    binary = sp.csr_matrix(np.eye(3, dtype=np.int8))
    assert place_like(binary, np.zeros(1)) is binary
    moved = place_like(binary, cp.zeros(1))
    assert isinstance(moved, csp.csr_matrix)
    assert moved.dtype == np.float32
    back = place_like(moved, sp.eye(2))
    assert sp.issparse(back)
    assert np.array_equal(back.toarray(), np.eye(3))
    large = np.random.default_rng(0).standard_normal((3000, 1001))  # several pieces of a download
    assert np.array_equal(to_host(place_like(large, cp.zeros(1))), large)


def test_the_second_gpu(cp) -> None:
    if cp.cuda.runtime.getDeviceCount() < 2:
        pytest.skip("one GPU only")
    x, y = np.random.default_rng(0).standard_normal((2, 30, 4))
    expected = ptg.Distance(device="cpu")(x, y)
    with cp.cuda.Device(1):
        there = cp.asarray(x)
    for device in ("auto", "cuda", "cuda:0", "cuda:1", "cpu"):
        assert ptg.Distance(device=device)(there, y) == pytest.approx(expected, rel=1e-10)
        assert cp.cuda.runtime.getDevice() == 0
    with open_run("work", near=(there,)) as run:
        assert run.resources.devices[0] == cp.cuda.runtime.getDevice() == 1
    assert place_like(x, there).device.id == 1
