"""The records of the benchmark, and how calls are timed: no library is timed here."""

from __future__ import annotations

import sys
from functools import partial
from types import SimpleNamespace

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from benchmarks.record import Side
from benchmarks.suites import CPU, GPU, find_row
from benchmarks.worker import fingerprint, installed_versions, peak_memory, shared, timed_calls

from benchmarks import agreement, calls, workloads

ROWS = [*CPU.rows, *GPU.rows]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_records_are_complete(row):
    assert row.work
    assert callable(row.data)
    if row.peer is None:
        assert row.check is None
        assert row.note, "why there is no peer"
        return
    assert list(row.ptg.steps) == list(row.peer.steps)
    assert (row.ptg.prepare is None) == (row.peer.prepare is None)
    assert row.tolerance
    assert row.target_warm is None or row.target_warm >= 1.0
    assert callable(row.check)


def test_names_are_unique_and_selectable():
    names = [row.name for row in ROWS]
    assert len(set(names)) == len(names)
    cpu = CPU.rows
    assert CPU.select([cpu[-1].name, cpu[0].name]) == [cpu[-1], cpu[0]]
    assert find_row(GPU.rows[3].name) == (GPU, GPU.rows[3])
    with pytest.raises(SystemExit, match="nonsense not known"):
        CPU.select(["nonsense"])
    with pytest.raises(SystemExit, match="not known"):
        CPU.select([GPU.rows[0].name])


@pytest.fixture
def no_more_of_short_calls(monkeypatch):
    monkeypatch.setattr("benchmarks.worker.SHORT", 0.0)


def test_calls_start_from_the_same_data_each_time(no_more_of_short_calls):
    data = ad.AnnData(np.zeros((2, 1)))
    seen = []

    def step(copy: ad.AnnData) -> float:
        seen.append(copy.X[0, 0])
        copy.X[0, 0] += 1.0
        return copy.X[0, 0]

    side = Side({"step": step}, lambda copy, results: {"value": np.array([results["step"]])})
    seconds, answer, _ = timed_calls(side, data, 2)
    assert seen == [0.0, 0.0, 0.0]
    assert answer["value"] == [1.0]
    assert data.X[0, 0] == 0.0
    assert len(seconds) == 3
    assert all(took["step"] >= 0.0 for took in seconds)


def test_data_too_large_to_copy_are_shared_between_calls(no_more_of_short_calls):
    data = workloads.screen(200, 30, 2)
    prepared, seen = [], []

    def prepare(whole: ad.AnnData) -> None:
        prepared.append(whole)
        whole.layers["prepared"] = whole.X

    def step(copy: ad.AnnData) -> None:
        seen.append((sorted(copy.obs), sorted(copy.uns), "prepared" in copy.layers, copy.X.data is data.X.data))
        copy.obs["new"] = 1
        copy.uns["new"] = 1

    timed_calls(Side({"step": step}, lambda copy, results: {}, prepare), data, 3, shared)
    assert prepared == [data]
    assert seen == [(sorted(data.obs), ["log1p"], True, True)] * 4
    assert "new" not in data.obs


def test_slow_calls_are_repeated_less_often(monkeypatch, no_more_of_short_calls):
    monkeypatch.setattr("benchmarks.worker.PATIENCE", 0.0)
    side = Side({"step": lambda copy: None}, lambda copy, results: {})
    assert len(timed_calls(side, ad.AnnData(np.zeros((2, 1))), 5).seconds) == 1 + 0
    monkeypatch.setattr("benchmarks.worker.PATIENCE", 1e-9)
    assert len(timed_calls(side, ad.AnnData(np.zeros((2, 1))), 5).seconds) == 1 + 1


def test_short_calls_are_repeated_more_often(monkeypatch):
    side = Side({"step": lambda copy: None}, lambda copy, results: {})
    data = ad.AnnData(np.zeros((2, 1)))
    assert len(timed_calls(side, data, 2).seconds) == 1 + 25
    assert len(timed_calls(side, data, 0).seconds) == 1
    monkeypatch.setattr("benchmarks.worker.SHORT", 1e-9)
    assert len(timed_calls(side, data, 2).seconds) == 1 + 2


def test_changed_numbers_change_the_fingerprint():
    data = workloads.embedded_groups(300, 3)
    mark = fingerprint(data)
    data.obsm["X_pca"][7, 3] += 1.0
    assert fingerprint(data) != mark


def test_peak_memory_and_versions_are_found():
    assert 10e6 < peak_memory() < 1e12
    assert {"ptg", "numpy", "python"} <= set(installed_versions())


def test_a_peer_that_compiles_once_for_each_object_does_so_in_the_first_call(monkeypatch):
    made = []

    class Distance:
        def __init__(self, metric: str, obsm_key: str) -> None:
            made.append((metric, obsm_key))

        def pairwise(self, adata: ad.AnnData, groupby: str, groups: list[str], show_progressbar: bool) -> pd.DataFrame:
            return pd.DataFrame(np.eye(len(groups)), index=groups, columns=groups)

    monkeypatch.setitem(sys.modules, "pertpy", SimpleNamespace(tl=SimpleNamespace(Distance=Distance)))
    side = calls.metrics_by_pertpy(["wasserstein", "mmd"], calls.LABELS)
    _, answer, _ = timed_calls(side, workloads.screen(100, 20, 2), 3)
    assert made == [("wasserstein", "X_pca"), ("mmd", "X_pca")]
    assert {name: table.shape for name, table in answer.items()} == {"wasserstein": (3, 3), "mmd": (3, 3)}


@pytest.mark.parametrize(
    ("side", "check"),
    [
        (calls.metrics_by_ptg(["euclidean", "t_test"], calls.LABELS), partial(agreement.metrics_agree, tolerance=0.0)),
        (calls.distance_test_by_ptg(), agreement.distance_tests_agree),
    ],
    ids=["metrics", "test"],
)
def test_answers_of_the_same_calls_agree(side, check):
    data = workloads.screen(200, 20, 2)
    one, other = (timed_calls(side, data, 0).answer for _ in range(2))
    assert check(one, other).agrees
    assert not check(one, {name: np.abs(values * 1.5) for name, values in other.items()}).agrees
