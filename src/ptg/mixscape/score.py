"""Score the strength of a perturbation in each cell: the position along its target's direction."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ptg.data import (
    InputError,
    StagedWrites,
    check_copy,
    check_flag,
    check_integer,
    check_number,
    check_string,
    read_labels,
)
from ptg.execute import open_run
from ptg.mixscape.columns import batches
from ptg.mixscape.inputs import Inputs, matrices_of
from ptg.mixscape.score_markers import MarkerSearch, given_markers
from ptg.mixscape.screen import (
    FEWEST_CELLS,
    Screen,
    Split,
    check_new_column,
    check_stored_names,
    gene_positions,
    read_log_base,
    read_screen,
    stored_name,
)
from ptg.mixscape.selection import Expression, MarkerRule, Markers, check_marker_rule
from ptg.mixscape.signature_source import SignatureSource, read_signature
from ptg.mixscape.tables import N_SAMPLE, REASONS, ScoreFrames, target_table

if TYPE_CHECKING:
    from anndata import AnnData

    from ptg.execute import Run

_CLIP = 10.0
"""Largest scaled value, as in Seurat's ScaleData."""


@dataclass(frozen=True)
class ScoreParameters:
    """Checked arguments of mixscale."""

    new_class_name: str
    layer: str | None
    de_layer: str | None
    scale: bool
    max_de_genes: int
    markers: MarkerRule
    fine_mode_labels: str | None
    de_genes_by_target: Mapping[Any, Sequence[str]] | None
    min_proportion: float | None
    seed: int


def check_score_parameters(
    *,
    new_class_name: object,
    layer: str | None,
    de_layer: str | None,
    scale: object,
    max_de_genes: object,
    fine_mode: object,
    fine_mode_labels: object,
    de_genes_by_target: Mapping[Any, Sequence[str]] | None,
    harmonize: object,
    harmonize_min_proportion: object,
    random_state: object,
    **markers: object,
) -> ScoreParameters:
    """Check everything that can be checked without looking at the data."""
    labels = check_string("fine_mode_labels", fine_mode_labels)
    proportion = check_number("harmonize_min_proportion", harmonize_min_proportion, minimum=0.0, maximum=1.0)
    return ScoreParameters(
        new_class_name=check_string("new_class_name", new_class_name),
        layer=layer,
        de_layer=de_layer,
        scale=check_flag("scale", scale),
        max_de_genes=check_integer("max_de_genes", max_de_genes, minimum=1),
        markers=check_marker_rule(**markers),
        fine_mode_labels=labels if check_flag("fine_mode", fine_mode) else None,
        de_genes_by_target=de_genes_by_target,
        min_proportion=proportion if check_flag("harmonize", harmonize) else None,
        seed=check_integer("random_state", random_state, minimum=0),
    )


def score_cells(
    adata: AnnData,
    pert_key: str,
    control: str,
    parameters: ScoreParameters,
    *,
    split_by: str | None,
    copy: bool,
    device: str | None,
    show_progressbar: bool,
) -> AnnData | None:
    """Score the cells of every target and write the result; see `Mixscale.mixscale`."""
    copy = check_copy(adata, copy)
    screen = read_screen(adata, pert_key, control, split_by)
    name = parameters.new_class_name
    columns = {"labels": pert_key, "splits": split_by, "guides": parameters.fine_mode_labels}
    check_new_column(f"new_class_name={name!r}", name, columns)
    check_stored_names(f"pert_key={pert_key!r}", screen.names)
    check_stored_names("split_by", screen.split_names)
    if parameters.min_proportion is not None and split_by is None:
        raise InputError(
            "harmonize=True needs split_by: the controls are sampled to the targets' shares of the splits."
        )
    search = _search(adata, parameters)
    with open_run("mixscale", device=device, show_progressbar=show_progressbar, near=matrices_of(adata)) as run:
        inputs = Inputs(adata, run)
        source = read_signature(inputs, parameters.layer)
        markers = _markers(inputs, screen, parameters, search)
        found = _Scores(screen, ScoreFrames(adata.obs_names, pert_key, screen))
        for split in screen.splits():
            _score_split(source, split, markers, parameters, found, run=run)
    target = adata.copy() if copy else adata
    genes = np.asarray(target.var_names.astype(str), dtype=str)
    with StagedWrites(target) as staged:
        staged.put("obs", parameters.new_class_name, pd.Series(found.scores, index=target.obs_names))
        staged.put("uns", "mixscale", found.frames.frames)
        used = {stored_name(screen.names[label]): genes[record.genes] for label, record in markers.items()}
        staged.put("uns", "mixscale_de_genes", used)
        staged.put("uns", "mixscale_targets", target_table(found.rows))
    return target if copy else None


def _search(adata: AnnData, parameters: ScoreParameters) -> MarkerSearch:
    guides = None
    if parameters.fine_mode_labels is not None:
        guides, _ = read_labels(adata, parameters.fine_mode_labels, argument="fine_mode_labels")
    return MarkerSearch(parameters.markers, parameters.max_de_genes, guides, parameters.min_proportion, parameters.seed)


def _markers(inputs: Inputs, screen: Screen, parameters: ScoreParameters, search: MarkerSearch) -> dict[int, Markers]:
    if parameters.de_genes_by_target is not None:
        return given_markers(parameters.de_genes_by_target, screen, gene_positions(inputs.adata), search)
    matrix = inputs.expression(parameters.de_layer, argument="de_layer")
    return search.run(Expression(matrix, read_log_base(inputs.adata), inputs.run), screen)


class _Scores:
    """Scores of all cells, filled split by split."""

    def __init__(self, screen: Screen, frames: ScoreFrames) -> None:
        self.screen = screen
        self.frames = frames
        self.scores = np.zeros(len(screen.codes))
        self.rows: list[dict[str, Any]] = []


def _score_split(
    source: SignatureSource,
    split: Split,
    markers: dict[int, Markers],
    parameters: ScoreParameters,
    found: _Scores,
    *,
    run: Run,
) -> None:
    rows = {target: _row(found.screen, split, target, markers[target]) for target in split.targets}
    usable = {target: markers[target].genes for target, row in rows.items() if not row["reason"]}
    for batch in batches(source, split, usable, run.resources.memory):
        result = run.kernels.projection.score_targets(
            batch.columns,
            scale=parameters.scale,
            clip=_CLIP if parameters.scale else math.inf,
            n_sample=N_SAMPLE,
            resources=run.resources,
        )
        found.scores[batch.cells] = result.standardised
        found.frames.add(split, batch, result)
        for target, status in zip(batch.targets, result.status.tolist(), strict=True):
            rows[target]["reason"] = REASONS[status]
    found.rows.extend(rows.values())


def _row(screen: Screen, split: Split, target: int, markers: Markers) -> dict[str, Any]:
    few = "" if len(split.control_cells) >= FEWEST_CELLS else split.untestable(target)
    return {
        "target": screen.names[target],
        "split": split.name,
        "n_markers": markers.n_found,
        "n_cells": len(split.cells[target]),
        "reason": markers.reason or few,
    }
