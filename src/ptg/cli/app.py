"""The commands, one file each, under one roof."""

from __future__ import annotations

from importlib.metadata import version
from typing import Annotated

import typer

from ptg.cli.distance import distance
from ptg.cli.guides import guides
from ptg.cli.mixscape import mixscape
from ptg.cli.run import run
from ptg.cli.simulate import simulate

app = typer.Typer(
    add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None,
    help="Perturbation screens: guide assignment, perturbed cells and distances between groups of cells.",
)  # fmt: skip
for command in (run, guides, mixscape, distance, simulate):
    app.command()(command)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"ptg {version('ptg')}")
        raise typer.Exit


@app.callback()
def _global_options(
    _version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and leave.")
    ] = False,
) -> None:
    pass
