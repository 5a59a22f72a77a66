"""Bootstrap draws and intervals against SciPy's, and `compare_distance`."""

from __future__ import annotations

import warnings
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from scipy import stats
from tests.distance.test_metrics import DEFINITIONS, two_groups
from tests.support import assert_unchanged, snapshot

import ptg
from ptg.distance import intervals

Distance = ptg.Distance
LEVELS = [0.5, 0.9, 0.95]


def scipy_interval(x: np.ndarray, y: np.ndarray, definition: Any, draws: np.ndarray, method: str, level: float) -> Any:
    """SciPy's interval from given draws: its resampling is replaced, its formulas are not."""
    given = stats.bootstrap(
        (np.arange(len(x)), np.arange(len(y))),
        lambda i, j: definition(x[i], y[j]),
        n_resamples=0,
        bootstrap_result=Drawn(draws),
        method=method,
        confidence_level=level,
        vectorized=False,
    )
    return given.confidence_interval


class Drawn:
    """What `scipy.stats.bootstrap` takes as the result of an earlier call."""

    def __init__(self, draws: np.ndarray) -> None:
        self.bootstrap_distribution = draws


@pytest.mark.parametrize("method", ["percentile", "basic", "BCa"])
@pytest.mark.parametrize(
    ("metric", "options"), [key for key in DEFINITIONS if key != ("edistance", (("estimator", "unbiased"),))]
)
def test_intervals_are_scipy_s_from_the_same_draws(metric: str, options: tuple[Any, ...], method: str) -> None:
    x, y = two_groups()
    distance = Distance(metric, **dict(options))
    _, draws = distance.bootstrap(x, y, n_bootstrap=200, return_draws=True)
    for level in LEVELS:
        found = draws.interval(level, method)
        expected = scipy_interval(x, y, DEFINITIONS[metric, options], draws.draws["distance"].to_numpy(), method, level)
        np.testing.assert_allclose(found.loc["distance"], [expected.low, expected.high], rtol=1e-9)
    np.testing.assert_allclose(draws.standard_error["distance"], draws.draws["distance"].std(ddof=1))


@pytest.mark.parametrize("method", ["percentile", "basic", "bca"])
def test_intervals_of_the_unbiased_distance_are_from_moved_draws(method: str) -> None:
    """Draws estimate the biased distance: they are moved by the known difference, then it is SciPy's formula again."""
    x, y = two_groups()
    _, draws = Distance().bootstrap(x, y, n_bootstrap=300, return_draws=True)
    unbiased, biased = (DEFINITIONS["edistance", (("estimator", name),)] for name in ("unbiased", "biased"))
    np.testing.assert_allclose(draws.distance["distance"], unbiased(x, y), rtol=1e-12)
    np.testing.assert_allclose(draws.plug_in["distance"], biased(x, y), rtol=1e-12)
    moved = draws.draws["distance"].to_numpy() + unbiased(x, y) - biased(x, y)
    expected = scipy_interval(x, y, unbiased, moved, {"bca": "BCa"}.get(method, method), 0.9)
    np.testing.assert_allclose(draws.interval(0.9, method).loc["distance"], [expected.low, expected.high], rtol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["percentile", "basic", "bca"])
def test_intervals_of_the_unbiased_distance_cover_it(method: str) -> None:
    """90 % intervals of 200 samples of 30 and 40 cells hold the distance of the populations 85 to 100 % of the time.

    They are cautious where the effect is small against the spread. Without moving the draws, none would hold it.
    """
    rng = np.random.default_rng(0)
    shift = np.eye(20)[0] * 0.8
    truth = Distance()(rng.normal(size=(6000, 20)), rng.normal(size=(6000, 20)) + shift)
    held = unmoved = 0
    for sample in range(200):
        x, y = rng.normal(size=(30, 20)), rng.normal(size=(40, 20)) + shift
        _, draws = Distance().bootstrap(x, y, n_bootstrap=199, random_state=sample, return_draws=True)
        low, high = draws.interval(0.9, method).loc["distance"]
        held += low <= truth <= high
        low, high = draws.draws["distance"].quantile([0.05, 0.95])
        unmoved += low <= truth <= high
    assert held >= 170
    assert unmoved <= 5


def test_draws_of_every_entry_point_are_the_same(screen: ad.AnnData) -> None:
    """Means and variances are those of the draws, and a pair has the same draws wherever it is asked for."""
    screen.obsm["X_pca"] = screen.obsm["X_pca"].astype(float)
    before = snapshot(screen)
    distance, arguments = Distance(), {"bootstrap": True, "n_bootstrap": 40, "return_draws": True}
    means, variances, square = distance.pairwise(screen, "perturbation", **arguments)
    assert square.draws.shape == (40, 6)
    assert square.draws.columns.names == ["perturbation", "other"]
    for a, b in square.draws.columns:
        np.testing.assert_allclose(square.draws[a, b].mean(), means.loc[a, b], rtol=1e-12)
        np.testing.assert_allclose(square.draws[a, b].var(ddof=0), variances.loc[b, a], rtol=1e-10)
    _, _, one = distance.onesided_distances(screen, "perturbation", "NT", **arguments)
    assert one.draws.columns.tolist() == ["A", "B", "C", "NT"]
    _, _, several = distance.onesided_distances(screen, "perturbation", ["NT", "C"], groups=["B"], **arguments)
    assert several.draws.columns.tolist() == [("B", "NT"), ("B", "C")]
    table = Distance.create_contrasts(screen, "perturbation", "NT").set_axis(["x", "y", "z"])
    found, contrasts = distance.contrast_distances(screen, table, **arguments)
    assert contrasts.draws.columns.tolist() == ["x", "y", "z"]
    for draws in (one.draws["B"], several.draws["B", "NT"]):
        np.testing.assert_allclose(draws, square.draws["B", "NT"], rtol=1e-9)
    np.testing.assert_allclose(found["edistance"], contrasts.draws.mean(), rtol=1e-12)
    np.testing.assert_allclose(found["edistance_variance"], contrasts.draws.var(ddof=0), rtol=1e-9)
    np.testing.assert_allclose(one.distance, distance.onesided_distances(screen, "perturbation", "NT"))
    assert_unchanged(screen, before)


def test_asymmetric_metrics_have_draws_of_both_directions(screen: ad.AnnData) -> None:
    _, _, draws = Distance("r2_distance").pairwise(
        screen, "perturbation", groups=["A", "B"], bootstrap=True, n_bootstrap=5, return_draws=True
    )
    assert draws.draws.columns.tolist() == [("A", "B"), ("B", "A")]


@pytest.mark.parametrize("method", ["percentile", "basic", "bca"])
def test_tables_of_intervals(screen: ad.AnnData, method: str) -> None:
    """The control's own distance is 0 without doubt; targets with an effect lie above 0."""
    _, _, draws = Distance().onesided_distances(
        screen, "perturbation", "NT", bootstrap=True, n_bootstrap=200, return_draws=True
    )
    table = draws.interval(0.95, method)
    assert table.index.name == "perturbation"
    assert table.loc["NT"].tolist() == [0.0, 0.0]
    assert (table.loc[["A", "B"], "low"] > 0).all()
    assert (table["low"] <= table["high"]).all()
    assert table.loc["C", "low"] <= draws.distance["C"] <= table.loc["C", "high"]


def test_bca_without_a_defined_distance_is_nan() -> None:
    """Two cells less one have no unbiased distance; draws on one side of the distance have no bias correction."""
    x, y = two_groups()
    _, draws = Distance().bootstrap(x[:2], y, return_draws=True)
    assert draws.interval(method="bca").isna().all(axis=None)
    one_sided = intervals.BootstrapDraws(
        pd.DataFrame({"a": [1.0, 2.0]}), pd.Series({"a": 5.0}), pd.Series({"a": 5.0}), lambda: np.zeros(1)
    )
    assert one_sided.interval(method="bca").isna().all(axis=None)
    assert one_sided.interval().loc["a"].tolist() == [1.025, 1.975]


def test_contrasts_without_cells_have_no_draws(screen: ad.AnnData) -> None:
    screen.obs.loc[screen.obs["perturbation"] == "A", "replicate"] = "r1"
    contrasts = pd.DataFrame({"perturbation": ["A", "B"], "reference": "NT", "replicate": "r2"})
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        table, draws = Distance().contrast_distances(
            screen, contrasts, bootstrap=True, n_bootstrap=9, return_draws=True
        )
    assert len(caught) == 1
    assert table[["edistance", "edistance_variance"]].isna().to_numpy().tolist() == [[True, True], [False, False]]
    assert draws.draws.columns.tolist() == [1]


@pytest.mark.parametrize("metric", ["edistance", "euclidean"])
@pytest.mark.parametrize("layout", [np.asarray, sp.csr_matrix])
def test_compare_distance_divides_by_the_distance_to_control(metric: str, layout: Any) -> None:
    x, y = two_groups()
    control = np.random.default_rng(5).poisson(1.2, (40, 8)).astype(float)
    control[:, 3] = 2.0  # a column without a range
    distance = Distance(metric)
    truth, predicted, baseline = (layout(cells) for cells in (x, y, control))
    np.testing.assert_allclose(
        distance.compare_distance(pert=truth, pred=predicted, ctrl=baseline),  # pertpy's names
        distance(x, y) / distance(control, y),
        rtol=1e-12,
    )
    for together in (False, True):
        fitted = np.vstack([x, control]) if together else control
        low, width = fitted.min(0), np.ptp(fitted, axis=0)
        width[width == 0] = 1.0
        a, b = (x - low) / width, (y - low) / width
        found = distance.compare_distance(truth, predicted, baseline, "scaled", together)
        np.testing.assert_allclose(found, distance(a, b) / distance(control, b), rtol=1e-10)


def test_compare_distance_of_a_perfect_and_of_no_prediction() -> None:
    x, y = two_groups()
    distance = Distance(estimator="biased")
    assert abs(distance.compare_distance(x, x, y)) < 1e-12
    assert np.isnan(Distance("mse").compare_distance(x, x, x))
    assert Distance("mse").compare_distance(x, y, y) == np.inf
