"""ptg and a peer on the same work, side by side on this machine.

``make bench``: pertpy, on the CPU. ``make bench-gpu`` (``--gpu``): rapids_singlecell, on NVIDIA GPUs.

For every row: each side runs in fresh processes with empty caches of compiled code, the answers are compared, and only
where they agree are times and ratios printed. Results are kept in ``benchmarks/results``.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # so that the file runs as a script, too

from benchmarks.peer import environment  # noqa: E402
from benchmarks.record import Agreement, Answer, Row  # noqa: E402
from benchmarks.suites import CPU, GPU, Suite  # noqa: E402
from benchmarks.workloads import MissingDataError  # noqa: E402

from benchmarks import device, machine, report  # noqa: E402

#: A side that takes longer than this is given up, so that the rest of the table is measured.
TIME_LIMIT = 400.0


class SideFailedError(Exception):
    """A side ended with an error; the message is its last line."""


def main() -> None:
    arguments = parse_arguments()
    suite = GPU if arguments.gpu else CPU
    rows = suite.select(arguments.rows)
    pythons = _pythons(suite, arguments)
    results: dict[str, Any] = {
        "suite": suite.name,
        "date": dt.datetime.now(tz=dt.UTC).date().isoformat(),
        "machine": machine.describe() | ({"gpu": device.describe()} if arguments.gpu else {}),
        "smoke": arguments.smoke,
        "repeat": arguments.repeat,
        "repeats_short_calls": True,
        "peer": suite.peer.name,
        "versions": {"ptg": {}, "peer": {}},
        "absent": [],
    }
    output = arguments.output or _default_output(results)
    output.parent.mkdir(parents=True, exist_ok=True)
    kept = earlier_rows(output, results) if arguments.rows else {}
    outcomes: list[report.Outcome] = []
    for row in rows:
        outcomes.append(measure(suite, row, pythons, arguments, results))
        kept[row.name] = outcomes[-1].as_json()
        # After each row: what was measured is kept if the rest is cut off.
        results["rows"] = [kept[each.name] for each in suite.rows if each.name in kept]
        output.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
        output.with_suffix(".md").write_text(report.markdown(results), encoding="utf-8")
    print(report.plain(results))
    print(f"\nKept in {output}")
    if any(outcome.failed or outcome.disagrees for outcome in outcomes):
        raise SystemExit(1)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gpu", action="store_true", help="the GPU part")
    parser.add_argument("--rows", nargs="+", metavar="NAME", help="only these rows; others in the output stay")
    parser.add_argument("--repeat", type=int, default=5, help="warm calls of each side, at most (default: 5)")
    parser.add_argument("--side", choices=["ptg", "peer"], help="only this side; nothing is compared")
    parser.add_argument("--smoke", action="store_true", help="tiny data, to try the benchmark itself; no GPU needed")
    parser.add_argument("--output", type=Path, help="JSON file (default: benchmarks/results/<date>-<cpu or GPU>.json)")
    arguments = parser.parse_args()
    if arguments.repeat < 1:
        parser.error("--repeat must be at least 1")
    if arguments.gpu and not arguments.smoke and not device.found():
        parser.error("--gpu needs an NVIDIA GPU and CuPy (pip install 'ptg[cuda13]'); --smoke does not")
    if arguments.smoke and arguments.output is None:
        parser.error("--smoke needs --output: times of tiny data are not kept among the results")
    return arguments


def _pythons(suite: Suite, arguments: argparse.Namespace) -> dict[str, Path]:
    """Interpreter of each side that takes part."""
    pythons = {"ptg": Path(sys.executable)} if arguments.side != "peer" else {}
    return pythons if arguments.side == "ptg" else pythons | {"peer": suite.peer.python()}


def _default_output(results: Mapping[str, Any]) -> Path:
    name = device.short_name(results["machine"]["gpu"]) if results["suite"] == "gpu" else "cpu"
    return ROOT / "benchmarks" / "results" / f"{results['date']}-{name}.json"


def earlier_rows(output: Path, results: dict[str, Any]) -> dict[str, Any]:
    """Rows by name that an earlier run left in `output`; the versions that it notes are put into `results`.

    Raises
    ------
    SystemExit
        That run was of another suite, or on another machine: rows beside each other are of one machine.
    """
    if not output.exists():
        return {}
    earlier = json.loads(output.read_text(encoding="utf-8"))
    if earlier["suite"] != results["suite"] or machine.identity(earlier["machine"]) != machine.identity(
        results["machine"]
    ):
        raise SystemExit(f"{output} is of another suite or machine. Pass another --output.")
    for part in ("versions", "absent"):
        results[part] = earlier[part]
    return {row["name"]: row for row in earlier["rows"]}


def measure(
    suite: Suite,
    row: Row,
    pythons: Mapping[str, Path],
    arguments: argparse.Namespace,
    results: dict[str, Any],
) -> report.Outcome:
    """Run both sides of a row, compare, and only then look at the times.

    The versions of what took part, and what was not RAPIDS's own, are put into `results`.
    """
    known = {name: getattr(row, name) for name in ("name", "work", "tolerance", "note", "target_warm", "target_first")}
    timings, answers, measured = {}, {}, {}
    with tempfile.TemporaryDirectory() as folder:
        try:
            command = _data_arguments(row, Path(folder), smoke=arguments.smoke)
            for side in [side for side in row.sides if side in pythons]:
                print(f"{row.name}: {side} ...", file=sys.stderr, flush=True)
                timings[side], answers[side], measured[side] = run_side(
                    suite, [row.name, side], pythons[side], command, arguments.repeat
                )
        except MissingDataError as error:
            return report.Outcome(**known, skipped=str(error))
        except SideFailedError as error:
            return report.Outcome(**known, failed=str(error), ptg=timings.get("ptg"))
    for side, found in measured.items():
        results["versions"][side].update(found["versions"])
        results["absent"] = sorted({*results["absent"], *found["absent"]})
    n_pairs = next((found["n_pairs"] for found in measured.values()), None)
    verdict = _verdict(row, answers, {found["data"] for found in measured.values()})
    return report.Outcome(
        **known,
        compared=verdict is not None,
        agrees=verdict is not None and verdict.agrees,
        agreement=verdict.detail if verdict else "",
        n_pairs=n_pairs,
        ptg=timings.get("ptg"),
        peer=timings.get("peer"),
    )


def _data_arguments(row: Row, folder: Path, *, smoke: bool) -> list[str]:
    """Arguments of the worker that say where its data come from."""
    if row.generated:
        return ["--smoke"] if smoke else []
    path = folder / "data.h5ad"
    row.make(smoke=smoke).write_h5ad(path)
    return ["--data", str(path)]


def _verdict(row: Row, answers: Mapping[str, Answer], data: set[str]) -> Agreement | None:
    """Compare the sides; None where there is only one."""
    if len(answers) < 2 or row.check is None:
        return None
    if len(data) > 1:
        return Agreement(False, "the two sides did not have the same data: are their versions of CuPy the same?")
    return row.check(answers["ptg"], answers["peer"])


def run_side(
    suite: Suite, which: list[str], python: Path, data: list[str], repeat: int
) -> tuple[report.Timing, Answer, dict[str, Any]]:
    """Run one side with empty caches (first and warm calls), then perhaps once more with what that run compiled."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        # Empty cache folders outside the source tree: otherwise earlier runs would make the first call look fast.
        variables = environment(python, NUMBA_CACHE_DIR=str(out / "numba"), CUPY_CACHE_DIR=str(out / "cupy"))
        command = [str(python), "-m", "benchmarks.worker", *which, folder, *data]
        _run(which[1], [*command, "--repeat", str(repeat)], variables)
        first = json.loads((out / "times.json").read_text(encoding="utf-8"))
        with np.load(out / "answer.npz") as stored:
            answer = dict(stored)
        second = {}
        if suite.compiles:
            _run(which[1], command, variables)
            second = json.loads((out / "times.json").read_text(encoding="utf-8"))["seconds"][0]
    return report.summarise(first["seconds"], second, first), answer, first


def _run(name: str, command: list[str], variables: dict[str, str]) -> None:
    try:
        done = subprocess.run(
            command, cwd=ROOT, env=variables, check=False, stderr=subprocess.PIPE, text=True, timeout=TIME_LIMIT
        )
    except subprocess.TimeoutExpired as error:
        raise SideFailedError(f"{name} took longer than {TIME_LIMIT:.0f} s") from error
    if done.returncode:
        sys.stderr.write(done.stderr)
        lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        raise SideFailedError(f"{name}: {lines[-1][:300]}")


if __name__ == "__main__":
    main()
