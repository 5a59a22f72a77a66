"""The results of an analysis as files."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np

from ptg.cli.files import MANIFEST, OutputFolder
from ptg.cli.hdf5 import write_h5ad
from ptg.report import tables

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

    from ptg.cli.pipeline import ScreenSettings
    from ptg.report.figures import Picture
    from ptg.report.results import ScreenResults

_LARGEST_LAYER = 1 << 30
"""Bytes above which the dense signature is not written: it follows from the rest, and would dwarf it."""


def write_results(results: ScreenResults, folder: OutputFolder, *, title: str) -> list[str]:
    """Write screen, tables, figures and report; return the names of the files."""
    from ptg.report import render_report
    from ptg.report.figures import draw_pictures

    _leave_out_large_signature(results)
    write_h5ad(results.screen, folder.new_file("screen.h5ad"))
    for name, table in result_tables(results).items():
        table.to_csv(folder.new_file(f"tables/{name}.csv"), index=name == "pairwise_distances")
    pictures = draw_pictures(results)
    _write_pictures(pictures, folder)
    page = render_report(results, pictures, title=title)
    folder.new_file("report.html").write_text(page, encoding="utf-8")
    return _write_manifest(results, folder)


def result_tables(results: ScreenResults) -> dict[str, pd.DataFrame]:
    """Every table, by the name of its file."""
    screen, guides = results.screen, results.guides
    columns = [name for name in (results.perturbation, results.replicate) if name is not None]
    named = {
        "targets": tables.target_table(screen, results.perturbation),
        "cells": tables.cell_table(screen, columns, guides.adata if guides else None),
        "distances_to_control": tables.distance_table(results.distances),
        "pairwise_distances": results.distances.pairwise,
    }
    if guides is not None:
        named["guides"] = tables.guide_table(guides.adata, guides.target_key)
    return named


def write_mixscape(screen: AnnData, settings: ScreenSettings, folder: OutputFolder) -> None:
    """Write what ``ptg mixscape`` leaves."""
    from ptg.report.figures import draw_mixscape_pictures

    write_h5ad(screen, folder.new_file("screen.h5ad"))
    columns = [name for name in (settings.perturbation, settings.replicate) if name is not None]
    tables.target_table(screen, settings.perturbation).to_csv(folder.new_file("targets.csv"), index=False)
    tables.cell_table(screen, columns).to_csv(folder.new_file("cells.csv"), index=False)
    _write_pictures(draw_mixscape_pictures(screen, settings.perturbation, settings.control), folder)


def write_assignment(guides: AnnData, folder: OutputFolder) -> int:
    """Write what ``ptg guides`` leaves; return the number of cells with a guide."""
    from ptg.report.figures import draw_guide_pictures

    write_h5ad(guides, folder.new_file("guides.h5ad"))
    cells = tables.assignment_table(guides)
    cells.to_csv(folder.new_file("cells.csv"), index=False)
    guides.var.rename_axis("guide").to_csv(folder.new_file("guides.csv"))
    _write_pictures(draw_guide_pictures(guides), folder)
    return int((cells["n_guides"] > 0).sum())


def _write_pictures(pictures: dict[str, Picture], folder: OutputFolder) -> None:
    for name, picture in pictures.items():
        folder.new_file(f"figures/{name}.png").write_bytes(picture.png)


def _leave_out_large_signature(results: ScreenResults) -> None:
    """Drop the dense signature where it is large, and say so."""
    from ptg.report.results import Note

    layers = results.screen.layers
    if "X_pert" in layers and np.size(layers["X_pert"]) * layers["X_pert"].dtype.itemsize > _LARGEST_LAYER:
        del layers["X_pert"]
        text = "screen.h5ad does not hold the dense signature, layers['X_pert'], because it takes more than 1 GiB."
        results.notes.append(Note("Files", text))


def _write_manifest(results: ScreenResults, folder: OutputFolder) -> list[str]:
    """Write what was run and which files it left, for machines."""
    manifest = folder.new_file(MANIFEST)
    root = manifest.parent
    names = sorted(str(path.relative_to(root).as_posix()) for path in root.rglob("*") if path.is_file())
    record = {
        "inputs": results.inputs,
        "parameters": results.parameters,
        "defaults": results.defaults,
        "versions": results.versions,
        "seconds": {step: round(seconds, 3) for step, seconds in results.seconds.items()},
        "notes": [{"step": note.step, "text": note.text} for note in results.notes],
        "files": names,
    }
    manifest.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return [*names, MANIFEST]
