"""`ptg mixscape`: which cells are perturbed, and how strongly."""

from __future__ import annotations

import typer

from ptg.cli import options
from ptg.cli.errors import one_line_errors


@one_line_errors
def mixscape(
    *,
    rna: options.Rna,
    perturbation: options.ExistingPerturbation,
    control: options.Control,
    out: options.Out,
    replicate: options.Replicate = None,
    size_factor: options.SizeFactor = None,
    device: options.Device = "auto",
    quiet: options.Quiet = False,
) -> None:
    """Find perturbed cells; write screen.h5ad, targets.csv, cells.csv and figures."""
    from ptg.cli.console import StepLines
    from ptg.cli.files import OutputFolder, read_h5ad
    from ptg.cli.journal import Journal
    from ptg.cli.pipeline import ScreenSettings, check_request, find_perturbed_cells, label_cells, prepare_expression
    from ptg.cli.write import write_mixscape

    settings = ScreenSettings(perturbation, control, replicate=replicate, size_factor=size_factor, device=device)
    expression = read_h5ad(rna, "--rna")
    journal = Journal(None if quiet else StepLines())
    with OutputFolder(out) as folder:
        check_request(expression, None, settings)
        screen, _ = label_cells(expression, None, settings, journal)
        prepare_expression(screen, settings, journal)
        find_perturbed_cells(screen, settings, journal)
        write_mixscape(screen, settings, folder)
    if not quiet:
        for note in journal.notes:
            typer.echo(f"{note.step}: {note.text}", err=True)
        typer.echo(f"Results in {out}")
