"""Perturbation directions: mixture and scores of many targets, one task each; discriminant axes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ptg.kernels.contract.projection import (
    ClassifiedTargets,
    MixtureRule,
    ScoredTargets,
    TargetColumns,
)
from ptg.kernels.contract.resources import Resources
from ptg.kernels.cpu.discriminant_axes import discriminants, principal_axes
from ptg.kernels.cpu.perturbation_mixture import classify
from ptg.kernels.cpu.perturbation_scores import Target, row_moments, score
from ptg.kernels.cpu.threads import run_tasks

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["classify_targets", "discriminants", "principal_axes", "score_targets"]

_ROWS = 64
"""Rows of the control matrix whose moments one task finds."""


def classify_targets(
    batch: TargetColumns, rule: MixtureRule, *, scale: bool, clip: float, n_sample: int, resources: Resources
) -> ClassifiedTargets:
    """Separate perturbed from unperturbed cells; see the contract."""
    control_moments = _control_moments(batch.control, resources)

    def one(target: int) -> tuple[Any, ...]:
        before = batch.controls_before[_cells(batch, target)]
        *found, control_scores = classify(_target(batch, target, control_moments), before, rule, scale=scale, clip=clip)
        return (*found, *_rank_sample(control_scores, n_sample))

    results = run_tasks(one, range(len(batch.cell_offsets) - 1), resources, work=_work(batch))
    posterior, perturbed, scores, rounds, converged, status, sample, sampled = _columns(results, 8)
    return ClassifiedTargets(
        posterior=_joined(posterior, np.float64),
        perturbed=_joined(perturbed, np.bool_),
        scores=_joined(scores, np.float64),
        control_sample=_stacked(sample, batch, n_sample, np.int64),
        control_scores=_stacked(sampled, batch, n_sample, np.float64),
        n_rounds=np.array(rounds, dtype=np.int64),
        converged=np.array(converged, dtype=bool),
        status=np.array(status, dtype=np.int64),
    )


def score_targets(
    batch: TargetColumns, *, scale: bool, clip: float, n_sample: int, resources: Resources
) -> ScoredTargets:
    """Score the cells of every target along its direction; see the contract."""
    control_moments = _control_moments(batch.control, resources)

    def one(target: int) -> tuple[Any, ...]:
        found = score(_target(batch, target, control_moments), scale=scale, clip=clip)
        return found.standardised, found.scores, found.status, *_rank_sample(found.control_scores, n_sample)

    results = run_tasks(one, range(len(batch.cell_offsets) - 1), resources, work=_work(batch))
    standardised, scores, status, sample, sampled = _columns(results, 5)
    return ScoredTargets(
        standardised=_joined(standardised, np.float64),
        scores=_joined(scores, np.float64),
        control_sample=_stacked(sample, batch, n_sample, np.int64),
        control_scores=_stacked(sampled, batch, n_sample, np.float64),
        status=np.array(status, dtype=np.int64),
    )


def _control_moments(control: NDArray[Any], resources: Resources) -> NDArray[Any]:
    starts = range(0, len(control), _ROWS)
    parts = run_tasks(lambda start: row_moments(control[start : start + _ROWS]), starts, resources)
    return np.concatenate(parts, axis=1) if parts else np.zeros((3, 0))


def _cells(batch: TargetColumns, target: int) -> slice:
    return slice(int(batch.cell_offsets[target]), int(batch.cell_offsets[target + 1]))


def _target(batch: TargetColumns, target: int, control_moments: NDArray[Any]) -> Target:
    columns = batch.columns[batch.marker_offsets[target] : batch.marker_offsets[target + 1]]
    values = batch.values[batch.value_offsets[target] : batch.value_offsets[target + 1]]
    cells = _cells(batch, target)
    values = values.reshape(len(columns), cells.stop - cells.start)
    return Target(batch.control, columns, values, np.concatenate([control_moments[:, columns], row_moments(values)]))


def _work(batch: TargetColumns) -> list[float]:
    """Values to project, per target."""
    n_cells = np.diff(batch.cell_offsets) + batch.control.shape[1]
    work: list[float] = (np.diff(batch.marker_offsets) * n_cells + 1.0).tolist()
    return work


def _rank_sample(scores: NDArray[Any], n_sample: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Positions, ascending, of entries at evenly spaced ranks, and the entries."""
    ranks = np.linspace(0, len(scores) - 1, min(n_sample, len(scores))).round().astype(np.int64)
    sample = np.sort(np.argsort(scores, kind="stable")[ranks])
    return sample, scores[sample]


def _columns(rows: list[tuple[Any, ...]], width: int) -> list[list[Any]]:
    """Transpose a list of tuples, which may be empty."""
    return [[row[column] for row in rows] for column in range(width)]


def _joined(parts: list[NDArray[Any]], dtype: type) -> NDArray[Any]:
    return np.concatenate([np.empty(0, dtype=dtype), *parts])


def _stacked(parts: list[NDArray[Any]], batch: TargetColumns, n_sample: int, dtype: type) -> NDArray[Any]:
    """One row per target; a target without a direction gets -1 or NaN."""
    missing: float = -1 if dtype is np.int64 else np.nan
    rows = np.full((len(parts), min(n_sample, batch.control.shape[1])), missing, dtype=dtype)
    for row, part in zip(rows, parts, strict=True):
        row[: len(part)] = part
    return rows
