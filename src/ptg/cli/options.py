"""Options that several commands share, described once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Rna = Annotated[
    Path, typer.Option("--rna", help="Expression of the cells: an .h5ad file with raw counts or log1p values in X.")
]
Perturbation = Annotated[
    str,
    typer.Option(
        "--perturbation",
        help="Column of obs with the target of each cell. With --guides it is written from the assigned guides: cells "
        "with guides of exactly one target get it, the others take no part.",
    ),
]
ExistingPerturbation = Annotated[
    str, typer.Option("--perturbation", help="Column of obs with the target of each cell.")
]
Control = Annotated[str, typer.Option("--control", help="Label of the control, e.g. NT.")]
Replicate = Annotated[
    str | None,
    typer.Option(
        "--replicate", help="Column of obs with the replicates; cells are compared with controls of their own."
    ),
]
SizeFactor = Annotated[
    str | None,
    typer.Option(
        "--size-factor",
        help="Column of obs with the depth of each cell, for panels of a few genes: counts are scaled by it. Default: "
        "the sum over the genes.",
    ),
]
GuideTarget = Annotated[
    str, typer.Option("--guide-target", help="Column of the guides' var with the target of each guide.")
]
Metric = Annotated[str, typer.Option("--metric", help="Metric of the distances.")]
Bootstrap = Annotated[int, typer.Option("--n-bootstrap", help="Bootstrap draws for distances to control; 0 for none.")]
Permutations = Annotated[
    int, typer.Option("--n-perms", help="Permutations to test each distance to control with; 0 for no test.")
]
Seed = Annotated[int, typer.Option("--seed", help="Seed of the random draws.")]
Device = Annotated[str, typer.Option("--device", help="Where to compute: auto, cpu, cuda or cuda:1.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")]
Out = Annotated[Path, typer.Option("--out", "-o", help="Folder for the results; made if it does not exist.")]
