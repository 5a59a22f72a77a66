"""`ptg simulate`: a screen to try the other commands on."""

from __future__ import annotations

from typing import Annotated

import typer

from ptg.cli import options
from ptg.cli.errors import one_line_errors


@one_line_errors
def simulate(
    *,
    out: options.Out,
    n_cells: Annotated[int, typer.Option("--n-cells", help="Cells.")] = 6000,
    n_genes: Annotated[int, typer.Option("--n-genes", help="Genes.")] = 500,
    n_targets: Annotated[int, typer.Option("--n-targets", help="Targets besides the control NT.")] = 12,
    guides_per_target: Annotated[int, typer.Option("--guides-per-target", help="Guides of each target.")] = 3,
    seed: options.Seed = 0,
) -> None:
    """Draw a screen with known truth; write rna.h5ad and guides.h5ad."""
    from ptg.cli.files import OutputFolder
    from ptg.cli.hdf5 import write_h5ad
    from ptg.datasets import simulate_screen

    rna, guides = simulate_screen(n_cells, n_genes, n_targets, guides_per_target, seed=seed)
    with OutputFolder(out) as folder:
        write_h5ad(rna, folder.new_file("rna.h5ad"))
        write_h5ad(guides, folder.new_file("guides.h5ad"))
    typer.echo(f"Wrote {out / 'rna.h5ad'} and {out / 'guides.h5ad'}")
