"""Permutation tests on the Papalexi cells against pertpy's, within binomial error."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from statsmodels.stats.multitest import multipletests

import ptg

#: The options with which ptg has pertpy's definition.
PERTPY = {"edistance": {"estimator": "biased"}, "euclidean": {}}


@pytest.fixture(scope="module")
def tables(reference: Path, papalexi: Callable[[], ad.AnnData]) -> dict[str, tuple[pd.DataFrame, pd.DataFrame]]:
    adata = papalexi()
    found = {}
    for metric, options in PERTPY.items():
        expected = pd.read_csv(reference / "golden" / "distance_test" / f"{metric}_8groups.csv", index_col="group")
        test = ptg.DistanceTest(metric, n_perms=1000, **options)
        found[metric] = test(adata, "perturbation", contrast="NT", groups=list(expected.index)), expected
    return found


@pytest.mark.parametrize("metric", PERTPY)
def test_distances(tables: dict[str, tuple[pd.DataFrame, pd.DataFrame]], metric: str) -> None:
    found, expected = tables[metric]
    assert list(found.index) == list(expected.index)
    assert list(found.columns[:5]) == list(expected.columns)
    np.testing.assert_allclose(found["distance"], expected["distance"], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("metric", PERTPY)
def test_pvalues(tables: dict[str, tuple[pd.DataFrame, pd.DataFrame]], metric: str) -> None:
    """Both are counts out of 1,000 permutations of their own: they differ by 4 standard errors at most."""
    found, expected = tables[metric]
    error = np.sqrt(2 * expected["pvalue"] * (1 - expected["pvalue"]) / 1000) + 1 / 1000
    assert (np.abs(found["pvalue"] - expected["pvalue"]) <= 4 * error).all()
    assert (found["significant"] == expected["significant"]).all()
    assert (found["significant_adj"] == expected["significant_adj"]).all()


@pytest.mark.parametrize("metric", PERTPY)
def test_adjusted_pvalues(tables: dict[str, tuple[pd.DataFrame, pd.DataFrame]], metric: str) -> None:
    """pertpy counts the contrast, with the smallest p-value, as a test; ptg does not."""
    found, expected = tables[metric]
    with_contrast = expected["pvalue"].mask(expected.index == "NT", 1 / 1000)
    as_pertpy = multipletests(with_contrast, method="holm-sidak")[1]
    others = expected.index != "NT"
    np.testing.assert_allclose(as_pertpy[others], expected["pvalue_adj"][others], rtol=1e-12)
    recomputed = multipletests(found["pvalue"][others], method="holm-sidak")[1]
    np.testing.assert_allclose(found["pvalue_adj"][others], recomputed, rtol=1e-12)
