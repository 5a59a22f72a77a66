from __future__ import annotations

import anndata as ad
import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from matplotlib.figure import Figure
from matplotlib.text import Text

from ptg import plot
from ptg.data import InputError
from ptg.plot.style import CONTROL, NOT_PERTURBED, NOT_TESTED, PERTURBED, shorten, spread_labels

KO, NP, NT = 30, 20, 40


@pytest.fixture(autouse=True)
def _nothing_global_changes():
    before = dict(mpl.rcParams)
    yield
    plt.close("all")
    assert dict(mpl.rcParams) == before


@pytest.fixture
def ax():
    return Figure().subplots()


@pytest.fixture
def guides():
    rng = np.random.default_rng(0)
    fitted = np.concatenate([np.ones(80), np.full(20, 2.0), np.round(2 ** rng.normal(6, 1, 50))])
    counts = np.zeros((160, 3), np.float32)
    counts[:150, 0] = rng.permutation(fitted)
    counts[:4, 1] = 1
    var = pd.DataFrame(
        {
            "poisson_rate": [0.3, np.nan, np.nan],
            "gaussian_mean": [6.0, np.nan, np.nan],
            "gaussian_std": [1.0, np.nan, np.nan],
            "mix_probs_0": [2 / 3, np.nan, np.nan],
            "mix_probs_1": [1 / 3, np.nan, np.nan],
            "threshold": [4.0, np.nan, np.nan],
            "not_fitted_reason": ["", "its largest count is 1", "no counts"],
        },
        index=["Ag1", "Ag2", "Bg1"],
    )
    assigned = sp.csr_matrix((counts >= 4).astype(np.int8))
    return ad.AnnData(sp.csr_matrix(counts), var=var, layers={"assigned_guides": assigned})


@pytest.fixture
def mixed():
    """Target A: 30 perturbed, 20 not; target "B x" was not tested; 40 controls; one cell without label."""
    label = ["A"] * (KO + NP) + ["B x"] * 10 + ["NT"] * NT + [None]
    classes = ["A KO"] * KO + ["A NP"] * NP + ["B x NP"] * 10 + ["NT"] * NT + [None]
    overall = ["KO"] * KO + ["NP"] * (NP + 10) + ["NT"] * NT + [None]
    obs = pd.DataFrame({"gene": pd.Categorical(label), "mixscape_class": classes, "mixscape_class_global": overall})
    obs["guide"] = [f"{name}g{i % 2}" if name else None for i, name in enumerate(label)]
    obs.index = [f"c{i}" for i in range(len(obs))]
    adata = ad.AnnData(np.zeros((len(obs), 2)), obs=obs)
    rng = np.random.default_rng(1)
    tested = obs.index[obs["gene"].isin(["A", "NT"])]
    shift = {"KO": 1.2, "NP": 0.1, "NT": 0.0}
    score = rng.normal(0, 0.2, len(tested)) + obs.loc[tested, "mixscape_class_global"].map(shift).to_numpy()
    table = pd.DataFrame({"pvec": score, "gene": obs.loc[tested, "gene"].astype(str)}, index=tested)
    adata.uns["mixscape"] = {"A": {"all": table}}
    adata.uns["mixscape_targets"] = pd.DataFrame({"reason": ["", "too few markers"]}, index=["A", "B x"])
    adata.uns["mixscape_lda"] = np.column_stack([np.arange(KO + NT, dtype=float), np.ones(KO + NT)])
    return adata


def y_labels(axes):
    return [text.get_text() for text in axes.get_yticklabels()]


def texts(axes):
    return " | ".join(text.get_text() for text in axes.texts)


def test_guide_mixture_shows_counts_both_components_and_the_threshold(guides, ax):
    assert plot.guide_mixture(guides, "Ag1", ax=ax) is ax
    assert sum(patch.get_height() for patch in ax.patches) == 150
    lines = {line.get_label(): line for line in ax.get_lines()}
    assert set(lines) == {"background", "signal", "threshold"}
    grid, signal = lines["signal"].get_data()
    assert grid[signal.argmax()] == pytest.approx(6.0, abs=0.05)
    # The signal's height is its share of the cells times the density at its mean, per bar of half a doubling.
    assert signal.max() == pytest.approx(150 / 3 * 0.5 / np.sqrt(2 * np.pi), rel=1e-3)
    assert 2 ** lines["threshold"].get_xdata()[0] == pytest.approx(3.5)
    assigned = int((guides.X[:, 0].toarray() >= 4).sum())
    assert f"≥ 4 counts: {assigned} cells" in texts(ax)
    assert "UMI" in ax.get_xlabel()


def test_guide_mixture_says_why_a_guide_was_not_fitted(guides, ax):
    plot.guide_mixture(guides, "Ag2", ax=ax)
    assert "not fitted: its largest count is 1" in texts(ax)
    assert not ax.get_lines()
    assert "no cell has a count" in texts(plot.guide_mixture(guides, "Bg1"))


def test_guides_per_cell_counts_cells(guides, ax):
    assigned = guides.layers["assigned_guides"].toarray()
    assigned[:5, 2] = 1
    guides.layers["assigned_guides"] = sp.csr_matrix(assigned)
    plot.guides_per_cell(guides, most=2, ax=ax)
    number = np.minimum(assigned.sum(1), 2)
    assert [patch.get_height() for patch in ax.patches] == [(number == n).sum() for n in range(3)]
    assert [text.get_text() for text in ax.get_xticklabels()] == ["0", "1", "≥ 2"]


def test_mixscape_barplot_shows_shares_and_untested_targets(mixed, ax):
    plot.mixscape_barplot(mixed, "gene", "NT", ax=ax)
    assert y_labels(ax) == ["A", "B x"]
    bars = {container.get_label(): container.patches for container in ax.containers}
    assert bars["perturbed"][0].get_width() == pytest.approx(60.0)
    assert bars["not perturbed"][0].get_x() == pytest.approx(60.0)
    assert bars["not tested"][0].get_width() == 100.0
    assert bars["perturbed"][0].get_facecolor() == mpl.colors.to_rgba(PERTURBED)
    assert bars["not tested"][0].get_facecolor() == mpl.colors.to_rgba(NOT_TESTED)
    assert "50" in texts(ax)


def test_mixscape_barplot_by_guide_keeps_guides_of_a_target_together(mixed, ax):
    plot.mixscape_barplot(mixed, "gene", "NT", guide_key="guide", ax=ax)
    assert sorted(y_labels(ax)[:2]) == ["Ag0", "Ag1"]
    assert sorted(y_labels(ax)[2:]) == ["B xg0", "B xg1"]


def test_rows_beyond_the_limit_are_counted(mixed, ax):
    plot.mixscape_barplot(mixed, "gene", "NT", max_rows=1, ax=ax)
    assert y_labels(ax) == ["A"]
    assert "1 more target not shown" in texts(ax)


def test_perturbation_score_has_one_density_of_area_one_for_each_kind(mixed, ax):
    plot.perturbation_score(mixed, "A", ax=ax)
    curves = {line.get_label(): line.get_data() for line in ax.get_lines()}
    assert list(curves) == ["control (40)", "not perturbed (20)", "perturbed (30)"]
    for grid, density in curves.values():
        assert density.sum() * (grid[1] - grid[0]) == pytest.approx(1.0, abs=0.03)
    grid, density = curves["perturbed (30)"]
    assert grid[density.argmax()] == pytest.approx(1.2, abs=0.2)
    colors = {line.get_color() for line in ax.get_lines()}
    assert colors == {CONTROL, NOT_PERTURBED, PERTURBED}


def test_perturbation_score_of_equal_scores_is_drawn(mixed, ax):
    mixed.uns["mixscape"]["A"]["all"]["pvec"] = 1.0
    plot.perturbation_score(mixed, "A", ax=ax)
    assert all(np.isfinite(line.get_ydata()).all() for line in ax.get_lines())


def test_lda_draws_each_target_and_the_control(mixed, ax):
    plot.lda(mixed, "gene", "NT", ax=ax)
    points = {c.get_label(): np.asarray(c.get_offsets()) for c in ax.collections}
    assert {name: len(at) for name, at in points.items()} == {"NT": NT, "A": KO}
    assert points["A"][:, 0].tolist() == list(range(KO))
    assert "A" in [text.get_text() for text in ax.texts]


def test_lda_with_one_axis_spreads_cells(mixed, ax):
    mixed.uns["mixscape_lda"] = mixed.uns["mixscape_lda"][:, :1]
    plot.lda(mixed, "gene", "NT", ax=ax)
    assert "random" in ax.get_ylabel()


def test_many_targets_in_lda_are_named_up_to_a_limit(ax):
    names = [f"t{i}" for i in range(40)]
    obs = pd.DataFrame({"gene": pd.Categorical([*names * 2, "NT"]), "mixscape_class_global": ["KO"] * 80 + ["NT"]})
    obs.index = obs.index.astype(str)
    adata = ad.AnnData(np.zeros((81, 1)), obs=obs, uns={"mixscape_lda": np.random.default_rng(0).normal(size=(81, 2))})
    plot.lda(adata, "gene", "NT", ax=ax)
    assert len([text for text in ax.texts if text.get_text().startswith("t")]) == 24
    assert "16 targets with fewer cells" in texts(ax)


def test_distances_are_sorted_with_intervals(ax):
    distances = pd.Series({"NT": 0.0, "far": 2.0, "near": 0.1, "one cell": np.nan})
    variance = pd.Series({"NT": 0.0, "near": 0.04, "far": 0.01, "one cell": np.nan})
    plot.distances_to_control(distances, variance, control="NT", label="Energy distance to NT", ax=ax)
    assert y_labels(ax) == ["far", "near", "one cell"]
    assert ax.get_xlabel().startswith("Energy distance to NT")
    near, far = sorted((bar.get_segments()[0][:, 0] for bar in ax.collections), key=lambda ends: ends[0])
    assert far == pytest.approx([2 - 1.96 * 0.1, 2 + 1.96 * 0.1], abs=1e-4)
    assert near == pytest.approx([0.1 - 1.96 * 0.2, 0.1 + 1.96 * 0.2], abs=1e-4)
    points = {line.get_label(): list(line.get_xdata()) for line in ax.get_lines()}
    assert points["interval above 0"] == [2.0]
    assert points["interval reaches 0"][0] == 0.1
    assert "1.96 bootstrap s.d." in ax.get_xlabel()


def test_distances_with_intervals_of_their_own(ax):
    distances = pd.Series({"a": 2.0, "b": 0.5})
    interval = pd.DataFrame({"low": [0.3, 1.0], "high": [0.6, 5.0]}, index=["b", "a"])
    plot.distances_to_control(distances, interval=interval, label="d", ax=ax)
    assert ax.collections[0].get_segments()[0][:, 0].tolist() == [1.0, 5.0]
    assert ax.collections[0].get_segments()[1][:, 0].tolist() == [0.3, 0.6]
    assert ax.get_xlabel() == "d"
    assert ax.get_xlim()[1] < 5.0  # a wide one runs out of the figure


def test_distances_without_variance_are_points(ax):
    plot.distances_to_control(pd.Series({"b": 1.0, "a": 3.0, "c": -0.1}), max_rows=2, ax=ax)
    assert y_labels(ax) == ["a", "b"]
    assert "1 more group not shown" in texts(ax)
    assert ax.get_lines()[1].get_xdata().tolist() == [3.0, 1.0]


def test_heatmap_orders_groups_and_labels_the_scale(ax):
    table = pd.DataFrame([[0, 9, 1, 9], [9, 0, 9, -0.5], [1, 9, 0, 9], [9, -0.5, 9, 0]], list("abcd"), list("abcd"))
    plot.distance_heatmap(table, label="Energy distance", ax=ax)
    order = y_labels(ax)
    assert {frozenset(order[:2]), frozenset(order[2:])} == {frozenset("ac"), frozenset("bd")}
    shown = ax.images[0].get_array()
    assert np.array_equal(shown, table.loc[order, order].clip(lower=0))
    assert [a.get_ylabel() for a in ax.figure.axes[1:]] == ["Energy distance"]
    (tree,) = ax.child_axes
    assert len(tree.get_lines()) == 3
    # The two pairs are joined at the root of their distance, 1 and 0, and with each other at that of 9.
    tops = sorted(line.get_ydata().max() for line in tree.get_lines())
    assert tops == pytest.approx([0.0, 1.0, 3.0])
    joined = min(tree.get_lines(), key=lambda line: abs(line.get_ydata().max() - 1.0))
    assert {order[int(at)] for at in joined.get_xdata()[[0, -1]]} == {"a", "c"}
    kept = plot.distance_heatmap(table, cluster=False)
    assert y_labels(kept) == list("abcd")
    assert not kept.child_axes


def test_heatmap_with_nan_and_many_groups(ax):
    values = np.abs(np.subtract.outer(np.arange(80.0), np.arange(80.0)))
    values[3] = np.nan
    names = [f"group{i}" for i in range(80)]
    plot.distance_heatmap(pd.DataFrame(values, names, names), ax=ax)
    assert np.isnan(np.ma.filled(ax.images[0].get_array(), np.nan)).any()
    assert y_labels(ax) == []
    assert "80 groups" in ax.get_xlabel()


@pytest.fixture
def tested():
    """Result of a test: one clear effect, one weak, one like control, the contrast and a group without a p-value."""
    return pd.DataFrame(
        {
            "effect": [0.5, 0.02, -0.001, np.nan, np.nan],
            "zscore": [80.0, 5.0, -0.4, np.nan, np.nan],
            "significant_adj": [True, True, False, False, False],
        },
        index=["STAT1", "MYC", "CD86", "NT", "one cell"],
    )


def test_distance_test_shows_effects_and_names_the_significant(tested, ax):
    plot.distance_test(tested, label="Energy distance", ax=ax)
    points = {line.get_label(): line.get_xydata().tolist() for line in ax.get_lines()}
    assert points["significant (2)"] == [[0.5, 80.0], [0.02, 5.0]]
    assert points["not significant (1)"] == [[-0.001, -0.4]]
    assert [text.get_text() for text in ax.texts] == ["STAT1", "MYC"]
    assert ax.get_xlabel().startswith("Energy distance")
    assert [text.get_text() for text in plot.distance_test(tested, n_named=1).texts] == ["STAT1"]


def test_names_of_crowded_points_do_not_cover_each_other(ax):
    names = [f"group{i}" for i in range(30)]
    effect = np.linspace(0.5, 0.52, 30)
    crowd = pd.DataFrame({"effect": effect, "zscore": 50.0, "significant_adj": True}, index=names)
    plot.distance_test(crowd, n_named=30, ax=ax)
    assert 2 < len(ax.texts) < 30
    ax.figure.draw_without_rendering()  # a figure without a window has no canvas that draws
    boxes = [Text.get_window_extent(text).padded(-0.5) for text in ax.texts]  # without the lines to the points
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])


def test_axes_are_made_when_none_are_given(mixed):
    axes = plot.mixscape_barplot(mixed, "gene", "NT")
    assert axes.figure in [plt.figure(number) for number in plt.get_fignums()]


def test_labels_do_not_cover_each_other():
    at = np.array([[0.0, 0.0], [0.01, 0.0], [0.0, 0.01], [5.0, 0.0]])
    placed = spread_labels(at, ["gene"] * 4, (10.0, 1.0))
    assert np.array_equal(placed[:, 0], at[:, 0])
    assert np.diff(np.sort(placed[:3, 1])).min() > 0.04
    assert placed[3, 1] == 0.0


def test_long_names_lose_their_middle():
    assert shorten("STAT1") == "STAT1"
    assert shorten("a" * 30 + "_tail123", 20) == "a" * 11 + "…_tail123"


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda g, m: plot.guide_mixture(g, "Ag9"), ["guide_mixture", "'Ag9'", "nearest", "'Ag1'"]),
        (lambda g, m: plot.guide_mixture(m, "0"), ["assign_mixture_model"]),
        (lambda g, m: plot.guides_per_cell(g, layer="calls"), ["layer='calls'", "assigned_guides"]),
        (lambda g, m: plot.mixscape_barplot(m, "genes", "NT"), ["pert_key='genes'", "'gene'"]),
        (lambda g, m: plot.mixscape_barplot(m, "gene", "nt"), ["control='nt'", "'NT'"]),
        (lambda g, m: plot.mixscape_barplot(m, "gene", "NT", max_rows=0), ["max_rows=0"]),
        (lambda g, m: plot.perturbation_score(m, "B x"), ["target='B x'", "tested"]),
        (lambda g, m: plot.perturbation_score(g, "A"), ["uns['mixscape']", "Mixscape.mixscape"]),
        (lambda g, m: plot.lda(g, "gene", "NT"), ["uns['mixscape_lda']", "Mixscape.lda"]),
        (lambda g, m: plot.lda(m[5:], "gene", "NT"), ["70 rows", "65 perturbed and control cells"]),
        (lambda g, m: plot.lda(m, "gene", "NT", components=(0, 5)), ["components=(0, 5)", "2 axes"]),
        (lambda g, m: plot.distances_to_control([1, 2]), ["distances_to_control", "Series"]),
        (
            lambda g, m: plot.distances_to_control(pd.Series({"a": 1.0}), pd.Series({"b": 1.0})),
            ["variance", "'a'"],
        ),
        (
            lambda g, m: plot.distances_to_control(pd.Series({"a": 1.0}), interval=pd.DataFrame({"low": [1.0]}, ["a"])),
            ["interval", "'high'"],
        ),
        (
            lambda g, m: plot.distances_to_control(
                pd.Series({"a": 1.0}), interval=pd.DataFrame({"low": [1.0], "high": [2.0]}, ["b"])
            ),
            ["interval has no value", "'a'"],
        ),
        (
            lambda g, m: plot.distances_to_control(
                pd.Series({"a": 1.0}),
                pd.Series({"a": 1.0}),
                interval=pd.DataFrame({"low": [1.0], "high": [2.0]}, ["a"]),
            ),
            ["exclude each other"],
        ),
        (lambda g, m: plot.distance_test(pd.DataFrame({"effect": [1.0]})), ["distance_test", "'zscore'"]),
        (
            lambda g, m: plot.distance_test(
                pd.DataFrame({"effect": [np.nan], "zscore": [np.nan], "significant_adj": [False]})
            ),
            ["no row with a z-score"],
        ),
        (
            lambda g, m: plot.distance_heatmap(pd.DataFrame({"a": [1.0]}, ["b"])),
            ["distance_heatmap", "rows and columns"],
        ),
        (lambda g, m: plot.distances_to_control(pd.Series({"a": 1.0}), ax=3), ["ax", "int", "Axes"]),
    ],
)
def test_bad_calls_are_named(call, words, guides, mixed):
    with pytest.raises(InputError) as caught:
        call(guides, mixed)
    assert [word for word in words if word not in str(caught.value)] == []
