"""Linear discriminants that separate the perturbed cells of all targets and the controls."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ptg.data import InputError, StagedWrites, check_copy, check_integer, check_string, read_obs
from ptg.execute import open_run
from ptg.mixscape.inputs import Inputs, matrices_of
from ptg.mixscape.screen import Screen, check_global_column, read_log_base, read_screen
from ptg.mixscape.selection import Expression, MarkerRule, Markers, check_marker_rule, select_as_pertpy, split_markers
from ptg.mixscape.tables import target_table

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

    from ptg.execute import Run

_DEFAULT_N_COMPS = 50
"""Components where `n_comps` is None, as in scanpy."""

_TOLERANCE = 1e-4
"""Singular values below this count as zero, as in scikit-learn."""


@dataclass(frozen=True)
class LdaParameters:
    """Checked arguments of lda."""

    mixscape_class_global: str
    layer: str | None
    n_comps: int
    perturbation_type: str
    markers: MarkerRule


def check_lda_parameters(
    *,
    mixscape_class_global: str,
    layer: str | None,
    n_comps: object,
    perturbation_type: object,
    **markers: object,
) -> LdaParameters:
    """Check everything that can be checked without looking at the data."""
    return LdaParameters(
        mixscape_class_global,
        layer,
        _DEFAULT_N_COMPS if n_comps is None else check_integer("n_comps", n_comps, minimum=1),
        check_string("perturbation_type", perturbation_type),
        check_marker_rule(**markers),
    )


def discriminate_cells(
    adata: AnnData,
    pert_key: str,
    control: str,
    parameters: LdaParameters,
    *,
    split_by: str | None,
    copy: bool,
    device: str | None,
    show_progressbar: bool,
) -> AnnData | None:
    """Find the discriminants and write the cells' coordinates; see `Mixscape.lda`."""
    copy = check_copy(adata, copy)
    screen = read_screen(adata, pert_key, control, split_by)
    perturbed = _perturbed_cells(adata, screen, parameters)
    with open_run("lda", device=device, show_progressbar=show_progressbar, near=matrices_of(adata)) as run:
        inputs = Inputs(adata, run)
        matrix = inputs.expression()
        expression = Expression(inputs.expression(parameters.layer), read_log_base(adata), run)
        targets = _targets(expression, screen, perturbed, parameters, matrix.shape[1])
        rows = np.flatnonzero(perturbed | (screen.codes == screen.control))
        coordinates = _coordinates(matrix, screen, rows, targets, run)
    target = adata.copy() if copy else adata
    with StagedWrites(target) as staged:
        staged.put("uns", "mixscape_lda", coordinates)
        staged.put("uns", "mixscape_lda_cells", np.asarray(target.obs_names[rows].astype(str), dtype=str))
        staged.put("uns", "mixscape_lda_targets", target_table([entry.row(screen) for entry in targets]))
    return target if copy else None


def _perturbed_cells(adata: AnnData, screen: Screen, parameters: LdaParameters) -> NDArray[np.bool_]:
    key, kind = parameters.mixscape_class_global, parameters.perturbation_type
    check_global_column(adata, key)
    classes = read_obs(adata, key, argument="mixscape_class_global").astype(str)
    perturbed: NDArray[np.bool_] = (
        (classes == kind).to_numpy(dtype=bool) & (screen.codes >= 0) & (screen.codes != screen.control)
    )
    if not perturbed.any():
        raise InputError(
            f"perturbation_type={kind!r}: obs[{key!r}] has no perturbed cell (classes there: "
            f"{', '.join(sorted(classes.dropna().unique()))}). Pass the perturbation_type that mixscape was run with; "
            "if it found no perturbed cell, there is nothing to separate."
        )
    return perturbed


@dataclass(frozen=True)
class _Target:
    """One target: its perturbed cells, and how many axes they get.

    Attributes
    ----------
    label
        Code of the target.
    markers
        Those of the first split that has any.
    cells
        Positions of the perturbed cells.
    n_comps
        Number of principal axes; 0 where the target is not used.
    reason
        Why it is not used.
    """

    label: int
    markers: Markers
    cells: NDArray[np.int64]
    n_comps: int
    reason: str

    def row(self, screen: Screen) -> dict[str, Any]:
        """Row of the table in `uns`."""
        return {
            "target": screen.names[self.label],
            "n_markers": self.markers.n_found,
            "n_cells": len(self.cells),
            "n_comps": self.n_comps,
            "reason": self.reason,
        }


def _targets(
    expression: Expression, screen: Screen, perturbed: NDArray[np.bool_], parameters: LdaParameters, n_genes: int
) -> list[_Target]:
    """Decide for every target whether it gets axes: markers in any split, and enough cells and genes."""
    markers: dict[int, Markers] = {}
    for split in screen.splits():
        found = split_markers(expression, split, screen.control, parameters.markers, select_as_pertpy)
        for label, record in found.items():
            if label not in markers or (markers[label].reason and not record.reason):
                markers[label] = record
    whole = screen.whole()
    targets = []
    for label, record in sorted(markers.items()):
        cells = whole.cells[label][perturbed[whole.cells[label]]]
        n_cells = len(cells) + len(whole.control_cells)
        n_comps = 0 if record.reason else max(min(parameters.n_comps, min(n_cells, n_genes) - 1), 0)
        reason = record.reason or ("" if n_comps else "fewer than two genes or cells")
        targets.append(_Target(label, record, cells, n_comps, reason))
    if not any(target.n_comps for target in targets):
        raise InputError(
            f"no target has min_de_genes={parameters.markers.min_de_genes} markers, so there are no axes to separate "
            "cells on. Lower min_de_genes or logfc_threshold, or raise pval_cutoff."
        )
    return targets


def _coordinates(
    matrix: Any, screen: Screen, rows: NDArray[np.int64], targets: list[_Target], run: Run
) -> NDArray[Any]:
    used = [target for target in targets if target.n_comps]

    def take(cells: NDArray[np.int64]) -> Any:
        return run.kernels.matrices.take_rows(matrix, cells, resources=run.resources)

    axes = run.kernels.projection.principal_axes(
        take(np.flatnonzero(screen.codes == screen.control)),
        take(np.concatenate([target.cells for target in used])),
        np.concatenate([[0], np.cumsum([len(target.cells) for target in used])]).astype(np.int64),
        np.array([target.n_comps for target in used], dtype=np.int64),
        resources=run.resources,
    )
    labels, codes = np.unique(screen.codes[rows], return_inverse=True)
    if len(rows) <= len(labels):
        raise InputError(f"{len(rows)} perturbed and control cells of {len(labels)} classes are too few to separate.")
    found = run.kernels.projection.discriminants(
        take(rows), codes.astype(np.int64), axes, tol=_TOLERANCE, resources=run.resources
    )
    return found.coordinates
