"""One side of one row, in a process of its own: ``python -m benchmarks.worker ROW SIDE DATA OUT --repeat N``.

Runs in ptg's environment or in the peer's. Reads the data first, so that neither file format nor disk is timed; the
first call then includes whatever the library imports and compiles on first use. Writes ``OUT/answer.npz`` (of the last
call) and ``OUT/times.json``.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import sys
import time
import warnings
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
from benchmarks.record import Answer, Side
from benchmarks.rows import select

_LIBRARY = {"ptg": "ptg", "peer": "pertpy"}
_VERSIONS = ("ptg", "pertpy", "numpy", "scipy", "pandas", "anndata", "numba", "scikit-learn", "scanpy", "jax")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("row")
    parser.add_argument("side", choices=list(_LIBRARY))
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--repeat", type=int, default=0, help="warm calls after the first")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")  # both libraries' warnings about the data are not this program's output
    (row,) = select([arguments.row])
    data = ad.read_h5ad(arguments.data)
    before = peak_memory()
    started = time.perf_counter()
    import_module(_LIBRARY[arguments.side])
    imported = time.perf_counter() - started
    seconds, answer = timed_calls(row.side(arguments.side), data, arguments.repeat)
    report = {
        "seconds": seconds,
        "import_seconds": imported,
        "peak_bytes": peak_memory(),
        "peak_bytes_with_data_only": before,
        "versions": installed_versions(),
    }
    np.savez(arguments.out / "answer.npz", **answer)  # type: ignore[arg-type]
    (arguments.out / "times.json").write_text(json.dumps(report))


def timed_calls(side: Side, data: ad.AnnData, repeat: int) -> tuple[list[dict[str, float]], Answer]:
    """Run all steps ``1 + repeat`` times, each time on a fresh copy; return the seconds of each step and the answer."""
    seconds = []
    answer: Answer = {}
    for _ in range(1 + repeat):
        copy = data.copy()
        results: dict[str, Any] = {}
        took = {}
        for name, step in side.steps.items():
            started = time.perf_counter()
            results[name] = step(copy)
            took[name] = time.perf_counter() - started
        seconds.append(took)
        answer = side.answer(copy, results)
    return seconds, answer


def peak_memory() -> int:
    """Largest resident size of this process so far, in bytes."""
    try:
        # ru_maxrss would include what the parent had in memory when it started this process.
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def installed_versions() -> dict[str, str]:
    """Versions of what takes part, as installed in this environment."""
    found = {"python": platform.python_version()}
    for name in _VERSIONS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


if __name__ == "__main__":
    main()
