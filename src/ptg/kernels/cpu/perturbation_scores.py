"""Directions of one target and the scores along them."""

from __future__ import annotations

from typing import Any

import numpy as np

from ptg.kernels.contract.projection import CONTROL_CONSTANT, NO_DIRECTION, OK
from ptg.kernels.cpu.threads import jit

_EPS = float(np.finfo(np.float64).eps)


@jit
def row_moments(values: Any) -> Any:
    """Mean, centred sum of squares and maximum of each row; shape (3, n_rows). Empty rows: 0, 0, -inf."""
    n_rows, n = values.shape
    moments = np.zeros((3, n_rows))
    for j in range(n_rows):
        total = 0.0
        top = -np.inf
        for i in range(n):
            total += values[j, i]
            top = max(top, values[j, i])
        mean = total / n if n > 0 else 0.0
        squares = 0.0
        for i in range(n):
            squares += (values[j, i] - mean) ** 2
        moments[0, j] = mean
        moments[1, j] = squares
        moments[2, j] = top
    return moments


@jit
def standardisation(moments: Any, n_control: int, n_target: int, scale: bool) -> Any:
    """Mean and reciprocal sample standard deviation of each gene over controls and target; shape (2, n_genes).

    `moments` are the `row_moments` of controls and of the target's cells, stacked; they merge as in Chan, Golub and
    LeVeque (1983). Without `scale`: 0 and 1.
    """
    n_genes = moments.shape[1]
    result = np.zeros((2, n_genes))
    result[1] = 1.0
    n = n_control + n_target
    if not scale or n < 2:
        return result
    for j in range(n_genes):
        gap = moments[3, j] - moments[0, j]
        mean = moments[0, j] + gap * n_target / n
        squares = moments[1, j] + moments[4, j] + gap * gap * n_control * n_target / n
        deviation = np.sqrt(squares / (n - 1))
        result[0, j] = mean
        # A constant gene leaves only the rounding of its mean.
        if deviation > 8 * _EPS * abs(mean):
            result[1, j] = 1.0 / deviation
    return result


@jit
def add_gene(values: Any, centre: Any, clip: float, weight: float, scores: Any) -> None:
    """Add ``weight * min((values - mean) * factor, clip)`` to the scores; `centre` is (mean, factor)."""
    mean, factor = centre
    if clip == np.inf:
        product = factor * weight
        for i in range(values.size):
            scores[i] += (values[i] - mean) * product
    else:
        for i in range(values.size):
            scores[i] += min((values[i] - mean) * factor, clip) * weight


@jit
def mean_where(values: Any, chosen: Any, centre: Any, clip: float) -> float:
    """Take the mean of ``min((values - mean) * factor, clip)`` over the chosen cells; `centre` is (mean, factor)."""
    mean, factor = centre
    total = 0.0
    n = 0
    for i in range(values.size):
        if chosen[i]:
            total += min((values[i] - mean) * factor, clip)
            n += 1
    return total / n


@jit
def project(target: Any, chosen: Any, clip: float, centres: Any) -> Any:
    """Scores of controls and cells along the direction of the chosen cells.

    `target` is (control, columns, values, moments): the control matrix, its rows that are the markers, the cells'
    (n_markers, n_cells) values, and `moments` as in `standardisation`, whose result is `centres`. Returns (control
    scores, cell scores, squared length of the direction), the scores not yet divided by that length.
    """
    control, columns, values, moments = target
    control_scores = np.zeros(control.shape[1])
    scores = np.zeros(values.shape[1])
    everyone = np.ones(control.shape[1], dtype=np.bool_)
    length = 0.0
    for j in range(columns.size):
        centre = (centres[0, j], centres[1, j])
        column = control[columns[j]]
        # Clipping costs another pass, which nearly no gene needs.
        control_clip = clip if (moments[2, j] - centre[0]) * centre[1] > clip else np.inf
        target_clip = clip if (moments[5, j] - centre[0]) * centre[1] > clip else np.inf
        control_mean = (moments[0, j] - centre[0]) * centre[1]
        if control_clip < np.inf:
            control_mean = mean_where(column, everyone, centre, clip)
        weight = mean_where(values[j], chosen, centre, target_clip) - control_mean
        add_gene(column, centre, control_clip, weight, control_scores)
        add_gene(values[j], centre, target_clip, weight, scores)
        length += weight * weight
    return control_scores, scores, length


@jit
def sample_moments(x: Any, chosen: Any) -> Any:
    """Count the chosen entries; their mean and sample variance (n - 1), which is 0 for fewer than two."""
    n = 0
    total = 0.0
    for i in range(x.size):
        if chosen[i]:
            n += 1
            total += x[i]
    if n < 2:
        return n, total, 0.0
    mean = total / n
    squares = 0.0
    for i in range(x.size):
        if chosen[i]:
            squares += (x[i] - mean) ** 2
    return n, mean, squares / (n - 1)


@jit
def score(target: Any, scale: bool, clip: float) -> Any:
    """Scores of one target (see `project`), also standardised by the controls'.

    Returns (standardised scores, scores, control scores, status).
    """
    control, _, values, moments = target
    n_cells = values.shape[1]
    centres = standardisation(moments, control.shape[1], n_cells, scale)
    control_scores, scores, length = project(target, np.ones(n_cells, dtype=np.bool_), clip, centres)
    if not length > 0.0:
        return np.zeros(n_cells), np.full(n_cells, np.nan), np.empty(0), NO_DIRECTION
    control_scores /= length
    scores /= length
    _, mean, variance = sample_moments(control_scores, np.ones(control_scores.size, dtype=np.bool_))
    if not variance > 0.0:
        return np.zeros(n_cells), scores, control_scores, CONTROL_CONSTANT
    return (scores - mean) / np.sqrt(variance), scores, control_scores, OK
