"""Fixtures for the whole suite."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import anndata as ad
import h5py
import matplotlib as mpl
import pytest
from anndata.io import read_elem
from hypothesis import HealthCheck, settings
from tests.support import small_screen

mpl.use("Agg")
settings.register_profile(
    "ptg", deadline=None, max_examples=25, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
settings.load_profile("ptg")


@pytest.fixture(scope="session")
def reference() -> Path:
    """Folder with real data and reference results: PTG_REFERENCE_DIR, by default ../shared."""
    root = Path(os.environ.get("PTG_REFERENCE_DIR", Path(__file__).resolve().parents[2] / "shared"))
    if not (root / "golden").is_dir():
        pytest.skip(f"no reference results: set PTG_REFERENCE_DIR to the folder that holds golden/ (looked in {root})")
    return root


@pytest.fixture(scope="session")
def papalexi(reference: Path) -> Callable[[], ad.AnnData]:
    """Make a new copy of the log-normalised Papalexi screen of the reference results: float32, X_pca."""
    # Element by element: the file holds an entry that anndata 0.11 cannot read.
    with h5py.File(reference / "golden" / "expression.h5ad") as file:
        parts = {name: read_elem(file[name]) for name in ("X", "obs", "var", "obsm")}
    return ad.AnnData(**parts).copy


@pytest.fixture
def screen() -> ad.AnnData:
    """A small screen of 240 cells, see `tests.support.small_screen`."""
    return small_screen()
