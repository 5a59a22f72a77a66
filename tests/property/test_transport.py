"""Laws of the metrics that transport cells, to the accuracy of their iteration."""

from __future__ import annotations

from typing import Any

import anndata as ad
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.property.test_distance import CHANGES, from_cells, pairwise, screens

import ptg
from ptg.distance.metrics import available

ITERATIVE = {name: record for name, record in available().items() if record.iterative}
METRICS = pytest.mark.parametrize("metric", ITERATIVE)


def cost_scale(adata: ad.AnnData) -> float:
    """Mean squared distance of two cells."""
    return 2 * float(adata.obsm["X_pca"].var(0).sum())


def close(found: Any, expected: Any, adata: ad.AnnData) -> None:
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=2e-6 * cost_scale(adata))


@METRICS
@given(adata=screens(min_size=1))
def test_declared_laws(metric: str, adata: ad.AnnData) -> None:
    record, square = ITERATIVE[metric], pairwise(adata, metric).to_numpy()
    assert np.isfinite(square).all()
    assert np.array_equal(square, square.T)
    assert (square >= (0.0 if record.nonnegative else -2e-6 * cost_scale(adata))).all()
    x = adata.obsm["X_pca"]
    if record.zero_self:
        assert ptg.Distance(metric)(x, x.copy()) == 0


@METRICS
@pytest.mark.parametrize("change", ["translation", "constant shift", "rotation"])
@given(adata=screens())
def test_declared_invariances(metric: str, change: str, adata: ad.AnnData) -> None:
    assert change == "constant shift" or change in ITERATIVE[metric].invariances
    changed = adata.copy()
    changed.obsm["X_pca"] = CHANGES[change](adata.obsm["X_pca"], np.random.default_rng(0))
    close(pairwise(changed, metric), pairwise(adata, metric), adata)


@METRICS
@given(adata=screens(), factor=st.floats(1e-3, 1e3))
def test_scales_with_the_square_of_the_data(metric: str, adata: ad.AnnData, factor: float) -> None:
    """With epsilon_scale epsilon scales too; a given epsilon must be scaled."""
    before = pairwise(adata, metric)
    fixed = pairwise(adata, metric, {"epsilon": cost_scale(adata)})  # type: ignore[dict-item]
    scaled = from_cells(adata.obsm["X_pca"] * factor, adata.obs["group"].to_numpy())
    close(pairwise(scaled, metric), before * factor**2, scaled)
    options: Any = {"epsilon": cost_scale(adata) * factor**2}
    close(pairwise(scaled, metric, options), fixed * factor**2, scaled)


@METRICS
@given(adata=screens(), seed=st.integers(0, 1000))
def test_order_of_cells_and_names_of_groups_do_not_matter(metric: str, adata: ad.AnnData, seed: int) -> None:
    shuffled = adata[np.random.default_rng(seed).permutation(adata.n_obs)].copy()
    before = pairwise(adata, metric)
    close(pairwise(shuffled, metric), before, adata)
    names = sorted(adata.obs["group"].unique())
    renamed = from_cells(adata.obsm["X_pca"], adata.obs["group"].map(dict(zip(names, names[::-1], strict=True))))
    close(pairwise(renamed, metric).to_numpy()[::-1, ::-1], before, adata)


@METRICS
@given(adata=screens(), n_threads=st.integers(1, 5), memory=st.integers(1 << 20, 1 << 24))
def test_same_bits_for_any_threads_and_memory(metric: str, adata: ad.AnnData, n_threads: int, memory: int) -> None:
    arguments: dict[str, Any] = {"bootstrap": True, "n_bootstrap": 3}
    plain, drawn = pairwise(adata, metric), pairwise(adata, metric, **arguments)
    before = (ptg.settings.n_threads, ptg.settings.memory)
    try:
        ptg.settings.n_threads, ptg.settings.memory = n_threads, memory
        assert np.array_equal(plain, pairwise(adata, metric))
        for a, b in zip(drawn, pairwise(adata, metric, **arguments), strict=True):
            assert np.array_equal(a, b)
    finally:
        ptg.settings.n_threads, ptg.settings.memory = before


@given(x=st.floats(-1e3, 1e3), y=st.floats(-1e3, 1e3), sizes=st.tuples(st.integers(1, 30), st.integers(1, 30)))
def test_two_points(x: float, y: float, sizes: tuple[int, int]) -> None:
    """All cells of a group in one point: every plan costs the same."""
    cells = [np.full((n, 2), value) for n, value in zip(sizes, (x, y), strict=True)]
    for metric in ITERATIVE:
        np.testing.assert_allclose(ptg.Distance(metric)(*cells), 2 * (x - y) ** 2, rtol=1e-9, atol=1e-300)


@given(n=st.integers(2, 30), epsilon=st.floats(0.1, 10.0), seed=st.integers(0, 100))
def test_more_entropy_costs_more(n: int, epsilon: float, seed: int) -> None:
    """The cost rises with epsilon, from that of the best assignment to that of independence."""
    x, y = np.random.default_rng(seed).standard_normal((2, n, 3))
    low, high = (ptg.Distance("wasserstein", epsilon=factor * epsilon)(x, y) for factor in (1.0, 2.0))
    mean = float(((x[:, None] - y) ** 2).sum(-1).mean())
    assert low <= high * (1 + 1e-6)
    assert high <= mean * (1 + 1e-6)
