"""From times to the table: ratios, verdicts, Markdown."""

from __future__ import annotations

import json

import pytest

from benchmarks import device, report


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


def results_of(*outcomes: report.Outcome, **changed: object) -> dict[str, object]:
    machine: dict[str, object] = {"processor": "P", "cores": 2, "memory_bytes": 2**34, "load_before": 0.1}
    results = {
        "date": "2026-01-01",
        "machine": machine,
        "repeat": 3,
        "versions": {"ptg": {"ptg": "0.1.0", "python": "3.11.7"}, "peer": {"pertpy": "1.4.0", "python": "3.12.1"}},
        "rows": [outcome.as_json() for outcome in outcomes],
        **changed,
    }
    return json.loads(json.dumps(results))


GPU_RESULTS = {
    "suite": "gpu",
    "peer": "rapids_singlecell",
    "machine": {
        "processor": "P",
        "cores": 2,
        "memory_bytes": 2**34,
        "load_before": 0.1,
        "gpu": {
            "name": "NVIDIA H200",
            "count": 2,
            "memory_bytes": 2**37,
            "driver": "580",
            "square_roots_per_second": 4e12,
            "tensor_operations_per_second": 1e15,
        },
    },
    "versions": {
        "ptg": {"ptg": "0.1.0", "python": "3.12.1", "cupy-cuda13x": "14.2.0"},
        "peer": {"rapids-singlecell-cu13": "0.18.1", "python": "3.12.1"},
    },
    "absent": ["cuml", "cuvs"],
}


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


def test_a_row_without_target_is_compared_and_not_judged():
    free = outcome(target_warm=None)
    assert report.reached(free) is None
    assert report.reached(outcome(target_warm=None, target_first=3.0)) is False
    (line,) = report.table(results_of(free))[1:]
    assert line[5:7] == ("8.0x", "2.0x")
    assert line[-2:] == ("-", "-")


def test_rows_without_comparable_answers_show_no_times():
    outcomes = {
        "ANSWERS DISAGREE: error 0.5": outcome(agrees=False, agreement="error 0.5"),
        "skipped: no data": outcome(skipped="no data", ptg=None, peer=None),
        "FAILED: peer: MemoryError": outcome(failed="peer: MemoryError", agrees=False, peer=None),
    }
    lines = report.table(results_of(*outcomes.values()))[1:]
    for line, why in zip(lines, outcomes, strict=True):
        assert line[0] == f"some work ({why})"
        assert not any(line[1:])
    assert [one.disagrees for one in outcomes.values()] == [True, False, False]


def test_one_side_alone_is_shown_without_ratio():
    alone = outcome(compared=False, agrees=False, peer=None)
    (line,) = report.table(results_of(alone))[1:]
    assert not alone.disagrees
    assert line[1:7] == ("-", "-", "1.00", "0.100", "-", "-")


def test_steps_get_lines_of_their_own():
    two = report.Timing({"a": 1.0, "b": 2.0}, {}, {"a": 0.5, "b": 1.5}, 1, 1, 0.0, [])
    results = results_of(outcome(ptg=two, peer=two))
    lines = report.table(results)
    assert [line[0] for line in lines[1:]] == ["some work", "- a", "- b"]
    assert lines[1][1:7] == ("3.00", "2.00", "3.00", "2.00", "1.0x", "1.0x")
    assert [line[0] for line in report.table(results, short=True)[1:]] == ["some work"]


def test_results_survive_json_and_render_as_markdown():
    results = results_of(outcome(note="a note"), outcome(skipped="no data", ptg=None, peer=None))
    text = report.markdown(results)
    table_lines = [line for line in text.splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in table_lines}) == 1
    assert len(table_lines) == 4
    assert "| some work | 2.00 | 0.800 | 1.00 | 0.100 | 8.0x | 2.0x | 2 / 2 | 6x warm | yes |" in table_lines
    assert "pertpy 1.4.0 on Python 3.12.1" in text
    assert "Note: a note." in text
    assert "8.0x" in report.plain(results)


def test_kept_results_render():
    kept = sorted((report.ROOT / "benchmarks" / "results").glob("*.json"))
    assert kept
    for path in kept:
        assert report.markdown(json.loads(path.read_text(encoding="utf-8"))).startswith("| work |")


def test_results_of_a_gpu_have_rates_and_memory():
    alone = outcome(n_pairs=2e11, peer=None, compared=False, agrees=False, target_warm=None)
    results = results_of(outcome(n_pairs=2e11), alone, **GPU_RESULTS)
    text = report.markdown(results)
    # 2e11 pairs in 0.1 s: half of the square roots; 384 operations each are 77 % of 1e15.
    assert (
        "| some work | 0.800 | 0.100 | 8.0x | 6x warm | yes | 1.00 | 0.00 / 0.00 | 2e+12 | 50% | 77% |"
        in text.splitlines()
    )
    assert "| some work | - | 0.100 | - | runs | yes | 1.00 | - / 0.00 | 2e+12 | 50% | 77% |" in text.splitlines()
    assert "2 x NVIDIA H200 (128 GiB, driver 580), P, 2 cores" in text
    assert "cupy-cuda13x 14.2.0; rapids_singlecell 0.18.1 on" in text
    assert "not RAPIDS's own" in text


def test_the_readme_takes_a_table_between_its_marks(tmp_path):
    readme = tmp_path / "README.md"
    begin, end = "<!-- gpu benchmark: begin -->", "<!-- gpu benchmark: end -->"
    readme.write_text(f"before\n{begin}\nold\n{end}\nafter\n")
    report.put_into_readme(results_of(outcome(), **GPU_RESULTS), readme)
    text = readme.read_text()
    assert text.startswith(f"before\n{begin}\n| work |")
    assert text.endswith(f"\n{end}\nafter\n")
    assert "old" not in text
    readme.write_text("no marks")
    with pytest.raises(SystemExit, match="must contain"):
        report.put_into_readme(results_of(outcome(), **GPU_RESULTS), readme)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("NVIDIA H200", "h200"), ("NVIDIA GeForce RTX 4090", "geforce-rtx-4090"), ("", "gpu")],
)
def test_files_are_called_after_the_gpu(name, expected):
    assert device.short_name({"name": name}) == expected
