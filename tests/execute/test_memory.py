from __future__ import annotations

from pathlib import Path

import pytest

from ptg.execute import available_memory


def test_cached_files_count_as_available(monkeypatch):
    text = "MemTotal: 100 kB\nMemFree: 1 kB\nMemAvailable: 50 kB\n"
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: text)
    assert available_memory() == 50 * 1024


@pytest.mark.parametrize("text", ["MemFree: 1 kB\n", "MemAvailable: much kB\n"])
def test_a_guess_where_nobody_says(monkeypatch, text):
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: text)
    assert available_memory() == 4 << 30


def test_a_guess_where_there_is_no_such_file(monkeypatch):
    def missing(*_, **__):
        raise FileNotFoundError

    monkeypatch.setattr(Path, "read_text", missing)
    assert available_memory() == 4 << 30
