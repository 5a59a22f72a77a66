"""`ptg run`: a screen from raw counts to a report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ptg.cli import options
from ptg.cli.errors import one_line_errors


@one_line_errors
def run(
    *,
    rna: options.Rna,
    perturbation: options.Perturbation,
    control: options.Control,
    out: options.Out,
    guides: Annotated[
        Path | None,
        typer.Option("--guides", help="Guide counts of the same cells: an .h5ad file with raw counts in X."),
    ] = None,
    guide_target: options.GuideTarget = "target",
    replicate: options.Replicate = None,
    size_factor: options.SizeFactor = None,
    metric: options.Metric = "edistance",
    n_bootstrap: options.Bootstrap = 100,
    n_perms: options.Permutations = 0,
    seed: options.Seed = 0,
    device: options.Device = "auto",
    quiet: options.Quiet = False,
) -> None:
    """Analyse a whole screen: guides, perturbed cells, distances, and a report of it all."""
    from ptg.cli.console import StepLines
    from ptg.cli.files import OutputFolder, read_h5ad
    from ptg.cli.pipeline import ScreenSettings, analyse_screen
    from ptg.cli.write import write_results

    settings = ScreenSettings(
        perturbation, control, guide_target=guide_target, replicate=replicate, size_factor=size_factor,
        metric=metric, n_bootstrap=n_bootstrap, n_perms=n_perms, seed=seed, device=device,
    )  # fmt: skip
    expression = read_h5ad(rna, "--rna")
    counts = None if guides is None else read_h5ad(guides, "--guides")
    with OutputFolder(out) as folder:
        results = analyse_screen(expression, counts, settings, listener=None if quiet else StepLines())
        results.inputs = {
            "Expression file": str(rna),
            **({"Guide file": str(guides)} if guides else {}),
            **results.inputs,
        }
        write_results(results, folder, title=f"Perturbation screen: {rna.name}")
    if not quiet:
        typer.echo(f"Report: {out / 'report.html'}")
