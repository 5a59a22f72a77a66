"""Laws of permutation tests and intervals on random data."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support import PAIR_METRICS

import ptg
from ptg.distance.metrics import available

RECORDS = available()
#: Metrics that are defined for any two cells and more, of any values.
METRICS = [
    name
    for name in PAIR_METRICS
    if RECORDS[name].needs != "counts" and not RECORDS[name].iterative
    if name not in {"mahalanobis", "mean_var_distribution"}
]


@st.composite
def screens(draw: st.DrawFn) -> ad.AnnData:
    sizes = draw(st.lists(st.integers(2, 12), min_size=2, max_size=4))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    labels = rng.permutation(np.repeat([f"g{i}" for i in range(len(sizes))], sizes))
    cells = rng.normal(size=(len(labels), 3)) + rng.normal(size=(len(sizes), 3))[[int(name[1:]) for name in labels]]
    obs = pd.DataFrame({"group": labels}, index=[f"c{i}" for i in range(len(labels))])
    return ad.AnnData(obs=obs, obsm={"X_pca": cells})


def table_of(adata: ad.AnnData, metric: str = "edistance", **options: object) -> pd.DataFrame:
    return ptg.DistanceTest(metric, n_perms=25, **options)(adata, "group", "g0")


@pytest.mark.parametrize("metric", METRICS)
@given(adata=screens())
def test_pvalues_are_counts(metric: str, adata: ad.AnnData) -> None:
    table = table_of(adata, metric).drop("g0")
    counts = table["pvalue"] * 26
    np.testing.assert_allclose(counts, counts.round(), atol=1e-9)
    assert table["pvalue"].between(1 / 26, 1).all()
    assert (table["pvalue_adj"] >= table["pvalue"] - 1e-12).all()
    assert (table["significant_adj"] <= table["significant"]).all()


@given(adata=screens(), seed=st.integers(0, 100))
def test_the_same_seed_gives_the_same_table(adata: ad.AnnData, seed: int) -> None:
    one, two = (table_of(adata, random_state=seed) for _ in range(2))
    pd.testing.assert_frame_equal(one, two, check_exact=True)


@given(adata=screens())
def test_the_order_of_groups_and_the_other_cells_do_not_matter(adata: ad.AnnData) -> None:
    """Permutations number the cells of a group in their order, so that order alone is kept."""
    by_group = adata[np.argsort(adata.obs["group"].to_numpy(), kind="stable")].copy()
    reversed_groups = (
        by_group.obs["group"]
        .astype("category")
        .cat.reorder_categories(sorted(by_group.obs["group"].unique(), reverse=True))
    )
    by_group.obs["group"] = reversed_groups
    found, expected = table_of(by_group), table_of(adata)
    for column in ("distance", "pvalue", "effect"):
        np.testing.assert_allclose(found.loc[expected.index, column], expected[column], rtol=1e-9, atol=1e-12)


@given(adata=screens(), scale=st.sampled_from([2.0, 0.25]), moved=st.floats(-10, 10))
def test_moving_and_scaling_all_cells_changes_no_pvalue(adata: ad.AnnData, scale: float, moved: float) -> None:
    other = adata.copy()
    other.obsm["X_pca"] = adata.obsm["X_pca"] * scale + moved
    found, expected = table_of(other), table_of(adata)
    np.testing.assert_array_equal(found["pvalue"], expected["pvalue"])
    np.testing.assert_allclose(found["zscore"], expected["zscore"], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("metric", METRICS)
@given(adata=screens())
def test_intervals_are_ordered_and_wider_for_more_confidence(metric: str, adata: ad.AnnData) -> None:
    _, _, draws = ptg.Distance(metric).onesided_distances(
        adata, "group", "g0", bootstrap=True, n_bootstrap=20, return_draws=True
    )
    for method in ("percentile", "basic"):
        narrow, wide = draws.interval(0.5, method).dropna(), draws.interval(0.9, method).dropna()
        assert (narrow["low"] <= narrow["high"]).all()
        assert (wide["low"] <= narrow["low"]).all()
        assert (narrow["high"] <= wide["high"]).all()
