"""Plugin for pytest under compute-sanitizer: each array is an allocation of its own; kernels not started are named."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path
from typing import Any

import pytest

import ptg.kernels

#: Environment variable with the seconds after which no further test is started.
LIMIT = "PTG_SANITIZE_SECONDS"
_FOLDER = Path(ptg.kernels.__file__).parent / "cuda"
_KERNEL = re.compile(
    r'extern "C" __global__ void\s*(?:__launch_bounds__\((?:[^()]|\([^()]*\))*\))?[\s\\]*(\w+?)(?:##\w+)*\('
)

_started: set[str] = set()
_out_of_time: list[str] = []
_began = time.monotonic()


def declared() -> set[str]:
    """Names of the kernels in the CUDA sources; of families with a type in their name only the part before it."""
    texts = [path.read_text(encoding="utf-8") for path in _FOLDER.glob("*.cu")]
    return {name for text in texts for name in _KERNEL.findall(text)}


class _Recorded:
    """A module of compiled code that notes which of its functions are asked for."""

    def __init__(self, module: Any) -> None:
        self._module = module

    def get_function(self, name: str) -> Any:
        _started.add(name)
        return self._module.get_function(name)


def pytest_configure() -> None:
    """Switch CuPy's memory pools off, in which an access beyond an array hits another one, unseen."""
    import cupy

    from ptg.kernels.cuda import source

    cupy.cuda.set_allocator(None)
    cupy.cuda.set_pinned_memory_allocator(None)
    for name in ("_module", "_architecture_module"):
        original = getattr(source, name)
        setattr(source, name, lambda *arguments, original=original: _Recorded(original(*arguments)))


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Start no test any more when time is up."""
    if time.monotonic() - _began > float(os.environ.get(LIMIT, "inf")):
        _out_of_time.append(item.nodeid)
        pytest.skip("time is up")


def _is_called(function: str, name: str) -> bool:
    return function.startswith(name) if name.endswith("_") else function == name


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Name the kernels that were not started: no tool has seen them."""
    missing = sorted(name for name in declared() if not any(_is_called(found, name) for found in _started))
    print(f"\n{len(_started)} kernels started in {time.monotonic() - _began:.0f} s")
    if _out_of_time:
        print(f"{len(_out_of_time)} tests were not run: time was up")
    if missing:
        print(f"kernels that no test started: {', '.join(missing)}")
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
