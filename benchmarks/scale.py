"""Guide assignment of 1M cells x 20k guides: time and peak memory, each method in a fresh process.

``python benchmarks/scale.py [--cells N] [--guides N]``; no peer takes part (they would need the dense matrix, 80 GB).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import anndata as ad

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # so that the file runs as a script, too

from benchmarks.worker import peak_memory  # noqa: E402

from benchmarks import machine, workloads  # noqa: E402

METHODS = {"assign_mixture_model": {}, "assign_to_max_guide": {"assignment_threshold": 5}}
TARGET_SECONDS, TARGET_BYTES = 60.0, 4e9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=1_000_000)
    parser.add_argument("--guides", type=int, default=20_000)
    parser.add_argument("--method", choices=list(METHODS), help=argparse.SUPPRESS)
    parser.add_argument("--data", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.method:
        print(json.dumps(measure(arguments.method, arguments.data)))
        return
    print(json.dumps(machine.describe()))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "guides.h5ad"
        workloads.guide_umis(arguments.cells, arguments.guides).write_h5ad(path)
        for method in METHODS:
            command = [sys.executable, __file__, "--method", method, "--data", str(path)]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            found = json.loads(done.stdout.splitlines()[-1])
            reached = found["seconds"] <= TARGET_SECONDS and found["peak_bytes"] <= TARGET_BYTES
            print(
                f"{method}, {arguments.cells} cells x {arguments.guides} guides: {found['seconds']:.1f} s, "
                f"peak {found['peak_bytes'] / 1e9:.2f} GB ({found['loaded_bytes'] / 1e9:.2f} GB with the data loaded); "
                f"under {TARGET_SECONDS:.0f} s and {TARGET_BYTES / 1e9:.0f} GB: {'yes' if reached else 'NO'}"
            )


def measure(method: str, data: Path) -> dict[str, float]:
    """Load the data, call the method once, and report seconds (first call, compilation included) and memory."""
    import ptg

    warnings.simplefilter("ignore")
    guides = ad.read_h5ad(data)
    loaded = peak_memory()
    started = time.perf_counter()
    getattr(ptg.GuideAssignment(), method)(guides, **METHODS[method])
    return {"seconds": time.perf_counter() - started, "peak_bytes": peak_memory(), "loaded_bytes": loaded}


if __name__ == "__main__":
    main()
