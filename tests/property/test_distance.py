"""The laws that the registry declares for each metric, and laws of the package, on drawn data."""

from __future__ import annotations

import warnings
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support import PAIR_METRICS

import ptg
from ptg.distance.metrics import available

RECORDS = available()
#: Those that iterate are in test_transport.py.
METRICS = pytest.mark.parametrize("metric", [name for name in PAIR_METRICS if not RECORDS[name].iterative])

#: Metrics of what an optimiser finds, and metrics that draw: equal up to these tolerances, and with these options.
TOLERANCES = {"classifier_proba": 1e-4, "nb_ll": 1e-7, "mahalanobis": 1e-6}
OPTIONS = {"classifier_proba": {"tol": 1e-8, "max_iter": 10_000}}


@st.composite
def screens(draw: st.DrawFn, *, min_size: int = 2) -> ad.AnnData:
    """Up to five groups of 2 to 40 cells in 2 to 8 columns, cells in any order; some columns far from zero."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    sizes = draw(st.lists(st.integers(min_size, 40), min_size=2, max_size=5))
    n_columns = draw(st.integers(2, 8))
    labels = rng.permutation(np.repeat([f"g{i}" for i in range(len(sizes))], sizes))
    shift = {f"g{i}": rng.standard_normal(n_columns) for i in range(len(sizes))}
    cells = rng.standard_normal((len(labels), n_columns)) + np.array([shift[label] for label in labels])
    cells += draw(st.sampled_from([0.0, 5.0, 100.0])) * rng.standard_normal(n_columns)
    return from_cells(cells, labels)


def from_cells(cells: np.ndarray, labels: Any) -> ad.AnnData:
    obs = pd.DataFrame({"group": labels}, index=np.arange(len(labels)).astype(str))
    return ad.AnnData(obs=obs, obsm={"X_pca": cells})


def suited(adata: ad.AnnData, metric: str) -> ad.AnnData:
    """The same cells as counts for a metric of counts; positive for one of logarithms; enough of them to be regular."""
    centred = adata.obsm["X_pca"] - adata.obsm["X_pca"].mean(axis=0)
    if RECORDS[metric].needs == "counts":
        adata.obsm["X_pca"] = np.floor(np.exp(1.5 * centred) * 5)
    if metric == "mean_var_distribution":
        adata.obsm["X_pca"] = np.exp(0.3 * centred)
    if metric == "mahalanobis":
        adata.obsm["X_pca"] = adata.obsm["X_pca"][:, :2]
    return adata


def options_of(metric: str) -> list[dict[str, Any]]:
    common = {**OPTIONS.get(metric, {}), **dict(RECORDS[metric].law_options)}
    return [{**common, "estimator": estimator} for estimator in RECORDS[metric].estimators] or [common]


def pairwise(adata: ad.AnnData, metric: str, options: dict[str, Any] | None = None, **arguments: Any) -> Any:
    options = OPTIONS.get(metric, {}) if options is None else options
    with warnings.catch_warnings():
        # The counts of a small group need not be overdispersed, nor its covariance regular; a resample may be constant.
        words = (
            "have a singular covariance|have overdispersed counts in fewer|have no column with a mean and a variance"
        )
        warnings.filterwarnings("ignore", f".*({words})")
        return ptg.Distance(metric, **options).pairwise(adata, "group", **arguments)


def close(found: Any, expected: Any, adata: ad.AnnData, metric: str = "") -> None:
    """Equal up to rounding: of the value, and of data far from zero."""
    size = np.abs(adata.obsm["X_pca"]).max()
    np.testing.assert_allclose(found, expected, rtol=TOLERANCES.get(metric, 1e-8), atol=1e-11 * (1 + size))


@METRICS
@given(adata=screens())
def test_declared_laws(metric: str, adata: ad.AnnData) -> None:
    record, adata = RECORDS[metric], suited(adata, metric)
    for options in options_of(metric):
        square = pairwise(adata, metric, options).to_numpy()
        assert np.isfinite(square).all() or metric in {"nb_ll", "mahalanobis"}
        if record.zero_self:
            assert (np.diag(square) == 0).all()
            x = adata.obsm["X_pca"]
            # The unbiased estimator subtracts the pairs of a cell with its copy. Too few cells have no covariance.
            if options.get("estimator") != "unbiased" and not (metric == "mahalanobis" and len(x) <= x.shape[1]):
                close(ptg.Distance(metric, **options)(x, x.copy()), 0.0, adata)
        if record.symmetric:
            assert np.array_equal(square, square.T)
        if record.nonnegative or options.get("estimator") in record.nonnegative_estimators:
            assert not (square < -1e-12 * np.abs(adata.obsm["X_pca"]).max()).any()


@METRICS
@given(adata=screens())
def test_swapped_arguments(metric: str, adata: ad.AnnData) -> None:
    """A symmetric metric does not tell X from Y; the others do."""
    distance, adata = ptg.Distance(metric), suited(adata, metric)
    if metric in {"nb_ll", "mahalanobis"} and adata.obs["group"].value_counts().min() < 10:
        return  # need not be defined
    x, y = (adata.obsm["X_pca"][(adata.obs["group"] == name).to_numpy()] for name in ("g0", "g1"))
    if RECORDS[metric].symmetric:
        close(distance(x, y), distance(y, x), adata)
    else:
        assert distance(x, y) != distance(y, x)


def _rotated(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    rotation, _ = np.linalg.qr(rng.standard_normal((x.shape[1], x.shape[1])))
    return x @ rotation


CHANGES = {
    "translation": lambda x, rng: x + rng.standard_normal(x.shape[1]) * 10,
    "constant shift": lambda x, rng: x + 3.0,
    "rotation": _rotated,
    "scaling": lambda x, rng: x * 7.0,
    "monotone": lambda x, rng: np.expm1(3.0 * x / np.abs(x).max()),
    "affine": lambda x, rng: x @ (np.eye(x.shape[1]) + 0.3 * rng.standard_normal((x.shape[1], x.shape[1]))) + 1.0,
}


@METRICS
@pytest.mark.parametrize("change", CHANGES)
@given(adata=screens())
def test_declared_invariances(metric: str, change: str, adata: ad.AnnData) -> None:
    if change not in RECORDS[metric].invariances:
        return
    adata = suited(adata, metric)
    changed = adata.copy()
    changed.obsm["X_pca"] = CHANGES[change](adata.obsm["X_pca"], np.random.default_rng(0))
    for options in options_of(metric):
        close(pairwise(changed, metric, options), pairwise(adata, metric, options), adata, metric)


#: Up to the penalty of the regression, which is small; up to a few ranks, of three columns here.
NEARLY_INVARIANT = {
    *(("classifier_proba", change) for change in CHANGES),
    *((metric, "monotone") for metric in ("spearman_distance", "kendalltau_distance")),
}


@METRICS
@pytest.mark.parametrize("change", CHANGES)
def test_invariances_that_are_not_declared_do_not_hold(metric: str, change: str) -> None:
    held = RECORDS[metric].invariances
    if change in held or (change == "constant shift" and "translation" in held) or "affine" in held:
        return
    if metric == "nb_ll" or (metric, change) in NEARLY_INVARIANT:
        return
    rng = np.random.default_rng(1)
    adata = from_cells(np.abs(rng.standard_normal((26, 9)) + 1.0), ["a", "b"] * 13)
    adata.obsm["X_pca"][::2, 0] *= 3.0
    before = pairwise(adata, metric).iloc[0, 1]
    adata.obsm["X_pca"] = CHANGES[change](adata.obsm["X_pca"], rng)
    assert abs(pairwise(adata, metric).iloc[0, 1] - before) > 1e-3 * abs(before)


@METRICS
@given(adata=screens(), seed=st.integers(0, 1000))
def test_order_of_cells_does_not_matter(metric: str, adata: ad.AnnData, seed: int) -> None:
    if RECORDS[metric].seeded:
        return  # by position
    adata = suited(adata, metric)
    shuffled = adata[np.random.default_rng(seed).permutation(adata.n_obs)].copy()
    close(pairwise(shuffled, metric), pairwise(adata, metric), adata, metric)


@METRICS
@given(adata=screens(), data=st.data())
def test_names_of_groups_do_not_matter(metric: str, adata: ad.AnnData, data: st.DataObject) -> None:
    """Other names, in another order: the same values in other places."""
    adata = suited(adata, metric)
    names = sorted(adata.obs["group"].unique())
    new = dict(zip(names, data.draw(st.permutations([f"{name}+NP KO|" for name in names])), strict=True))
    renamed = from_cells(adata.obsm["X_pca"], adata.obs["group"].map(new).to_numpy())
    square = pairwise(renamed, metric)
    close(square.loc[list(new.values()), list(new.values())], pairwise(adata, metric, groups=names), adata, metric)


@METRICS
@given(adata=screens())
def test_other_groups_do_not_matter(metric: str, adata: ad.AnnData) -> None:
    adata = suited(adata, metric)
    names = sorted(adata.obs["group"].unique(), reverse=True)[:2]
    close(pairwise(adata, metric, groups=names), pairwise(adata, metric).loc[names, names], adata, metric)


@METRICS
@settings(max_examples=10)
@given(adata=screens(), n_threads=st.integers(1, 5), memory=st.integers(1 << 20, 1 << 24))
def test_same_bits_for_any_threads_and_memory(metric: str, adata: ad.AnnData, n_threads: int, memory: int) -> None:
    arguments: dict[str, Any] = {"bootstrap": True, "n_bootstrap": 5}
    adata = suited(adata, metric)
    plain, drawn = pairwise(adata, metric), pairwise(adata, metric, **arguments)
    before = (ptg.settings.n_threads, ptg.settings.memory)
    try:
        ptg.settings.n_threads, ptg.settings.memory = n_threads, memory
        assert np.array_equal(plain, pairwise(adata, metric), equal_nan=True)
        for a, b in zip(drawn, pairwise(adata, metric, **arguments), strict=True):
            assert np.array_equal(a, b, equal_nan=True)
    finally:
        ptg.settings.n_threads, ptg.settings.memory = before


@given(x=st.floats(-1e3, 1e3), y=st.floats(-1e3, 1e3), sizes=st.tuples(st.integers(2, 30), st.integers(2, 30)))
def test_edistance_of_two_points(x: float, y: float, sizes: tuple[int, int]) -> None:
    """All cells of a group in one point: no distance within, and 2 |x - y| between; exactly so."""
    cells = [np.full((n, 2), value) for n, value in zip(sizes, (x, y), strict=True)]
    for estimator in RECORDS["edistance"].estimators:
        found = ptg.Distance(estimator=estimator)(*cells)
        np.testing.assert_allclose(found, 2 * np.sqrt(2) * abs(x - y), rtol=1e-9, atol=1e-300)


@given(adata=screens(), factor=st.floats(1e-3, 1e3))
def test_edistance_scales_with_the_data(adata: ad.AnnData, factor: float) -> None:
    before = pairwise(adata, "edistance") * factor
    adata.obsm["X_pca"] = adata.obsm["X_pca"] * factor
    close(pairwise(adata, "edistance"), before, adata)
