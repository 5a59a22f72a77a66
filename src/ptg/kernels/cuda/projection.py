"""Perturbation directions, mixtures and discriminant axes on GPUs: see `ptg.kernels.contract.projection`."""

from __future__ import annotations

from typing import Any

import cupy as cp
import numpy as np

from ptg.kernels.contract.projection import ClassifiedTargets, MixtureRule, ScoredTargets, TargetColumns
from ptg.kernels.contract.resources import Resources
from ptg.kernels.cuda.discriminant_axes import discriminants
from ptg.kernels.cuda.memory import reports_memory
from ptg.kernels.cuda.principal_axes import principal_axes
from ptg.kernels.cuda.target_columns import Batch, TargetRun
from ptg.kernels.cuda.transfer import to_device

__all__ = ["classify_targets", "discriminants", "principal_axes", "score_targets"]


@reports_memory
def classify_targets(
    batch: TargetColumns, rule: MixtureRule, *, scale: bool, clip: float, n_sample: int, resources: Resources
) -> ClassifiedTargets:
    """Separate perturbed from unperturbed cells; see the contract."""
    host = Batch(batch, n_sample, resources)
    result = ClassifiedTargets(
        posterior=np.empty(host.n_cells),
        perturbed=np.empty(host.n_cells, dtype=bool),
        scores=np.empty(host.n_cells),
        control_sample=np.empty((host.n_targets, host.n_sample), dtype=np.int64),
        control_scores=np.empty((host.n_targets, host.n_sample)),
        n_rounds=np.empty(host.n_targets, dtype=np.int64),
        converged=np.empty(host.n_targets, dtype=bool),
        status=np.empty(host.n_targets, dtype=np.int64),
    )

    def compute(run: TargetRun) -> None:
        n_cells, n_targets = run.cells.stop - run.cells.start, run.stop - run.first
        x, first_x = cp.empty(run.n_scores), cp.empty(run.n_scores)
        posterior, scores = cp.empty(n_cells), cp.empty(n_cells)
        perturbed = cp.empty(n_cells, dtype=np.uint8)
        n_rounds = cp.empty(n_targets, dtype=np.int64)
        converged, status, missing = (cp.empty(n_targets, dtype=np.int32) for _ in range(3))
        before = to_device(host.controls_before[run.cells], resources).astype(np.int64, copy=False)
        run.run(
            "perturbation_mixture.cu",
            "classify_targets",
            (
                before,
                np.int64(rule.n_rounds),
                np.int64(rule.min_perturbed),
                np.int32(rule.weighted),
                np.float64(rule.tol),
                np.int64(rule.max_iter),
                np.float64(rule.reg_covar),
                *(np.float64(draw) for draw in rule.draws),
                x,
                first_x,
                run.x_offsets,
                posterior,
                perturbed,
                scores,
                n_rounds,
                converged,
                status,
                missing,
            ),
        )
        result.posterior[run.cells], result.scores[run.cells] = posterior.get(), scores.get()
        result.perturbed[run.cells] = perturbed.get()
        result.n_rounds[run.targets], result.converged[run.targets] = n_rounds.get(), converged.get()
        result.status[run.targets] = status.get()
        _sample(run, first_x, missing, result)

    host.each_run(compute, scale=scale, clip=clip)
    return result


@reports_memory
def score_targets(
    batch: TargetColumns, *, scale: bool, clip: float, n_sample: int, resources: Resources
) -> ScoredTargets:
    """Score the cells of every target along its direction; see the contract."""
    host = Batch(batch, n_sample, resources)
    result = ScoredTargets(
        standardised=np.empty(host.n_cells),
        scores=np.empty(host.n_cells),
        control_sample=np.empty((host.n_targets, host.n_sample), dtype=np.int64),
        control_scores=np.empty((host.n_targets, host.n_sample)),
        status=np.empty(host.n_targets, dtype=np.int64),
    )

    def compute(run: TargetRun) -> None:
        n_cells = run.cells.stop - run.cells.start
        x = cp.empty(run.n_scores)
        standardised, scores = cp.empty(n_cells), cp.empty(n_cells)
        status, missing = (cp.empty(run.stop - run.first, dtype=np.int32) for _ in range(2))
        outputs = (x, run.x_offsets, standardised, scores, status, missing)
        run.run("perturbation_scores.cu", "score_targets", outputs)
        result.standardised[run.cells], result.scores[run.cells] = standardised.get(), scores.get()
        result.status[run.targets] = status.get()
        _sample(run, x, missing, result)

    host.each_run(compute, scale=scale, clip=clip)
    return result


def _sample(run: TargetRun, x: Any, missing: Any, result: ClassifiedTargets | ScoredTargets) -> None:
    positions, scores = run.sample(x, missing)
    result.control_sample[run.targets], result.control_scores[run.targets] = positions.get(), scores.get()
