"""The `ptg` command. `ptg.cli.pipeline` is the same analysis as plain functions."""

from __future__ import annotations


def main() -> None:
    """Run the command line."""
    from ptg.cli.app import app

    app()
