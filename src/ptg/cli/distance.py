"""`ptg distance`: distances between groups of cells, as a table."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ptg.cli import options
from ptg.cli.errors import one_line_errors

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

    from ptg.distance import Distance


@one_line_errors
def distance(
    *,
    rna: Annotated[Path, typer.Option("--rna", help="The cells: an .h5ad file.")],
    groupby: Annotated[str, typer.Option("--groupby", help="Column of obs with the group of each cell.")],
    control: Annotated[
        str | None, typer.Option("--control", help="Distances from this group to all; default: between all groups.")
    ] = None,
    metric: options.Metric = "edistance",
    obsm_key: Annotated[str | None, typer.Option("--obsm-key", help="Embedding to use; default: X_pca.")] = None,
    layer_key: Annotated[
        str | None, typer.Option("--layer-key", help="Layer to use, X for X; no embedding then.")
    ] = None,
    n_bootstrap: options.Bootstrap = 0,
    n_perms: options.Permutations = 0,
    seed: options.Seed = 0,
    device: options.Device = "auto",
    quiet: options.Quiet = False,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="CSV file to write; default: standard output.")
    ] = None,
) -> None:
    """Measure distances between groups of cells."""
    from ptg.cli.files import read_h5ad, write_text
    from ptg.data import InputError
    from ptg.distance import Distance, DistanceTest

    where: dict[str, Any] = {"layer_key": layer_key, "obsm_key": obsm_key, "device": device}
    drawn: dict[str, Any] = {"show_progressbar": not quiet}
    if n_perms:
        if control is None or n_bootstrap:
            raise InputError(
                "--n-perms tests against --control, without --n-bootstrap. Pass --control, and one of them."
            )
        test = DistanceTest(metric, n_perms=n_perms, random_state=seed, **where)
        cells = read_h5ad(rna, "--rna")
        table = test(cells, groupby, _label(cells, groupby, control), **drawn).rename_axis("group").reset_index()
    else:
        tool = Distance(metric, **where)
        cells = read_h5ad(rna, "--rna")
        if n_bootstrap:
            drawn.update(bootstrap=True, n_bootstrap=n_bootstrap, random_state=seed)
        one_sided = control is not None
        table = _onesided(tool, cells, groupby, control, drawn) if one_sided else _pairwise(tool, cells, groupby, drawn)
    text = table.to_csv(index=False)
    if out is None:
        typer.echo(text, nl=False)
    else:
        write_text(text, out)


def _onesided(tool: Distance, cells: AnnData, groupby: str, control: str | None, drawn: dict[str, Any]) -> pd.DataFrame:
    """One row per group."""
    import pandas as pd

    found: Any = tool.onesided_distances(cells, groupby, _label(cells, groupby, control), **drawn)
    columns = {"mean": found[0], "variance": found[1]} if "bootstrap" in drawn else {"distance": found}
    return pd.DataFrame(columns).rename_axis("group").reset_index()


def _label(cells: AnnData, groupby: str, text: str | None) -> Any:
    """Find the label that reads `text`, which may be a number; the text itself where there is none."""
    from ptg.data import read_labels

    _, labels = read_labels(cells, groupby, argument="groupby")
    return next((label for label in labels if str(label) == text), text)


def _pairwise(tool: Distance, cells: AnnData, groupby: str, drawn: dict[str, Any]) -> pd.DataFrame:
    """One row per pair."""
    import pandas as pd

    found: Any = tool.pairwise(cells, groupby, **drawn)
    squares = {"mean": found[0], "variance": found[1]} if "bootstrap" in drawn else {"distance": found}
    names = next(iter(squares.values())).index
    pairs = {"group": names.repeat(len(names)), "other": [*names] * len(names)}
    return pd.DataFrame({**pairs, **{name: square.to_numpy().ravel() for name, square in squares.items()}})
