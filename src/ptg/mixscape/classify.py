"""Tell perturbed from unperturbed cells: one mixture along each target's direction."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ptg.data import (
    InputError,
    StagedWrites,
    check_choice,
    check_copy,
    check_flag,
    check_integer,
    check_number,
    check_string,
)
from ptg.execute import open_run
from ptg.kernels.contract.projection import OK, MixtureRule
from ptg.mixscape.columns import Batch, batches
from ptg.mixscape.inputs import Inputs, matrices_of
from ptg.mixscape.screen import Screen, Split, check_new_column, check_stored_names, read_log_base, read_screen
from ptg.mixscape.selection import (
    Expression,
    MarkerRule,
    Markers,
    SelectAsSeurat,
    Selection,
    check_marker_rule,
    select_as_pertpy,
    split_markers,
)
from ptg.mixscape.signature_source import SignatureSource, read_signature
from ptg.mixscape.tables import N_SAMPLE, REASONS, ScoreFrames, target_table

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

    from ptg.execute import Run
    from ptg.kernels.contract.projection import ClassifiedTargets

#: Global class of cells that carry a guide without its effect.
NOT_PERTURBED = "NP"


@dataclass(frozen=True)
class Flavor:
    """What two implementations of the method do differently.

    Attributes
    ----------
    select
        How markers are chosen among the ranked genes.
    weighted
        Whether the posterior contains the mixing weights.
    clip
        Largest scaled value.
    tol, max_iter, reg_covar
        Defaults of the mixture's stopping rule.
    """

    select: Selection
    weighted: bool
    clip: float
    tol: float
    max_iter: int
    reg_covar: float


FLAVORS = {
    "pertpy": Flavor(select_as_pertpy, weighted=True, clip=math.inf, tol=1e-3, max_iter=100, reg_covar=1e-6),
    "seurat": Flavor(SelectAsSeurat(), weighted=False, clip=10.0, tol=1e-12, max_iter=10_000, reg_covar=0.0),
}


@dataclass(frozen=True)
class ClassParameters:
    """Checked arguments of mixscape."""

    new_class_name: str
    layer: str | None
    de_layer: str | None
    scale: bool
    perturbation_type: str
    markers: MarkerRule
    mixture: MixtureRule
    flavor: Flavor

    @property
    def probability_name(self) -> str:
        """Column of the posterior, named as in pertpy."""
        return f"{self.new_class_name}_p_{self.perturbation_type.lower()}"


def check_class_parameters(
    *,
    new_class_name: object,
    layer: str | None,
    de_layer: str | None,
    scale: object,
    perturbation_type: object,
    iter_num: object,
    random_state: object,
    tol: object,
    max_iter: object,
    reg_covar: object,
    flavor: object,
    **markers: object,
) -> ClassParameters:
    """Check everything that can be checked without looking at the data."""
    chosen = FLAVORS[check_choice("flavor", flavor, list(FLAVORS))]
    rule = check_marker_rule(**markers)
    kind = check_string("perturbation_type", perturbation_type)
    if kind == NOT_PERTURBED:
        raise InputError(f"perturbation_type={kind!r} is the class of cells without the effect. Pass another name.")
    seed = None if random_state is None else check_integer("random_state", random_state, minimum=0, maximum=2**32 - 1)
    draws = np.random.RandomState(seed).random_sample(3).tolist()
    mixture = MixtureRule(
        n_rounds=check_integer("iter_num", iter_num, minimum=1),
        min_perturbed=rule.min_de_genes,
        weighted=chosen.weighted,
        tol=chosen.tol if tol is None else check_number("tol", tol, minimum=0.0),
        max_iter=chosen.max_iter if max_iter is None else check_integer("max_iter", max_iter, minimum=1),
        reg_covar=chosen.reg_covar if reg_covar is None else check_number("reg_covar", reg_covar, minimum=0.0),
        draws=(draws[0], draws[1], draws[2]),
    )
    name = check_string("new_class_name", new_class_name)
    return ClassParameters(name, layer, de_layer, check_flag("scale", scale), kind, rule, mixture, chosen)


def classify_cells(
    adata: AnnData,
    pert_key: str,
    control: str,
    parameters: ClassParameters,
    *,
    split_by: str | None,
    copy: bool,
    device: str | None,
    show_progressbar: bool,
) -> AnnData | None:
    """Classify the cells of every target and write the result; see `Mixscape.mixscape`."""
    copy = check_copy(adata, copy)
    screen = read_screen(adata, pert_key, control, split_by)
    _check_names(pert_key, split_by, screen, parameters)
    with open_run("mixscape", device=device, show_progressbar=show_progressbar, near=matrices_of(adata)) as run:
        inputs = Inputs(adata, run)
        source = read_signature(inputs, parameters.layer)
        matrix = inputs.expression(parameters.de_layer, argument="de_layer")
        expression = Expression(matrix, read_log_base(adata), run)
        found = _Classes(screen, ScoreFrames(adata.obs_names, pert_key, screen))
        for split in screen.splits():
            _classify_split(expression, source, split, parameters, found)
    target = adata.copy() if copy else adata
    with StagedWrites(target) as staged:
        index = target.obs_names
        staged.put("obs", parameters.new_class_name, found.classes(parameters.perturbation_type, index))
        name = f"{parameters.new_class_name}_global"
        staged.put("obs", name, found.global_classes(parameters.perturbation_type, index))
        staged.put("obs", parameters.probability_name, pd.Series(found.posterior, index=index))
        staged.put("uns", "mixscape", found.scores.frames)
        staged.put("uns", "mixscape_targets", target_table(found.rows))
    return target if copy else None


def _check_names(pert_key: str, split_by: str | None, screen: Screen, parameters: ClassParameters) -> None:
    """Make sure that no two classes would have the same name, and that nothing overwrites labels or splits."""
    name = parameters.new_class_name
    for written in (name, f"{name}_global", parameters.probability_name):
        check_new_column(f"new_class_name={name!r}", written, {"labels": pert_key, "splits": split_by})
    control = screen.names[screen.control]
    if control in {NOT_PERTURBED, parameters.perturbation_type}:
        raise InputError(
            f"control={control!r} is also the global class of perturbed or escaped cells. "
            "Rename the control, or pass another perturbation_type."
        )
    if control in _class_names(screen, parameters.perturbation_type)[1:]:
        raise InputError(f"control={control!r} is also the class of a target's cells. Rename the control.")
    check_stored_names(f"pert_key={pert_key!r}", screen.names)
    check_stored_names("split_by", screen.split_names)


def _class_names(screen: Screen, perturbation_type: str) -> list[str]:
    """List the control's class, then for each label its perturbed and its other cells'."""
    suffixes = (perturbation_type, NOT_PERTURBED)
    return [screen.names[screen.control], *(f"{name} {suffix}" for name in screen.names for suffix in suffixes)]


class _Classes:
    """Classes of all cells, filled split by split."""

    def __init__(self, screen: Screen, scores: ScoreFrames) -> None:
        self.screen = screen
        self.scores = scores
        self.posterior = np.zeros(len(screen.codes))
        self.perturbed = np.zeros(len(screen.codes), dtype=bool)
        self.rows: list[dict[str, Any]] = []
        labelled = (screen.codes >= 0) & (screen.split_codes >= 0)
        self._labelled = labelled | (screen.codes == screen.control)

    def classes(self, perturbation_type: str, index: pd.Index[Any]) -> pd.Series[Any]:
        """Class of each cell; missing for cells without a label, or of a target without a split."""
        codes = 1 + 2 * self.screen.codes + np.where(self.perturbed, 0, 1)
        codes[self.screen.codes == self.screen.control] = 0
        return self._series(codes, _class_names(self.screen, perturbation_type), index)

    def global_classes(self, perturbation_type: str, index: pd.Index[Any]) -> pd.Series[Any]:
        """Control, not perturbed or perturbed."""
        codes = np.where(self.perturbed, 2, 1)
        codes[self.screen.codes == self.screen.control] = 0
        names = [self.screen.names[self.screen.control], NOT_PERTURBED, perturbation_type]
        return self._series(codes, names, index)

    def _series(self, codes: NDArray[np.int64], names: list[str], index: pd.Index[Any]) -> pd.Series[Any]:
        # Text, not categories: as in pertpy, whose plots would ask for a colour for every category there is.
        labels = np.array([*names, np.nan], dtype=object)
        return pd.Series(labels[np.where(self._labelled, codes, -1)], index=index)


def _classify_split(
    expression: Expression, source: SignatureSource, split: Split, parameters: ClassParameters, found: _Classes
) -> None:
    run = expression.run
    markers = split_markers(expression, split, found.screen.control, parameters.markers, parameters.flavor.select)
    usable = {target: record.genes for target, record in markers.items() if not record.reason}
    rows = {target: _row(found.screen, split, target, record) for target, record in markers.items()}
    for batch in batches(source, split, usable, run.resources.memory):
        result = _classify_batch(batch, parameters, run)
        found.posterior[batch.cells] = result.posterior
        found.perturbed[batch.cells] = result.perturbed
        found.scores.add(split, batch, result)
        for target, outcome in zip(batch.targets, _outcomes(batch, result), strict=True):
            rows[target].update(outcome)
    found.rows.extend(rows.values())


def _classify_batch(batch: Batch, parameters: ClassParameters, run: Run) -> ClassifiedTargets:
    return run.kernels.projection.classify_targets(
        batch.columns,
        parameters.mixture,
        scale=parameters.scale,
        clip=parameters.flavor.clip if parameters.scale else math.inf,
        n_sample=N_SAMPLE,
        resources=run.resources,
    )


def _row(screen: Screen, split: Split, target: int, markers: Markers) -> dict[str, Any]:
    return {
        "target": screen.names[target],
        "split": split.name,
        "n_markers": markers.n_found,
        "n_cells": len(split.cells[target]),
        "n_iterations": 0,
        "converged": False,
        "fraction_perturbed": 0.0,
        "reason": markers.reason,
    }


def _outcomes(batch: Batch, result: ClassifiedTargets) -> list[dict[str, Any]]:
    """List what each target of a batch adds to its row."""
    offsets = batch.columns.cell_offsets
    n_perturbed = np.diff(np.concatenate([[0], np.cumsum(result.perturbed)])[offsets])
    fractions = np.where(result.status == OK, n_perturbed / np.maximum(np.diff(offsets), 1), 0.0)
    columns = (result.n_rounds, result.converged, fractions, result.status)
    return [
        {
            "n_iterations": n_rounds,
            "converged": bool(converged),
            "fraction_perturbed": fraction,
            "reason": REASONS[status],
        }
        for n_rounds, converged, fraction, status in zip(*(column.tolist() for column in columns), strict=True)
    ]
