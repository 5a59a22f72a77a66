"""Compiled code that is kept on disk is used again, and not after a source has changed."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from ptg.kernels.cpu import compilation


@pytest.fixture
def compiled_in_a_new_session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Import a file anew, as another process does, while the sources of the kernels have some checksum."""
    path = tmp_path / "some_kernel.py"
    path.write_text("from ptg.kernels.cpu.compilation import jit\n\n@jit\ndef double(x):\n    return x + x\n")

    def load(checksum: int) -> Any:
        monkeypatch.setattr(compilation, "_sources", lambda: checksum)
        spec = importlib.util.spec_from_file_location("some_kernel", path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        assert module.double(2.0) == 4.0
        return module.double.stats

    return load


def test_a_change_of_any_kernel_compiles_anew(compiled_in_a_new_session: Any) -> None:
    assert not compiled_in_a_new_session(1).cache_hits
    assert compiled_in_a_new_session(1).cache_hits
    changed = compiled_in_a_new_session(2)
    assert not changed.cache_hits
    assert changed.cache_misses
    assert compiled_in_a_new_session(2).cache_hits


def test_the_checksum_is_that_of_all_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    compilation._sources.cache_clear()
    before = compilation._sources()
    read = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: read(path) + b" " * (path.name == "sinkhorn_steps.py"))
    compilation._sources.cache_clear()
    assert compilation._sources() != before
    monkeypatch.undo()
    compilation._sources.cache_clear()
    assert compilation._sources() == before
