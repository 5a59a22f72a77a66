"""The peer's own environment: found through PTG_PEER_PYTHON, or made in ``.venv-peer``."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

PEER_VERSION = "1.4.0"
# The jax extra is what the peer's guide mixture and optimal transport run on.
REQUIREMENT = f"pertpy[jax]=={PEER_VERSION}"
_ROOT = Path(__file__).resolve().parents[1]


def peer_python() -> Path:
    """Return the Python that has pertpy, after making the environment if there is none.

    Raises
    ------
    SystemExit
        No environment could be made, or it has another version of pertpy.
    """
    given = os.environ.get("PTG_PEER_PYTHON")
    python = Path(given) if given else _ROOT / ".venv-peer" / "bin" / "python"
    if not python.exists():
        if given:
            raise SystemExit(f"PTG_PEER_PYTHON={given}: no such file")
        _create(python.parents[1])
    found = _version(python)
    if found != PEER_VERSION:
        raise SystemExit(f"{python} has pertpy {found}; the benchmark compares with {PEER_VERSION}")
    return python


def _create(folder: Path) -> None:
    print(f"Making {folder} with {REQUIREMENT} (once; several minutes)", file=sys.stderr, flush=True)
    try:
        subprocess.run([_base_python(), "-m", "venv", str(folder)], check=True)
        install = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", REQUIREMENT]
        subprocess.run(install, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise SystemExit(f"the peer's environment could not be made: {error}") from error


def _base_python() -> str:
    """Return Python 3.12, which pertpy 1.4.0 was measured with, or else this one if pertpy takes it."""
    pyenv = sorted(str(path) for path in Path.home().glob(".pyenv/versions/3.12*/bin/python3.12"))
    candidates = ["python3.12", *pyenv] + ([sys.executable] if sys.version_info >= (3, 12) else [])
    for path in filter(None, map(shutil.which, candidates)):
        # A launcher (pyenv's, for one) can be on the path without the version behind it.
        if subprocess.run([path, "--version"], capture_output=True, check=False).returncode == 0:
            return path
    raise SystemExit(f"pertpy {PEER_VERSION} needs Python 3.12 or newer: install it, or set PTG_PEER_PYTHON")


def _version(python: Path) -> str:
    code = "from importlib.metadata import version; print(version('pertpy'))"
    answer = subprocess.run([str(python), "-c", code], capture_output=True, text=True, check=False)
    return answer.stdout.strip() or "none"
