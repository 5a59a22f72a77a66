"""compute-sanitizer over the CUDA kernels, on a machine with a GPU: ``python -m tests.sanitize memcheck``.

Runs the tests marked `smallest`, which start every CUDA kernel on small data, under one of the sanitizer's tools.
``--all`` runs all contract tests that need a GPU instead, for as long as ``--seconds`` says. Ends with an error if the
tool finds anything, a test fails, or a kernel was never started.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.sanitized import LIMIT, declared

_ERROR = "86"
#: What each tool is told beside its name. The memory checker would report what libraries try out and handle; the race
#: checker slows kernels down hundredfold, so it sees this project's alone.
_OPTIONS = {
    "memcheck": ["--report-api-errors", "no"],
    "racecheck": ["--racecheck-report", "analysis"],
    "synccheck": [],
    "initcheck": [],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tool", choices=list(_OPTIONS))
    parser.add_argument("--all", action="store_true", help="all contract tests that need a GPU, not the smallest only")
    parser.add_argument("--seconds", type=float, default=90.0, help="start no test after so long (default: 90)")
    arguments = parser.parse_args()
    command = [find_sanitizer(), "--tool", arguments.tool, "--error-exitcode", _ERROR, *_OPTIONS[arguments.tool]]
    if arguments.tool != "memcheck":
        for name in sorted(declared()):
            command += ["--kernel-name", f"kns={name}"]
    command += [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "tests.sanitized"]
    command += ["-m", "gpu" if arguments.all else "smallest and gpu", "tests/contract"]
    # Not many times the same test: what is looked for does not depend on chance.
    command += ["-k", "not ten"]
    done = subprocess.run(command, env={**os.environ, LIMIT: str(arguments.seconds)}, check=False)
    raise SystemExit(done.returncode)


def find_sanitizer() -> str:
    """Return the path of compute-sanitizer: COMPUTE_SANITIZER, on the path, of a toolkit, or of its wheel."""
    wheels = (
        Path(folder) / "nvidia" / "cu13" / "compute-sanitizer" / "compute-sanitizer" for folder in sys.path if folder
    )
    candidates = [
        os.environ.get("COMPUTE_SANITIZER"),
        shutil.which("compute-sanitizer"),
        "/usr/local/cuda/bin/compute-sanitizer",
        *map(str, wheels),
    ]
    for path in candidates:
        if path and Path(path).is_file():
            return path
    raise SystemExit("compute-sanitizer is not there: install a CUDA toolkit or pip install nvidia-cuda-sanitizer-api")


if __name__ == "__main__":
    main()
