"""`ptg guides`: which cells have which guides."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ptg.cli import options
from ptg.cli.errors import one_line_errors

if TYPE_CHECKING:
    from anndata import AnnData

    from ptg.guides import GuideAssignment


def _mixture(tool: GuideAssignment, guides: AnnData, _: float, posterior: float) -> None:
    tool.assign_mixture_model(guides, posterior_threshold=posterior)


def _maximum(tool: GuideAssignment, guides: AnnData, least: float, _: float) -> None:
    tool.assign_to_max_guide(guides, assignment_threshold=least)


def _threshold(tool: GuideAssignment, guides: AnnData, least: float, _: float) -> None:
    tool.assign_by_threshold(guides, assignment_threshold=least)


METHODS: dict[str, Callable[[GuideAssignment, AnnData, float, float], None]] = {
    "mixture": _mixture,
    "max": _maximum,
    "threshold": _threshold,
}


@one_line_errors
def guides(
    *,
    guides: Annotated[Path, typer.Option("--guides", help="Guide counts: an .h5ad file with raw counts in X.")],
    out: options.Out,
    method: Annotated[
        str,
        typer.Option(
            "--method",
            help="mixture (a threshold fitted for each guide), max (the guide with most counts) or threshold (every "
            "guide with enough counts).",
        ),
    ] = "mixture",
    threshold: Annotated[
        float, typer.Option("--threshold", help="Smallest count for the methods max and threshold.")
    ] = 5,
    posterior_threshold: Annotated[
        float, typer.Option("--posterior-threshold", help="Probability of signal from which the mixture assigns.")
    ] = 0.5,
    device: options.Device = "auto",
    quiet: options.Quiet = False,
) -> None:
    """Assign guides to cells; write guides.h5ad, cells.csv, guides.csv and figures."""
    from ptg.cli.files import OutputFolder, read_h5ad
    from ptg.cli.write import write_assignment
    from ptg.data import check_choice
    from ptg.guides import GuideAssignment

    assign = METHODS[check_choice("--method", method, list(METHODS))]
    counts = read_h5ad(guides, "--guides")
    with OutputFolder(out) as folder:
        assign(GuideAssignment(device=device), counts, threshold, posterior_threshold)
        n_assigned = write_assignment(counts, folder)
    if not quiet:
        typer.echo(f"{n_assigned:,} of {counts.n_obs:,} cells have a guide; results in {out}")
