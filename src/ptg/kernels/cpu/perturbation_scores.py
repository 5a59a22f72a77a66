"""Directions of one target and the scores along them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ptg.kernels.contract.projection import CONTROL_CONSTANT, NO_DIRECTION, OK
from ptg.kernels.cpu.compilation import jit

if TYPE_CHECKING:
    from numpy.typing import NDArray

_EPS = float(np.finfo(np.float64).eps)


class Target(NamedTuple):
    """One target and the controls.

    Attributes
    ----------
    control
        (n_columns, n_controls).
    columns
        Rows of `control` that are the markers.
    values
        (n_markers, n_cells).
    moments
        (6, n_markers): `row_moments` of the markers over the controls and over the cells, stacked.
    """

    control: NDArray[Any]
    columns: NDArray[Any]
    values: NDArray[Any]
    moments: NDArray[Any]


def row_moments(values: NDArray[Any]) -> NDArray[Any]:
    """Mean, centred sum of squares and maximum of each row; shape (3, n_rows). Empty rows: 0, 0, -inf."""
    mean = values.sum(axis=1) / max(values.shape[1], 1)
    squares = ((values - mean[:, None]) ** 2).sum(axis=1)
    return np.stack([mean, squares, values.max(axis=1, initial=-np.inf)])


def standardisation(target: Target, *, scale: bool) -> NDArray[Any]:
    """Mean and reciprocal sample standard deviation of each marker over controls and cells; shape (2, n_markers).

    The moments of both merge as in Chan, Golub and LeVeque (1983). A marker without variance has factor 1. Without
    `scale`: 0 and 1.
    """
    control_mean, control_squares, _, mean, squares, _ = target.moments
    n_control, n_cells = target.control.shape[1], target.values.shape[1]
    n = n_control + n_cells
    if not scale or n < 2:
        return np.stack([np.zeros_like(mean), np.ones_like(mean)])
    gap = mean - control_mean
    pooled = control_mean + gap * (n_cells / n)
    deviation = np.sqrt((control_squares + squares + gap * gap * (n_control * n_cells / n)) / (n - 1))
    # A constant marker leaves only the rounding of its mean.
    varies = deviation > 8 * _EPS * np.abs(pooled)
    return np.stack([pooled, np.divide(1.0, deviation, out=np.ones_like(deviation), where=varies)])


@jit
def _add_gene(values: Any, centre: Any, clip: float, weight: float, scores: Any) -> None:
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
def _mean_where(values: Any, chosen: Any, centre: Any, clip: float) -> float:
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
def _project(target: Any, chosen: Any, centres: Any, clip: float, scores: Any) -> float:
    """Add the scores of controls and cells to `scores`; returns the squared length of the direction."""
    control, columns, values, moments = target
    n_control = control.shape[1]
    everyone = np.ones(n_control, dtype=np.bool_)
    length = 0.0
    for j in range(columns.size):
        centre = (centres[0, j], centres[1, j])
        column = control[columns[j]]
        # Clipping costs another pass, which nearly no gene needs.
        control_clip = clip if (moments[2, j] - centre[0]) * centre[1] > clip else np.inf
        cell_clip = clip if (moments[5, j] - centre[0]) * centre[1] > clip else np.inf
        control_mean = (moments[0, j] - centre[0]) * centre[1]
        if control_clip < np.inf:
            control_mean = _mean_where(column, everyone, centre, clip)
        weight = _mean_where(values[j], chosen, centre, cell_clip) - control_mean
        _add_gene(column, centre, control_clip, weight, scores[:n_control])
        _add_gene(values[j], centre, cell_clip, weight, scores[n_control:])
        length += weight * weight
    return length


def project(
    target: Target, chosen: NDArray[Any], centres: NDArray[Any], clip: float
) -> tuple[NDArray[Any], NDArray[Any]] | None:
    """Scores of controls and cells along the direction of the chosen cells; None without a direction."""
    n_control = target.control.shape[1]
    scores = np.zeros(n_control + target.values.shape[1])
    length = _project(tuple(target), chosen, centres, clip, scores)
    if not length > 0.0:
        return None
    scores /= length
    return scores[:n_control], scores[n_control:]


def sample_moments(x: NDArray[Any]) -> tuple[float, float]:
    """Mean and sample variance (n - 1); the variance of fewer than two, or of equal entries, is exactly 0."""
    if x.size < 2 or x.min() == x.max():
        return float(x.sum()), 0.0
    return float(x.mean()), float(x.var(ddof=1))


class Scores(NamedTuple):
    """Scores of one target: standardised, plain, those of the controls (none without a direction), and the status."""

    standardised: NDArray[Any]
    scores: NDArray[Any]
    control_scores: NDArray[Any]
    status: int


def score(target: Target, *, scale: bool, clip: float) -> Scores:
    """Score the cells along the direction of all of them, standardised by the controls."""
    n_cells = target.values.shape[1]
    nothing = np.zeros(n_cells)
    projected = project(target, np.ones(n_cells, dtype=bool), standardisation(target, scale=scale), clip)
    if projected is None:
        return Scores(nothing, np.full(n_cells, np.nan), np.empty(0), NO_DIRECTION)
    control_scores, scores = projected
    mean, variance = sample_moments(control_scores)
    if not variance > 0.0:
        return Scores(nothing, scores, control_scores, CONTROL_CONSTANT)
    return Scores((scores - mean) / np.sqrt(variance), scores, control_scores, OK)
