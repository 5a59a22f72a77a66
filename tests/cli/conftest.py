from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from ptg.cli.app import app
from ptg.datasets import simulate_screen


@pytest.fixture(scope="session")
def data(tmp_path_factory) -> Path:
    """Folder with rna.h5ad and guides.h5ad of a small simulated screen."""
    folder = tmp_path_factory.mktemp("data")
    rna, guides = simulate_screen(900, 100, 5, 2, counts_per_cell=2000, seed=1)
    rna.write_h5ad(folder / "rna.h5ad")
    guides.write_h5ad(folder / "guides.h5ad")
    return folder


@pytest.fixture(scope="session")
def ptg():
    """Call the command line in this process."""

    def call(*arguments: object):
        return CliRunner().invoke(app, [str(argument) for argument in arguments])

    return call
