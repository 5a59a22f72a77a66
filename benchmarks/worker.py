"""One side of one row, in a process of its own: ``python -m benchmarks.worker ROW SIDE OUT [--data FILE]``.

Runs in ptg's environment or in the peer's. Has the data first, so that neither making nor reading them is timed, and a
GPU started; the first call then includes whatever the library imports and compiles on first use. Writes
``OUT/answer.npz`` (of the last call) and ``OUT/times.json``.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import sys
import time
import warnings
import zlib
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

import anndata as ad
import numpy as np
import scipy.sparse as sp
from benchmarks.record import Answer, Side
from benchmarks.suites import GPU, find_row

from benchmarks import device, rapids

_MODULES = {"ptg": "ptg", "pertpy": "pertpy", "rapids_singlecell": "benchmarks.rapids"}
_VERSIONS = ("ptg", "pertpy", "numpy", "scipy", "pandas", "anndata", "numba", "scikit-learn", "scanpy", "jax")
_GPU_VERSIONS = ("cupy-cuda12x", "cupy-cuda13x", "torch", "rapids-singlecell-cu12", "rapids-singlecell-cu13")
#: Warm calls end when they have taken this long, however many were asked for.
PATIENCE = 20.0
#: Short calls, which vary the most, are repeated until they have taken this long, or so often.
SHORT, OFTEN = 0.5, 25


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("row")
    parser.add_argument("side", choices=["ptg", "peer"])
    parser.add_argument("out", type=Path)
    parser.add_argument("--data", type=Path, help="read the data instead of making them")
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--repeat", type=int, default=0, help="warm calls after the first")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")  # both libraries' warnings about the data are not this program's output
    suite, row = find_row(arguments.row)
    data = ad.read_h5ad(arguments.data) if arguments.data else row.make(smoke=arguments.smoke)
    n_pairs = row.n_pairs(data) if row.n_pairs else None
    if suite is GPU and device.found():
        device.start()
    before = peak_memory()
    started = time.perf_counter()
    import_module(_MODULES[suite.peer.name if arguments.side == "peer" else "ptg"])
    imported = time.perf_counter() - started
    mark = fingerprint(data)
    calls = timed_calls(row.sides[arguments.side], data, arguments.repeat, shared if row.generated else ad.AnnData.copy)
    if row.generated and fingerprint(data) != mark:
        raise RuntimeError(f"{row.name}: a call of {arguments.side} changed the data that the next one takes")
    report = {
        "seconds": calls.seconds,
        "import_seconds": imported,
        "peak_bytes": peak_memory(),
        "peak_bytes_with_data_only": before,
        "peak_device_bytes": calls.peak_device_bytes,
        "n_pairs": n_pairs,
        "data": mark,
        "absent": rapids.absent() if suite is GPU and arguments.side == "peer" else (),
        "versions": installed_versions(_VERSIONS + (_GPU_VERSIONS if suite is GPU else ())),
    }
    np.savez(arguments.out / "answer.npz", **calls.answer)  # type: ignore[arg-type]
    (arguments.out / "times.json").write_text(json.dumps(report))


class Calls(NamedTuple):
    """Seconds of each step in each call, the answer of the last call, device memory up to the end of the first."""

    seconds: list[dict[str, float]]
    answer: Answer
    peak_device_bytes: int


def timed_calls(
    side: Side, data: ad.AnnData, repeat: int, fresh: Callable[[ad.AnnData], ad.AnnData] = ad.AnnData.copy
) -> Calls:
    """Run all steps ``1 + repeat`` times, each time on fresh data.

    There are fewer repeats, but at least one if any, where they take longer than `PATIENCE`, and more, up to `OFTEN`,
    where they take less than `SHORT`.
    """
    with device.PeakMemory() as memory:
        if side.prepare:
            side.prepare(data)
        done = _call(side, fresh(data))
    # From here on memory is not watched: that could slow the calls down.
    seconds = [done.seconds]
    while _goes_on(len(seconds) - 1, sum(sum(took.values()) for took in seconds[1:]), repeat):
        del done  # before the next call needs the memory
        done = _call(side, fresh(data))
        seconds.append(done.seconds)
    return Calls(seconds, side.answer(done.data, done.results), memory.bytes)


def _goes_on(n_calls: int, took: float, repeat: int) -> bool:
    """Whether there is another warm call after so many."""
    return took < PATIENCE if n_calls < repeat else repeat > 0 and n_calls < OFTEN and took < SHORT


class _Call(NamedTuple):
    seconds: dict[str, float]
    data: ad.AnnData
    results: dict[str, Any]


def _call(side: Side, data: ad.AnnData) -> _Call:
    seconds, results = {}, {}
    for name, step in side.steps.items():
        started = time.perf_counter()
        results[name] = step(data)
        device.synchronize()
        seconds[name] = time.perf_counter() - started
    return _Call(seconds, data, results)


def shared(data: ad.AnnData) -> ad.AnnData:
    """Return an AnnData of the same arrays, to which anything can be added."""
    return ad.AnnData(
        data.X,
        obs=data.obs.copy(),
        var=data.var.copy(),
        obsm=dict(data.obsm),
        layers=dict(data.layers),
        obsp=dict(data.obsp),
        uns=dict(data.uns),
    )


def fingerprint(data: ad.AnnData) -> str:
    """Checksum of a sample of the numbers: two sides that have it in common have the same data."""
    arrays = [np.asarray(values) for values in data.obsm.values()]
    if sp.issparse(data.X):
        arrays += [data.X.data, data.X.indices, data.X.indptr]
    elif data.X is not None:
        arrays.append(np.asarray(data.X))
    check = zlib.crc32(str([array.shape for array in arrays]).encode())
    for array in arrays:
        values = array.ravel()
        check = zlib.crc32(np.ascontiguousarray(values[:: max(1, values.size // 1_000_000)]).tobytes(), check)
    return f"{check:08x}"


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


def installed_versions(names: tuple[str, ...] = _VERSIONS) -> dict[str, str]:
    """Versions of what takes part, as installed in this environment."""
    found = {"python": platform.python_version()}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


if __name__ == "__main__":
    main()
