"""The benchmark's records, checks and table: no library is timed here."""

from __future__ import annotations

import json

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from benchmarks.record import Answer, Side
from benchmarks.worker import installed_versions, peak_memory, timed_calls

from benchmarks import agreement, report, rows, workloads

PARAMETERS = [0.8, 5.0, 1.2, 0.3]


def timing(first: float, warm: float) -> report.Timing:
    return report.Timing({"call": first}, {"call": warm}, {"call": warm}, 2_000_000, 1_000_000, 0.5, [])


def outcome(**changes: object) -> report.Outcome:
    fields: dict[str, object] = {
        "name": "row",
        "work": "some work",
        "tolerance": "1e-6",
        "note": "",
        "target_warm": 6.0,
        "target_first": None,
        "agrees": True,
        "agreement": "error 1e-9",
        "ptg": timing(1.0, 0.1),
        "peer": timing(2.0, 0.8),
    }
    return report.Outcome(**{**fields, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize("row", rows.ROWS, ids=lambda row: row.name)
def test_records_are_complete(row):
    assert list(row.ptg.steps) == list(row.peer.steps)
    assert row.work
    assert row.tolerance
    assert row.target_warm >= 1.0
    assert callable(row.data)
    assert callable(row.check)


def test_names_are_unique_and_selectable():
    names = [row.name for row in rows.ROWS]
    assert len(set(names)) == len(names)
    assert rows.select([names[-1], names[0]]) == [rows.ROWS[-1], rows.ROWS[0]]
    with pytest.raises(SystemExit, match="nonsense not known"):
        rows.select(["nonsense"])


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


def edistance_data() -> ad.AnnData:
    return workloads.embedded_groups(500, 4, 8)


def test_edistances_agree_within_tolerance_only():
    data = edistance_data()
    right = np.array([[0.0, 1.0], [1.0, 0.0]])
    assert agreement.edistances_agree(data, {"distance": right + 1e-8}, {"distance": right}).agrees
    assert not agreement.edistances_agree(data, {"distance": right + 1e-3}, {"distance": right}).agrees
    assert not agreement.edistances_agree(data, {"distance": right[:1]}, {"distance": right}).agrees
    assert not agreement.edistances_agree(data, {"distance": right * np.nan}, {"distance": right}).agrees


def guide_data() -> tuple[ad.AnnData, Answer]:
    data = workloads.guide_umis(2000, 2)
    answer: Answer = {
        "threshold": np.array([4.0, 4.0]),
        "parameters": np.array([PARAMETERS, PARAMETERS]),
        "label": np.array(["guide0"] * 1000 + ["guide1"] * 1000),
    }
    return data, answer


@pytest.mark.parametrize(
    ("changed", "value"),
    [
        ("threshold", np.array([4.0, 9.0])),
        ("parameters", np.array([PARAMETERS, [0.8, 2.0, 3.0, 0.9]])),  # a worse fit
        ("parameters", np.full((2, 4), np.nan)),
        ("label", np.array(["guide0"] * 2000)),
    ],
)
def test_mixtures_disagree_when_one_part_is_wrong(changed, value):
    data, answer = guide_data()
    assert agreement.mixtures_agree(data, answer, answer).agrees
    assert not agreement.mixtures_agree(data, {**answer, changed: value}, answer).agrees


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
    assert agreement._loss(whole_counts, np.array(PARAMETERS)) == pytest.approx(expected, rel=1e-12)


def class_data() -> tuple[ad.AnnData, Answer]:
    rng = np.random.default_rng(0)
    labels = np.array(["NT"] * 50 + ["A"] * 150)
    data = ad.AnnData(obs=pd.DataFrame({"perturbation": labels}, index=[str(i) for i in range(200)]))
    score = np.where(labels == "NT", 0.0, rng.normal(size=200))
    return data, {
        "class": np.char.add(labels, " KO"),
        "score": score,
        "lda": rng.normal(size=(200, 3)),
        "lda_cells": np.arange(200),
    }


def test_classifications_agree_up_to_column_signs():
    data, answer = class_data()
    flipped = {**answer, "lda": answer["lda"] * [1, -1, 1]}
    assert agreement.classifications_agree(data, answer, flipped).agrees


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
    data, answer = class_data()
    assert agreement.classifications_agree(data, answer, answer).agrees
    assert not agreement.classifications_agree(data, {**answer, changed: value}, answer).agrees


def test_calls_start_from_the_same_data_each_time():
    data = ad.AnnData(np.zeros((2, 1)))
    seen = []

    def step(copy: ad.AnnData) -> float:
        seen.append(copy.X[0, 0])
        copy.X[0, 0] += 1.0
        return copy.X[0, 0]

    side = Side({"step": step}, lambda copy, results: {"value": np.array([results["step"]])})
    seconds, answer = timed_calls(side, data, 2)
    assert seen == [0.0, 0.0, 0.0]
    assert answer["value"] == [1.0]
    assert data.X[0, 0] == 0.0
    assert len(seconds) == 3
    assert all(took["step"] >= 0.0 for took in seconds)


def test_peak_memory_and_versions_are_found():
    assert 10e6 < peak_memory() < 1e12
    assert {"ptg", "numpy", "python"} <= set(installed_versions())


def test_warm_time_is_the_median_of_later_calls():
    seconds = [{"call": 9.0}, {"call": 1.0}, {"call": 3.0}, {"call": 2.0}]
    found = report.summarise(
        seconds, {"call": 4.0}, {"peak_bytes": 2, "peak_bytes_with_data_only": 1, "import_seconds": 0.1}
    )
    assert (found.first, found.first_cached, found.warm) == ({"call": 9.0}, {"call": 4.0}, {"call": 2.0})


def test_ratios_and_verdict():
    assert report.ratio(outcome(), "warm") == pytest.approx(8.0)
    assert report.ratio(outcome(), "first") == pytest.approx(2.0)
    assert report.reached(outcome()) is True
    assert report.reached(outcome(target_warm=9.0)) is False
    assert report.reached(outcome(target_first=10.0)) is False
    assert report.reached(outcome(agrees=False)) is None


def test_rows_that_disagree_or_were_skipped_show_no_times():
    lines = report.table(
        [outcome(agrees=False, agreement="error 0.5"), outcome(skipped="no data", ptg=None, peer=None)]
    )
    assert lines[1][0] == "some work (ANSWERS DISAGREE: error 0.5)"
    assert not any(lines[1][1:])
    assert lines[2][0] == "some work (skipped: no data)"
    assert not any(lines[2][1:])


def test_steps_get_lines_of_their_own():
    two = report.Timing({"a": 1.0, "b": 2.0}, {}, {"a": 0.5, "b": 1.5}, 1, 1, 0.0, [])
    lines = report.table([outcome(ptg=two, peer=two)])
    assert [line[0] for line in lines[1:]] == ["some work", "- a", "- b"]
    assert lines[1][1:7] == ("3.00", "2.00", "3.00", "2.00", "1.0x", "1.0x")


def test_results_survive_json_and_render_as_markdown():
    results = {
        "date": "2026-01-01",
        "machine": {"processor": "P", "cores": 2, "memory_bytes": 2**34, "load_before": 0.1},
        "repeat": 3,
        "versions": {"ptg": {"ptg": "0.1.0", "python": "3.11.7"}, "peer": {"pertpy": "1.4.0", "python": "3.12.1"}},
        "rows": [outcome(note="a note").as_json(), outcome(skipped="no data", ptg=None, peer=None).as_json()],
    }
    text = report.markdown(json.loads(json.dumps(results)))
    table_lines = [line for line in text.splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in table_lines}) == 1
    assert len(table_lines) == 4
    assert "| some work | 2.00 | 0.800 | 1.00 | 0.100 | 8.0x | 2.0x | 2 / 2 | 6x warm | yes |" in table_lines
    assert "pertpy 1.4.0 on Python 3.12.1" in text
    assert "Note: a note." in text
    assert "8.0x" in report.plain([outcome()])
