"""`import ptg` is quick and loads nothing heavy."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys

import pytest

import ptg

HEAVY = ("anndata", "cupy", "matplotlib", "numba", "pandas", "scanpy", "scipy", "sklearn")


def test_import_loads_nothing_heavy():
    code = f"import sys, ptg; print([name for name in {HEAVY!r} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


@pytest.mark.parametrize("name", ptg.__all__)
def test_every_public_name_resolves(name):
    assert getattr(ptg, name) is not None
    assert name in dir(ptg)


def test_a_wrong_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="Distanze"):
        ptg.Distanze  # noqa: B018


def test_version_is_the_distribution_s():
    assert ptg.__version__ == importlib.metadata.version("ptg")
