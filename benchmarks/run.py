"""ptg and pertpy on the same work, side by side on this machine (``make bench``).

For every row: each side runs in fresh processes with empty numba caches, the answers are compared, and only where they
agree are times and ratios printed. Results are kept in ``benchmarks/results``.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # so that the file runs as a script, too

from benchmarks.peer import peer_python  # noqa: E402
from benchmarks.record import Answer, Row  # noqa: E402
from benchmarks.rows import select  # noqa: E402
from benchmarks.workloads import MissingDataError  # noqa: E402

from benchmarks import machine, report  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="+", metavar="NAME", help="only these rows")
    parser.add_argument("--repeat", type=int, default=5, help="warm calls of each side (default: 5)")
    parser.add_argument("--output", type=Path, help="JSON file (default: benchmarks/results/<date>-cpu.json)")
    arguments = parser.parse_args()
    if arguments.repeat < 1:
        parser.error("--repeat must be at least 1")
    rows = select(arguments.rows)
    pythons = {"ptg": Path(sys.executable), "peer": peer_python()}
    results: dict[str, Any] = {
        "date": dt.datetime.now(tz=dt.UTC).date().isoformat(),
        "machine": machine.describe(),
        "repeat": arguments.repeat,
        "versions": {"ptg": {}, "peer": {}},
    }
    outcomes = [measure(row, pythons, arguments.repeat, results["versions"]) for row in rows]
    results["rows"] = [outcome.as_json() for outcome in outcomes]
    output = arguments.output or ROOT / "benchmarks" / "results" / f"{results['date']}-cpu.json"
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    output.with_suffix(".md").write_text(report.markdown(results), encoding="utf-8")
    print(report.plain(outcomes))
    print(f"\nKept in {output}")
    if any(not outcome.agrees and not outcome.skipped for outcome in outcomes):
        raise SystemExit(1)


def measure(row: Row, pythons: Mapping[str, Path], repeat: int, versions: dict[str, dict[str, str]]) -> report.Outcome:
    """Run both sides of a row, compare, and only then look at the times. `versions` is filled in."""
    known = {name: getattr(row, name) for name in ("name", "work", "tolerance", "note", "target_warm", "target_first")}
    try:
        data = row.data()
    except MissingDataError as error:
        return report.Outcome(**known, skipped=str(error))
    timings, answers = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "data.h5ad"
        data.write_h5ad(path)
        for side, python in pythons.items():
            print(f"{row.name}: {side} ...", file=sys.stderr, flush=True)
            timings[side], answers[side], found = run_side(row, side, python, path, repeat=repeat)
            versions[side].update(found)
    verdict = row.check(data, answers["ptg"], answers["peer"])
    return report.Outcome(
        **known, agrees=verdict.agrees, agreement=verdict.detail, ptg=timings["ptg"], peer=timings["peer"]
    )


def run_side(
    row: Row, side: str, python: Path, data: Path, *, repeat: int
) -> tuple[report.Timing, Answer, dict[str, str]]:
    """Run one side twice: with empty caches (first and warm calls), then once more with what that run compiled."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        # An empty cache folder outside the source tree: otherwise earlier runs would make the first call look fast.
        environment = {**os.environ, "NUMBA_CACHE_DIR": str(out / "numba"), "PYTHONPATH": ""}
        command = [str(python), "-m", "benchmarks.worker", row.name, side, str(data), folder]
        subprocess.run([*command, "--repeat", str(repeat)], cwd=ROOT, env=environment, check=True)
        first = json.loads((out / "times.json").read_text(encoding="utf-8"))
        with np.load(out / "answer.npz") as stored:
            answer = dict(stored)
        subprocess.run(command, cwd=ROOT, env=environment, check=True)
        second = json.loads((out / "times.json").read_text(encoding="utf-8"))
    return report.summarise(first["seconds"], second["seconds"][0], first), answer, first["versions"]


if __name__ == "__main__":
    main()
