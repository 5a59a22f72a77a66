"""The checks of the benchmark: they accept what they should, and nothing else."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pytest
from benchmarks.record import Answer

from benchmarks import agreement, calls, mixture, workloads

PARAMETERS = [0.8, 5.0, 1.2, 0.3]


def test_edistances_agree_within_tolerance_only():
    right = {"distance": np.array([[0.0, 1.0], [1.0, 0.0]]), "scale": np.array([2.0])}

    def changed(distance):
        return {**right, "distance": distance}

    assert agreement.edistances_agree(changed(right["distance"] + 1e-8), right).agrees
    assert not agreement.edistances_agree(changed(right["distance"] + 1e-3), right).agrees
    assert not agreement.edistances_agree(changed(right["distance"][:1]), right).agrees
    assert not agreement.edistances_agree(changed(right["distance"] * np.nan), right).agrees


def test_the_scale_is_the_mean_distance_between_cells():
    data = ad.AnnData(np.zeros((100, 1)), obsm={"X_pca": np.array([[0.0, 0.0], [3.0, 4.0]] * 50)})
    assert 2.0 < calls.mean_cell_distance(data)[0] < 3.0


def test_bootstraps_agree_within_their_standard_errors():
    right = {
        "distance": np.array([0.0, 5.0]),
        "variance": np.array([0.0, 0.5]),
        "n_draws": np.array([100]),
        "scale": np.array([1.0]),
    }
    error = 0.1  # of the difference of two means
    for found, agrees in ((5.0 + 4.9 * error, True), (5.0 + 5.1 * error, False), (np.nan, False)):
        assert agreement.bootstraps_agree(right, {**right, "distance": np.array([0.0, found])}).agrees is agrees
    assert not agreement.bootstraps_agree(right, {**right, "distance": np.array([0.01, 5.0])}).agrees
    assert not agreement.bootstraps_agree(right, {**right, "distance": np.array([5.0])}).agrees


def test_transport_costs_agree_relative_to_themselves():
    right = {"distance": np.array([[0.3, 2.0], [2.0, 0.3]]), "itself": np.eye(2, dtype=bool)}
    for factor, agrees in ((1.0009, True), (1.0011, False), (np.nan, False)):
        assert agreement.wassersteins_agree(right, {**right, "distance": right["distance"] * factor}).agrees is agrees
    itself = {**right, "distance": np.array([[9.0, 2.0], [2.0, 9.0]])}
    assert agreement.wassersteins_agree(right, itself).agrees
    assert not agreement.wassersteins_agree(right, {**right, "distance": right["distance"][:1]}).agrees


def metric_tables(**changed: np.ndarray) -> Answer:
    return {"mse": np.array([[0.0, 2.0], [2.0, 0.0]]), "mmd": np.array([[0.0, 1e-3], [1e-3, 0.0]]), **changed}


def test_tables_of_metrics_agree_relative_to_themselves():
    right = metric_tables()
    for factor, agrees in ((1.00009, True), (1.00011, False), (np.nan, False)):
        found = agreement.metrics_agree(right, metric_tables(mmd=right["mmd"] * factor), tolerance=1e-4)
        assert found.agrees is agrees
        assert found.detail.endswith("of mmd")
    assert agreement.metrics_agree(right, metric_tables(mmd=right["mmd"] + np.eye(2)), tolerance=1e-4).agrees
    for other in ({"mse": right["mse"]}, metric_tables(mse=right["mse"][:1])):
        assert not agreement.metrics_agree(right, other, tolerance=1e-4).agrees


def permutation_answer(**changed: np.ndarray) -> Answer:
    return {
        "distance": np.array([0.1, 2.0, 5.0]),
        "scale": np.array([10.0]),
        "pvalue": np.array([0.5, 0.06, 0.001]),
        "significant": np.array([False, False, True]),
        "n_permutations": np.array([1000]),
        **changed,
    }


@pytest.mark.parametrize(
    ("changed", "agrees"),
    [
        ({"pvalue": np.array([0.6, 0.06, 0.001])}, True),  # a standard error of the difference is 0.022
        ({"pvalue": np.array([0.62, 0.06, 0.001])}, False),
        ({"pvalue": np.array([0.5, 0.06, 0.008])}, True),  # 0.0030
        ({"pvalue": np.array([0.5, 0.06, 0.05])}, False),
        ({"pvalue": np.array([0.5, 0.06, np.nan])}, False),
        ({"pvalue": np.array([0.5, 0.06])}, False),
        ({"pvalue": np.array([0.5, 0.04, 0.001]), "significant": np.array([False, True, True])}, True),
        ({"significant": np.array([True, False, True])}, False),
        ({"significant": np.array([False, False, False])}, False),
        ({"distance": np.array([0.1, 2.0, 5.001])}, False),
    ],
)
def test_permutation_tests_agree_within_their_monte_carlo_error(changed, agrees):
    assert agreement.distance_tests_agree(permutation_answer(), permutation_answer(**changed)).agrees is agrees
    assert agreement.distance_tests_agree(permutation_answer(**changed), permutation_answer()).agrees is agrees


def guide_answer(parameters=(PARAMETERS, PARAMETERS), **changed: np.ndarray) -> Answer:
    rows = np.array(parameters, dtype=np.float64)
    return {
        "threshold": np.array([4.0, 4.0]),
        "loss": mixture.losses(workloads.guide_umis(2000, 2), rows),
        "comparable": mixture.comparable(rows),
        "label": np.array(["guide0"] * 1000 + ["guide1"] * 1000),
        **changed,
    }


WORSE_FIT = [0.8, 2.0, 3.0, 0.9]


@pytest.mark.parametrize(
    "changed",
    [
        {"threshold": np.array([4.0, 9.0])},
        {"parameters": [PARAMETERS, WORSE_FIT]},
        {"parameters": np.full((2, 4), np.nan)},
        {"label": np.array(["guide0"] * 2000)},
    ],
)
def test_mixtures_disagree_when_one_part_is_wrong(changed):
    answer = guide_answer()
    assert agreement.mixtures_agree(answer, answer).agrees
    assert not agreement.mixtures_agree(guide_answer(**changed), answer).agrees


def test_objectives_are_compared_one_way():
    good, bad = guide_answer(), guide_answer([PARAMETERS, WORSE_FIT], label=np.array(["guide1"] * 2000))
    assert agreement.objectives_agree(good, bad).agrees
    assert not agreement.objectives_agree(bad, good).agrees
    assert not agreement.objectives_agree(good, guide_answer(np.full((2, 4), np.nan))).agrees


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        (PARAMETERS, True),
        ([1e-10, *PARAMETERS[1:]], True),  # moved to the border
        ([60.0, 70.0, 1.0, 0.3], False),
        ([3.0, 2.0, 1.0, 0.3], False),  # the signal below the background
        ([0.8, 5.0, 0.01, 0.3], False),
        ([0.8, 5.0, 1.2, 1e-4], False),
        ([np.nan] * 4, False),
    ],
)
def test_fits_within_the_box_are_comparable(parameters, expected):
    assert mixture.comparable(np.array([parameters]))[0] == expected
    losses = mixture.losses(workloads.guide_umis(2000, 1), np.array([parameters]))
    assert np.isfinite(losses[0]) == np.isfinite(parameters[0])


def test_mixture_loss_is_the_log_joint():
    from scipy import stats

    counts = np.array([1.0, 1.0, 2.0, 30.0, 60.0])
    rate, mean, deviation, weight = PARAMETERS
    y = np.log2(counts)
    likelihood = (1 - weight) * np.exp(stats.poisson.logpmf(np.round(y), rate))  # equal to the continuous one where y
    whole = y == np.round(y)  # is a whole number
    continuous = rate**y * np.exp(-rate) / np.array([np.prod(np.arange(1, round(value) + 1)) for value in y])
    assert np.allclose(likelihood[whole], (1 - weight) * continuous[whole])
    whole_counts = counts[whole]
    joint = np.log((1 - weight) * continuous[whole] + weight * stats.norm.pdf(y[whole], mean, deviation)).sum()
    priors = (
        stats.norm.logpdf(mean, 3, 2)
        + stats.lognorm.logpdf(deviation, 1, scale=np.exp(2))
        + stats.lognorm.logpdf(rate, 1)
        + stats.dirichlet.logpdf([1 - weight, weight], [0.9, 0.1])
    )
    constants = -np.log(2) - 1.5 * np.log(2 * np.pi) + stats.dirichlet.logpdf([0.5, 0.5], [0.9, 0.1]) + np.log(0.5)
    expected = -(joint + priors - constants)
    assert mixture.loss(whole_counts, tuple(PARAMETERS)) == pytest.approx(expected, rel=1e-12)


def class_answer() -> Answer:
    rng = np.random.default_rng(0)
    labels = np.array(["NT"] * 50 + ["A"] * 150)
    score = np.where(labels == "NT", 0.0, rng.normal(size=200))
    return {
        "perturbed": labels != "NT",
        "class": np.char.add(labels, " KO"),
        "score": score,
        "lda": rng.normal(size=(200, 3)),
        "lda_cells": np.arange(200),
    }


def test_classifications_agree_up_to_column_signs():
    answer = class_answer()
    flipped = {**answer, "lda": answer["lda"] * [1, -1, 1]}
    assert agreement.classifications_agree(answer, flipped).agrees


@pytest.mark.parametrize(
    ("changed", "value"),
    [
        ("class", np.array(["A NP"] * 200)),
        ("score", np.random.default_rng(1).normal(size=200)),
        ("score", np.zeros(200)),
        ("lda", np.random.default_rng(1).normal(size=(200, 3))),
        ("lda_cells", np.arange(200)[::-1]),
    ],
)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_classifications_disagree_when_one_part_is_wrong(changed, value):
    answer = class_answer()
    assert agreement.classifications_agree(answer, answer).agrees
    assert not agreement.classifications_agree({**answer, changed: value}, answer).agrees


def test_classes_scores_and_embeddings_are_also_compared_one_by_one():
    answer = class_answer()
    rng = np.random.default_rng(1)
    wrong = {
        agreement.classes_agree: {"class": np.array(["A NP"] * 200)},
        agreement.scores_agree: {"score": rng.normal(size=200)},
        agreement.embeddings_agree: {"lda": rng.normal(size=(200, 3))},
    }
    for check, changed in wrong.items():
        assert check(answer, answer).agrees
        assert not check(answer, {**answer, **changed}).agrees
    rotated = {**answer, "lda": answer["lda"] @ np.linalg.qr(rng.normal(size=(3, 3)))[0]}
    assert agreement.embeddings_agree(answer, rotated).agrees
    assert not agreement.embeddings_agree(answer, {**answer, "lda": answer["lda"][:, :2]}).agrees
