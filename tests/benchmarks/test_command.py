"""The benchmark from the command line to the kept file."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from benchmarks.run import earlier_rows

from benchmarks import report

FAKES = {
    # What the loader looks for to tell that RAPIDS is there; the library itself is ptg.
    **{f"{name}.py": "" for name in ("cudf", "cugraph", "cuml", "cuvs", "dask_cudf", "pylibraft", "raft_dask", "rmm")},
    "rapids_singlecell.py": """
import ptg
def pairwise(self, *arguments, **options):
    raise MemoryError("80 GB")
ptg.Distance.pairwise = pairwise
""",
    "rapids_singlecell_cu13-0.18.1.dist-info/METADATA": "Name: rapids-singlecell-cu13\nVersion: 0.18.1\n",
}


def run_with_a_peer(tmp_path, *arguments: str) -> subprocess.CompletedProcess[str]:
    for name, text in FAKES.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    output = tmp_path / "results" / "gpu.json"
    command = [sys.executable, "-m", "benchmarks.run", "--gpu", "--smoke", "--repeat", "1", "--output", str(output)]
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path, "PTG_PEER_PYTHON": ""}
    return subprocess.run(
        [*command, *arguments], env=environment, cwd=report.ROOT, capture_output=True, text=True, check=False
    )


@pytest.mark.slow
def test_one_command_runs_both_sides_and_keeps_what_it_found(tmp_path):
    """From the command line to the kept file, with a peer that is ptg by another name and fails at one of the rows."""
    done = run_with_a_peer(tmp_path, "--rows", "gpu-edistance-310k", "gpu-edistance-onesided")
    assert done.returncode == 1
    kept = json.loads((tmp_path / "results" / "gpu.json").read_text())
    assert (kept["suite"], kept["smoke"], kept["peer"]) == ("gpu", True, "rapids_singlecell")
    assert kept["versions"]["peer"]["rapids-singlecell-cu13"] == "0.18.1"
    failed, compared = kept["rows"]
    assert failed["failed"] == "peer: MemoryError: 80 GB"
    assert failed["ptg"]["warm"]["pairwise"] > 0
    assert compared["agrees"]
    assert compared["agreement"].startswith("largest difference 0.0e+00")
    assert compared["pairs_per_second"] > 0
    assert "FAILED: peer: MemoryError: 80 GB" in done.stdout
    assert "edistance one-sided" in done.stdout
    assert (tmp_path / "results" / "gpu.md").read_text().startswith("| work |")


def test_rows_measured_before_stay_if_the_machine_is_the_same(tmp_path):
    output = tmp_path / "cpu.json"
    machine = {"processor": "a processor", "cores": 2, "load_before": 0.1}
    now = {"suite": "cpu", "machine": {**machine, "load_before": 0.5}, "versions": {}, "absent": []}
    assert earlier_rows(output, now) == {}
    earlier = {"suite": "cpu", "machine": machine, "versions": {"ptg": {"numpy": "2.0"}}, "absent": ["cuml"]}
    output.write_text(json.dumps({**earlier, "rows": [{"name": "a row", "work": "work"}]}))
    assert earlier_rows(output, now) == {"a row": {"name": "a row", "work": "work"}}
    assert now["versions"] == {"ptg": {"numpy": "2.0"}}
    assert now["absent"] == ["cuml"]
    for other in ({"machine": {**machine, "cores": 4}}, {"suite": "gpu"}):
        with pytest.raises(SystemExit, match="another suite or machine"):
            earlier_rows(output, {**now, **other})


def test_another_release_of_the_peer_is_not_compared_with(tmp_path):
    other = {"rapids_singlecell_cu13-0.18.1.dist-info/METADATA": "Name: rapids-singlecell-cu13\nVersion: 0.1\n"}
    for name, text in other.items():
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text(text)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "PTG_PEER_PYTHON": sys.executable}
    code = "from benchmarks.peer import RAPIDS; RAPIDS.python()"
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd=report.ROOT, capture_output=True, text=True, check=False
    )
    assert "rapids_singlecell 0.1; the benchmark compares with 0.18.1" in done.stderr
