"""The peers, and the environments that they are in: found, or made."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Peer:
    """A package that ptg is compared with.

    Attributes
    ----------
    name
        How the tables call it.
    version
        The one release that is compared with.
    distributions
        Names under which it may be installed.
    requirement
        What pip is to install into an environment of its own.
    folder
        Where that environment is, in the project.
    """

    name: str
    version: str
    distributions: tuple[str, ...]
    requirement: tuple[str, ...]
    folder: str

    def python(self) -> Path:
        """Return a Python that has this release: PTG_PEER_PYTHON, this one, or that of an environment made here.

        Raises
        ------
        SystemExit
            No environment could be made, or it has another release.
        """
        given = os.environ.get("PTG_PEER_PYTHON")
        if given:
            if not Path(given).exists():
                raise SystemExit(f"PTG_PEER_PYTHON={given}: no such file")
            return self._checked(Path(given))
        if self._version(Path(sys.executable)) == self.version:
            return Path(sys.executable)
        folder = _ROOT / self.folder
        if not (folder / "bin" / "python").exists():
            self._create(folder)
        return self._checked(folder / "bin" / "python")

    def _checked(self, python: Path) -> Path:
        found = self._version(python)
        if found != self.version:
            raise SystemExit(f"{python} has {self.name} {found}; the benchmark compares with {self.version}")
        return python

    def _create(self, folder: Path) -> None:
        print(f"Making {folder} with {self.requirement[0]} (once; several minutes)", file=sys.stderr, flush=True)
        try:
            subprocess.run([_base_python(self), "-m", "venv", str(folder)], check=True)
            install = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", *self.requirement]
            subprocess.run(install, check=True)
        except (OSError, subprocess.CalledProcessError) as error:
            shutil.rmtree(folder, ignore_errors=True)
            raise SystemExit(f"the peer's environment could not be made: {error}") from error

    def _version(self, python: Path) -> str:
        """Version in another environment, or ``"none"``."""
        code = _VERSION_CODE.format(names=self.distributions)
        answer = subprocess.run(
            [str(python), "-c", code], capture_output=True, text=True, check=False, cwd=_ROOT, env=environment(python)
        )
        return answer.stdout.strip() or "none"


_VERSION_CODE = """
from importlib.metadata import PackageNotFoundError, version
for name in {names!r}:
    try:
        print(version(name))
        break
    except PackageNotFoundError:
        pass
"""

PERTPY = Peer(
    name="pertpy",
    version="1.4.0",
    distributions=("pertpy",),
    # The jax extra is what the peer's guide mixture and optimal transport run on.
    requirement=("pertpy[jax]==1.4.0",),
    folder=".venv-peer",
)
RAPIDS = Peer(
    name="rapids_singlecell",
    version="0.18.1",
    distributions=("rapids-singlecell-cu13", "rapids-singlecell-cu12", "rapids-singlecell"),
    requirement=("rapids-singlecell-cu13[rapids]==0.18.1", "--extra-index-url", "https://pypi.nvidia.com"),
    folder=".venv-peer-gpu",
)


def environment(python: Path, **changes: str) -> dict[str, str]:
    """Environment variables for a process of `python`: another interpreter must not find this one's packages."""
    own = python.absolute() == Path(sys.executable).absolute()
    return {**os.environ, "PYTHONPATH": os.environ.get("PYTHONPATH", "") if own else "", **changes}


def _base_python(peer: Peer) -> str:
    """Return Python 3.12, which the peers were measured with, or else this one if they take it."""
    for path in filter(None, map(shutil.which, _candidates())):
        # A launcher (pyenv's, for one) can be on the path without the version behind it.
        if subprocess.run([path, "--version"], capture_output=True, check=False).returncode == 0:
            return path
    raise SystemExit(f"{peer.name} {peer.version} needs Python 3.12 or newer: install it, or set PTG_PEER_PYTHON")


def _candidates() -> Iterable[str]:
    pyenv = sorted(str(path) for path in Path.home().glob(".pyenv/versions/3.12*/bin/python3.12"))
    return ["python3.12", *pyenv] + ([sys.executable] if sys.version_info >= (3, 12) else [])
