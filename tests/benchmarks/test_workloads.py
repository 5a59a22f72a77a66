"""The data of the benchmark."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
from benchmarks.worker import fingerprint

from benchmarks import device, workloads


def test_real_data_that_is_absent_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("PTG_REFERENCE_DIR", str(tmp_path))
    with pytest.raises(workloads.MissingDataError, match=r"golden/expression.h5ad is not under .*PTG_REFERENCE_DIR"):
        workloads.papalexi_expression()


def test_embedded_groups_have_the_described_shape():
    data = workloads.embedded_groups(3000, 20, 10, seed=1)
    points = data.obsm["X_pca"]
    assert points.shape == (3000, 10)
    assert points.dtype == np.float32
    sizes = data.obs["group"].value_counts()
    assert len(sizes) == 20
    assert sizes.min() >= 2
    assert sizes.max() > 2 * sizes.min()
    assert np.allclose(points.std(0), 10.0 * (1.0 + np.arange(10)) ** -0.7, rtol=0.15)
    assert np.array_equal(points, workloads.embedded_groups(3000, 20, 10, seed=1).obsm["X_pca"])


def test_guide_umis_have_the_described_shape():
    counts = workloads.guide_umis(4000, 50, seed=1).X
    assert isinstance(counts, sp.csr_matrix)
    assert counts.dtype == np.float32
    assert counts.has_canonical_format
    strongest = counts.max(axis=1).toarray().ravel()
    assert np.array_equal(counts.data, np.round(counts.data))
    assert counts.data.min() >= 1
    assert 0.8 < np.mean(strongest >= 5) < 0.95  # 90 % show their guide, a few of them weakly
    assert counts.data[counts.data < 4].sum() == pytest.approx(4000 * 6, rel=0.1)


def test_a_pool_of_controls_joins_the_first_group():
    plain = workloads.embedded_groups(3000, 20, 10, seed=1)
    pooled = workloads.embedded_groups(3000, 20, 10, n_control=800, seed=1)
    sizes = pooled.obs["group"].value_counts()
    assert 800 <= sizes["g0"] <= 800 + (plain.obs["group"] == "g0").sum()
    assert sizes.min() >= 2


@pytest.mark.skipif(device.found(), reason="counts are drawn on the GPU, by another generator")
def test_screens_have_the_described_shape():
    data = workloads.screen(2000, 300, 3, seed=1)
    again = workloads.screen(2000, 300, 3, seed=1)
    assert fingerprint(data) == fingerprint(again)
    assert fingerprint(data) != fingerprint(workloads.screen(2000, 300, 3, seed=2))
    assert isinstance(data.X, sp.csr_matrix)
    assert data.X.dtype == np.float32
    assert 0.15 < data.X.nnz / 600_000 < 0.35
    assert np.allclose(np.expm1(data.X.astype(np.float64)).sum(axis=1), 2000.0, rtol=1e-4)
    control = data.obs["perturbation"] == "NT"
    assert 0.03 < control.mean() < 0.07
    classes = data.obs["simulated_class"]
    assert (classes[control] == "NT").all()
    assert 0.55 < (classes[~control] == "KO").mean() < 0.65
    means = [
        np.asarray(data.X[((data.obs["perturbation"] == "t1") & (classes == name)).to_numpy()].mean(axis=0)).ravel()
        for name in ("KO", "NP")
    ]
    base = np.asarray(data.X[control.to_numpy()].mean(axis=0)).ravel()
    moved, escaped = (np.abs(mean - base).mean() for mean in means)
    assert moved > 1.5 * escaped
