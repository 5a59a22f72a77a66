"""Permutation tests against permuting the labels one by one."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from itertools import combinations
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from scipy import stats
from statsmodels.stats.multitest import multipletests
from tests.distance.test_metrics import DEFINITIONS, TOLERANCES
from tests.support import assert_unchanged, kernels, snapshot

import ptg
from ptg.distance import null, relabel
from ptg.distance.metrics.registry import make_metric
from ptg.distance.relabel import Pools
from ptg.distance.resampling import resampling_keys
from ptg.distance.sample import Sample
from ptg.execute import Run

DistanceTest = ptg.DistanceTest
COLUMNS = ["distance", "pvalue", "significant", "pvalue_adj", "significant_adj", "effect", "zscore", "pvalue_error"]


def of_sizes(sizes: dict[str, int], *, shift: float = 0.0, n_columns: int = 4, seed: int = 0) -> ad.AnnData:
    """Groups of normal cells in a random order; each is moved by `shift` more than the one before."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(list(sizes), list(sizes.values()))
    cells = (
        rng.normal(size=(len(labels), n_columns))
        + shift * np.repeat(np.arange(len(sizes)), list(sizes.values()))[:, None]
    )
    order = rng.permutation(len(labels))
    obs = pd.DataFrame({"group": labels[order]}, index=[f"c{i}" for i in range(len(labels))])
    return ad.AnnData(obs=obs, obsm={"X_pca": cells[order]})


def pool(adata: ad.AnnData, group: str, contrast: str) -> tuple[np.ndarray, np.ndarray]:
    label = adata.obs["group"].to_numpy()
    return adata.obsm["X_pca"][label == group], adata.obsm["X_pca"][label == contrast]


def explicit_values(
    adata: ad.AnnData, group: str, contrast: str, n_perms: int, seed: int, definition: Callable[..., float]
) -> np.ndarray:
    """Observed and permuted distances, the cells gathered for each permutation."""
    x, y = pool(adata, group, contrast)
    found, resources = kernels("cpu")
    key = resampling_keys([f"{group}\x1f{contrast}"], seed)
    n, k = len(x) + len(y), min(len(x), len(y))
    drawn = found.resampling.permutations(np.array([n]), np.array([k]), key, 0, n_perms, resources=resources)
    cells = np.concatenate([y, x])  # the cells are numbered through the contrast first
    values = [definition(x, y)]
    for chosen in drawn.astype(bool):
        sides = (cells[chosen], cells[~chosen])
        values.append(definition(*(sides if len(x) <= len(y) else sides[::-1])))
    return np.array(values)


@pytest.mark.parametrize(("metric", "options"), DEFINITIONS)
@pytest.mark.parametrize("layout", [np.asarray, sp.csr_matrix])
def test_the_table_is_what_explicit_permutations_give(
    metric: str, options: tuple[tuple[str, Any], ...], layout: Callable[[Any], Any]
) -> None:
    """Groups smaller and larger than the contrast; every metric, by sums, by means or from the cells."""
    adata = of_sizes({"A": 9, "B": 31, "NT": 20}, shift=0.3)
    adata.obsm["X_pca"] = np.abs(adata.obsm["X_pca"])
    if metric == "nb_ll":  # of counts
        adata.obsm["X_pca"] = np.floor(np.exp(2.0 * adata.obsm["X_pca"]))
    rtol = TOLERANCES.get(metric, 1e-11)
    stored = ad.AnnData(obs=adata.obs, obsm={"X_pca": layout(adata.obsm["X_pca"])})
    table = DistanceTest(metric, n_perms=60, random_state=3, **dict(options))(stored, "group", "NT")
    assert list(table.columns) == COLUMNS
    for group in ("A", "B"):
        values = explicit_values(adata, group, "NT", 60, 3, DEFINITIONS[metric, options])
        observed, permuted = values[0], values[1:]
        row = table.loc[group]
        np.testing.assert_allclose(row["distance"], observed, rtol=rtol)
        assert row["pvalue"] == (1 + (permuted >= observed).sum()) / 61
        np.testing.assert_allclose(row["effect"], observed - permuted.mean(), rtol=1e3 * rtol)
        np.testing.assert_allclose(row["zscore"], (observed - permuted.mean()) / permuted.std(), rtol=1e3 * rtol)
        np.testing.assert_allclose(row["pvalue_error"], np.sqrt(row["pvalue"] * (1 - row["pvalue"]) / 60), rtol=1e-12)


def test_the_distance_is_the_one_sided_one(screen: ad.AnnData) -> None:
    expected = ptg.Distance().onesided_distances(screen, "perturbation", "NT")
    table = DistanceTest(n_perms=5)(screen, "perturbation", "NT")
    pd.testing.assert_series_equal(table["distance"], expected, check_names=False, check_exact=True)
    assert table.index.name == "perturbation"


def test_the_contrast_row_takes_no_part(screen: ad.AnnData) -> None:
    table = DistanceTest(n_perms=50)(screen, "perturbation", "NT")
    assert table.loc["NT", ["distance", "pvalue", "pvalue_adj"]].tolist() == [0.0, 1.0, 1.0]
    assert not table.loc["NT", "significant"]
    assert not table.loc["NT", "significant_adj"]
    assert table.loc["NT", ["effect", "zscore", "pvalue_error"]].isna().all()
    others = table.drop("NT")
    assert table.dtypes[["significant", "significant_adj"]].tolist() == [bool, bool]
    np.testing.assert_array_equal(others["pvalue_adj"], multipletests(others["pvalue"], method="holm-sidak")[1])
    without = DistanceTest(n_perms=50)(screen, "perturbation", "NT", groups=["C", "A", "B"])
    pd.testing.assert_frame_equal(without, others.loc[["C", "A", "B"]])


@pytest.mark.parametrize("correction", ["holm-sidak", "bonferroni", "fdr_bh", "fdr_tsbky", "hommel"])
def test_corrections_are_those_of_statsmodels(screen: ad.AnnData, correction: str) -> None:
    table = DistanceTest(n_perms=50, correction=correction, padj_threshold=0.2)(screen, "perturbation", "NT").drop("NT")
    significant, adjusted, *_ = multipletests(table["pvalue"], alpha=0.2, method=correction)
    np.testing.assert_array_equal(table["pvalue_adj"], adjusted)
    np.testing.assert_array_equal(table["significant_adj"], significant)
    np.testing.assert_array_equal(table["significant"], table["pvalue"] < 0.2)


def test_alpha_is_the_older_name_of_the_threshold() -> None:
    assert DistanceTest(alpha=0.2).padj_threshold == 0.2
    assert DistanceTest().padj_threshold == 0.05


def test_more_permutations_begin_with_the_same() -> None:
    """So the p-value of 20 permutations bounds that of 200 from below."""
    adata = of_sizes({"A": 12, "NT": 15})
    counts = [round(DistanceTest(n_perms=n)(adata, "group", "NT").loc["A", "pvalue"] * (n + 1)) for n in (20, 40, 200)]
    assert counts == sorted(counts)
    values = explicit_values(adata, "A", "NT", 200, 0, DEFINITIONS["edistance", (("estimator", "unbiased"),)])
    assert counts == [1 + (values[1 : n + 1] >= values[0]).sum() for n in (20, 40, 200)]


def test_a_group_s_test_does_not_depend_on_the_others() -> None:
    adata = of_sizes({"A": 12, "B": 9, "C": 30, "NT": 15})
    every = DistanceTest(n_perms=99)(adata, "group", "NT")
    alone = DistanceTest(n_perms=99)(adata[adata.obs["group"].isin(["B", "NT"])].copy(), "group", "NT", groups=["B"])
    for column in ("distance", "pvalue", "effect", "zscore"):
        np.testing.assert_allclose(alone.loc["B", column], every.loc["B", column], rtol=1e-10)
    assert DistanceTest(n_perms=99, random_state=1)(adata, "group", "NT")["effect"].iloc[0] != every["effect"].iloc[0]


@pytest.mark.parametrize("metric", ["edistance", "mse"])
def test_same_bits_for_any_threads_and_memory(monkeypatch: pytest.MonkeyPatch, metric: str) -> None:
    """With little memory, pools and permutations are taken in several pieces."""
    adata = of_sizes({"A": 40, "B": 700, "NT": 600}, n_columns=3)
    adata.obsm["X_pca"] = adata.obsm["X_pca"].astype(np.float32)
    monkeypatch.setattr(ptg.settings, "n_threads", 1)
    expected = DistanceTest(metric, n_perms=70)(adata, "group", "NT")
    pieces: list[Any] = []
    cut = null._pieces
    monkeypatch.setattr(null, "_pieces", lambda *a: pieces.extend(cut(*a)) or iter(pieces))
    monkeypatch.setattr(ptg.settings, "n_threads", 3)
    monkeypatch.setattr(ptg.settings, "memory", 1 << 20)
    found = DistanceTest(metric, n_perms=70)(adata, "group", "NT")
    assert len(pieces) == 2
    assert pieces[1][1] < 71
    pd.testing.assert_frame_equal(found, expected, check_exact=True)


def test_pieces_hold_every_pool_and_as_much_as_fits() -> None:
    sample = Sample(np.zeros((130, 1)), np.array([0, 10, 30, 130]), ["A", "B", "NT"])
    pools = Pools(np.array([0, 1]), np.array([2, 2]), np.zeros(2, np.uint64))
    of_a, of_b = 16 * 10 + 1024, 16 * 20 + 1024
    assert list(null._pieces(sample, pools, 100, 1 << 30)) == [(slice(0, 2), 100)]
    split = list(null._pieces(sample, pools, 100, 100 * (of_a + 4 * 110)))
    assert split == [(slice(0, 1), 100), (slice(1, 2), 100 * (of_a + 440) // (of_b + 480))]
    assert list(null._pieces(sample, pools, 100, 1)) == [(slice(0, 1), 1), (slice(1, 2), 1)]


def test_ties_count_up_to_rounding() -> None:
    """Of one cell against one, both labellings are the same distance: every permutation reaches it."""
    obs = pd.DataFrame({"group": ["A", "NT"]}, index=["a", "b"])
    adata = ad.AnnData(obs=obs, obsm={"X_pca": np.array([[0.1, 0.7], [0.3, 0.9]])})
    for metric in ("mse", "cosine_distance"):
        table = DistanceTest(metric, n_perms=30)(adata, "group", "NT")
        assert table.loc["A", "pvalue"] == 1.0
        assert table.loc["A", "pvalue_error"] == 0.0
        assert np.isnan(table.loc["A", "zscore"])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_two_against_two_has_three_distinct_splits(dtype: type) -> None:
    """The observed split and its mirror image are two of the six: p is about 1/3 where the distance is the largest."""
    cells = np.array([[0.1, 0.33], [0.27, 0.2], [5.3, 9.1], [5.7, 8.77]], dtype)
    obs = pd.DataFrame({"group": ["A", "A", "NT", "NT"]}, index=list("abcd"))
    table = DistanceTest(n_perms=3000)(ad.AnnData(obs=obs, obsm={"X_pca": cells}), "group", "NT")
    assert abs(table.loc["A", "pvalue"] - 1 / 3) < 5 * np.sqrt(2 / 9 / 3000)


def test_identical_cells_are_never_significant() -> None:
    obs = pd.DataFrame({"group": np.repeat(["A", "NT"], 8)}, index=[f"c{i}" for i in range(16)])
    adata = ad.AnnData(obs=obs, obsm={"X_pca": np.full((16, 3), 0.1)})
    assert DistanceTest(n_perms=30)(adata, "group", "NT").loc["A", "pvalue"] == 1.0


def test_undefined_distances_are_nan_and_do_not_count() -> None:
    adata = of_sizes({"A": 10, "B": 9, "one": 1, "NT": 20}, shift=1.0)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        table = DistanceTest(n_perms=50)(adata, "group", "NT")
    (warning,) = caught
    assert "'one'" in str(warning.message)
    assert warning.filename == __file__
    assert table.loc["one"].drop(["significant", "significant_adj"]).isna().all()
    assert not table.loc["one", "significant"]
    two = DistanceTest(n_perms=50)(adata, "group", "NT", groups=["A", "B"])
    pd.testing.assert_frame_equal(table.loc[["A", "B"]], two)


def test_infinite_distances_tie() -> None:
    """Of two cells against two, a third of the splits is the true one: that its distance is infinite says no more."""
    obs = pd.DataFrame({"group": ["A", "A", "NT", "NT"]}, index=list("abcd"))
    adata = ad.AnnData(obs=obs, obsm={"X_pca": np.array([[1.0], [1.0], [3.0], [3.0]])})
    row = DistanceTest("t_test", epsilon=0.0, n_perms=600)(adata, "group", "NT").loc["A"]
    assert row["distance"] == np.inf
    np.testing.assert_allclose(row["pvalue"], 1 / 3, atol=0.08)
    assert np.isnan(row["zscore"])
    # Of the other two splits one is at 0 and one infinite, which must not bring the first nearer.
    adata.obsm["X_pca"] = np.array([[1.0, 0.0], [5.0, 1.0], [1.0, 8.0], [5.0, 9.0]])
    row = DistanceTest("t_test", epsilon=0.0, n_perms=600)(adata, "group", "NT").loc["A"]
    assert 0 < row["distance"] < np.inf
    np.testing.assert_allclose(row["pvalue"], 2 / 3, atol=0.08)


def test_permutations_without_a_distance_are_told() -> None:
    """Six equal cells of the contrast: a permutation can give them all to the group, without a covariance."""
    adata = of_sizes({"A": 4, "NT": 9}, n_columns=2)
    adata.obsm["X_pca"][np.flatnonzero(adata.obs["group"] == "NT")[:6]] = 1.0
    with pytest.warns(UserWarning, match=r"1 p-value\(s\) of mahalanobis are NaN: .* groups 'A'"):
        row = DistanceTest("mahalanobis", n_perms=99)(adata, "group", "NT").loc["A"]
    assert row["distance"] > 0
    assert np.isnan(row["pvalue"])
    assert not row["significant"]


def test_sides_of_equal_size_tie_when_they_are_swapped() -> None:
    """`tol` leaves swapped sides unequal in the seventh digit; of three cells each, they are a tenth of all splits."""
    adata = of_sizes({"A": 3, "NT": 3}, seed=4)
    groups = pool(adata, "A", "NT")
    cells = np.concatenate(groups)
    distance = ptg.Distance("wasserstein")
    splits = [(list(left), [i for i in range(6) if i not in left]) for left in combinations(range(6), 3)]
    values = np.array([distance(cells[x], cells[y]) for x, y in splits])
    expected = np.mean(values >= distance(*groups) * (1 - 1e-5))
    row = DistanceTest("wasserstein", n_perms=4000)(adata, "group", "NT").loc["A"]
    np.testing.assert_allclose(row["pvalue"], expected, atol=0.03)


def test_contrasts_are_tested_within_their_levels(screen: ad.AnnData) -> None:
    before = snapshot(screen)
    contrasts = ptg.Distance.create_contrasts(screen, "perturbation", "NT", split_by="replicate")
    table = DistanceTest(n_perms=40).test_contrasts(screen, contrasts)
    assert_unchanged(screen, before)
    assert list(table.columns) == ["perturbation", "reference", "replicate", *COLUMNS]
    np.testing.assert_array_equal(table["distance"], ptg.Distance().contrast_distances(screen, contrasts)["edistance"])
    np.testing.assert_array_equal(table["pvalue_adj"], multipletests(table["pvalue"], method="holm-sidak")[1])
    r1 = screen[screen.obs["replicate"] == "r1"].copy()
    definition = DEFINITIONS["edistance", (("estimator", "unbiased"),)]
    frame = ad.AnnData(
        obs=pd.DataFrame({"group": (r1.obs["perturbation"].astype(object) + " / r1").to_numpy()}, index=r1.obs_names),
        obsm={"X_pca": r1.obsm["X_pca"].astype(float)},
    )
    values = explicit_values(frame, "A / r1", "NT / r1", 40, 0, definition)
    row = table[(table["perturbation"] == "A") & (table["replicate"] == "r1")].iloc[0]
    assert row["pvalue"] == (1 + (values[1:] >= values[0]).sum()) / 41
    np.testing.assert_allclose(row["effect"], values[0] - values[1:].mean(), rtol=1e-5)


def test_contrasts_without_cells_are_nan(screen: ad.AnnData) -> None:
    screen.obs.loc[screen.obs["perturbation"] == "A", "replicate"] = "r1"
    contrasts = pd.DataFrame({"perturbation": ["A", "A", "B"], "reference": "NT", "replicate": ["r1", "r2", "r2"]})
    with pytest.warns(UserWarning, match=r"A vs NT \(replicate r2\)"):
        table = DistanceTest(n_perms=20).test_contrasts(screen, contrasts)
    assert table["pvalue"].isna().tolist() == [False, True, False]
    assert table["significant"].dtype == bool


def test_metrics_of_means_do_not_gather_the_larger_side(monkeypatch: pytest.MonkeyPatch) -> None:
    gathered: list[tuple[int, ...]] = []
    sums = relabel._sums_of_rows
    monkeypatch.setattr(
        relabel, "_sums_of_rows", lambda cells, rows, run: gathered.append(rows.shape) or sums(cells, rows, run)
    )
    DistanceTest("mse", n_perms=9)(of_sizes({"A": 3, "B": 70, "NT": 50}), "group", "NT")
    assert gathered == [(10, 3), (1, 53), (10, 50), (1, 120)]


@pytest.mark.parametrize("metric", ["edistance", "euclidean", "r2_distance"])
def test_the_default_gives_what_the_short_cuts_give(monkeypatch: pytest.MonkeyPatch, metric: str) -> None:
    """Spelled out cells, which every metric can do with."""
    adata = of_sizes({"A": 9, "B": 31, "NT": 20})
    cells = np.concatenate([adata.obsm["X_pca"][adata.obs["group"] == name] for name in ("A", "B", "NT")])
    sample = Sample(cells, np.array([0, 9, 40, 60]), ["A", "B", "NT"])
    pools = Pools(np.array([0, 1]), np.array([2, 2]), resampling_keys(["a", "b"], 0))
    tool, run = make_metric(metric, {}), Run(*kernels("cpu", memory=1 << 16))
    short = tool.permuted_values(sample, pools, range(12), run=run)
    left_out = tool.values_without_each_cell(sample, 0, 2, run=run)
    monkeypatch.setattr(relabel, "_needs_means", lambda metric: False)
    long = relabel.permuted_values(tool, sample, pools, range(12), run)
    np.testing.assert_allclose(long, short, rtol=1e-9)
    later = relabel.permuted_values(tool, sample, pools, range(5, 9), run)
    np.testing.assert_allclose(later, long[:, 5:9], rtol=1e-12)
    for found, expected in zip(relabel.values_without_each_cell(tool, sample, 0, 2, run), left_out, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("estimator", ["unbiased", "biased"])
@pytest.mark.parametrize("size", [8, 60, 400])
def test_p_is_uniform_where_labels_mean_nothing(papalexi: Callable[[], ad.AnnData], size: int, estimator: str) -> None:
    """Control cells of a real screen, split at random into a small or unequal group and the rest, 120 times over."""
    adata = papalexi()
    cells = adata.obsm["X_pca"][(adata.obs["perturbation"] == "NT").to_numpy()][:1000, :20]
    rng = np.random.default_rng(size)
    test = DistanceTest(estimator=estimator, n_perms=199)
    pvalues = []
    for split in range(120):
        labels = np.where(np.isin(np.arange(1000), rng.choice(1000, size, replace=False)), f"split{split}", "rest")
        obs = pd.DataFrame({"group": labels}, index=[f"c{i}" for i in range(1000)])
        pvalues.append(test(ad.AnnData(obs=obs, obsm={"X_pca": cells}), "group", "rest").loc[f"split{split}", "pvalue"])
    # Discrete p-values (1 + k) / 200 of a uniform k: half a step below, they are uniform up to the steps.
    assert stats.kstest(np.array(pvalues) - 0.5 / 200, "uniform").pvalue > 0.01
