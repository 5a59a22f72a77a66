"""The mixture of one target: k-means weights, EM with a fixed first component, rounds of assignment."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ptg.kernels.contract.projection import (
    CONTROL_CONSTANT,
    FEW_PERTURBED,
    ILL_DEFINED,
    NO_DIRECTION,
    OK,
    PERTURBED_CONSTANT,
)
from ptg.kernels.cpu.perturbation_scores import project, sample_moments, standardisation
from ptg.kernels.cpu.threads import jit

_LOG_2PI = math.log(2.0 * math.pi)
_EPS = float(np.finfo(np.float64).eps)
_SHARE_FLOOR = 10 * _EPS
"""Added to a component's number of cells, as scikit-learn does, so that an empty one divides nothing by zero."""
_CHUNK = 512
"""Factors of the likelihood multiplied before a logarithm is taken: each is in [1, 2], so no overflow."""


@jit
def in_data_order(controls: Any, cells: Any, controls_before: Any) -> Any:
    """Merge the scores of controls and cells into the order of the data."""
    merged = np.empty(controls.size + cells.size)
    for i in range(cells.size):
        start = 0 if i == 0 else controls_before[i - 1]
        merged[start + i : controls_before[i] + i] = controls[start : controls_before[i]]
        merged[controls_before[i] + i] = cells[i]
    start = controls_before[-1]
    merged[start + cells.size :] = controls[start:]
    return merged


@jit
def _first_reaching(x: Any, centre: float, level: float) -> Any:
    """Index of the cell at which the running sum of squared distances to `centre` reaches `level`."""
    total = 0.0
    for i in range(x.size):
        total += (x[i] - centre) ** 2
        if total >= level:
            return i
    return x.size - 1


@jit
def _two_centres(x: Any, draws: Any) -> Any:
    """k-means++ for two clusters: the first centre uniform, the second the better of two draws by squared distance."""
    first = x[min(int(draws[0] * x.size), x.size - 1)]
    potential = 0.0
    for i in range(x.size):
        potential += (x[i] - first) ** 2
    best = np.inf
    second = first
    for trial in range(1, 3):
        candidate = x[_first_reaching(x, first, draws[trial] * potential)]
        inertia = 0.0
        for i in range(x.size):
            inertia += min((x[i] - first) ** 2, (x[i] - candidate) ** 2)
        if inertia < best:
            best = inertia
            second = candidate
    return first, second


@jit
def _split(x: Any, middle: float, ties_up: bool, mean: float) -> Any:
    """Count the cells above the middle; the sums of ``x - mean`` above and below it."""
    n_upper = 0
    upper = 0.0
    lower = 0.0
    for i in range(x.size):
        if x[i] > middle or (ties_up and x[i] == middle):
            n_upper += 1
            upper += x[i] - mean
        else:
            lower += x[i] - mean
    return n_upper, upper, lower


@jit
def cluster_share(x: Any, draws: Any) -> Any:
    """Share of cells in the first of two clusters of k-means (Lloyd, at most 300 steps)."""
    mean = x.sum() / x.size
    variance = ((x - mean) ** 2).sum() / x.size
    first, second = _two_centres(x, draws)
    low = min(first, second)
    high = max(first, second)
    first_is_high = first > second
    n_before = -1
    n_upper = 0
    settled = False
    for _ in range(300):
        # The first centre wins ties, whichever side it is on.
        n_upper, upper, lower = _split(x, 0.5 * (low + high), first_is_high, mean)
        # Clusters of numbers are intervals: the same number of cells is the same clusters.
        if settled or n_upper in (n_before, 0, x.size):
            break
        upper = mean + upper / n_upper
        lower = mean + lower / (x.size - n_upper)
        settled = (upper - high) ** 2 + (lower - low) ** 2 <= variance * 1e-4
        low = lower
        high = upper
        n_before = n_upper
    share = n_upper / x.size
    return share if first_is_high else 1.0 - share


@jit
def _em_step(x: Any, mixture: Any, reg_covar: float) -> Any:
    """Update `mixture` (w0, w1, m0, v0, m1, v1) in place; return the mean log-likelihood before the update."""
    mean0 = mixture[2]
    mean1 = mixture[4]
    constant0 = np.log(mixture[0]) - 0.5 * (_LOG_2PI + np.log(mixture[3]))
    constant1 = np.log(mixture[1]) - 0.5 * (_LOG_2PI + np.log(mixture[5]))
    half0 = -0.5 / mixture[3]
    half1 = -0.5 / mixture[5]
    n0 = _SHARE_FLOOR
    n1 = _SHARE_FLOOR
    first = 0.0
    second = 0.0
    likelihood = 0.0
    product = 1.0
    for i in range(x.size):
        away = x[i] - mean1
        log0 = constant0 + half0 * (x[i] - mean0) ** 2
        log1 = constant1 + half1 * away * away
        smaller = np.exp(-abs(log1 - log0))
        larger_share = 1.0 / (1.0 + smaller)
        share1 = larger_share if log1 >= log0 else smaller * larger_share
        n0 += larger_share if log1 < log0 else smaller * larger_share
        n1 += share1
        first += share1 * away
        second += share1 * away * away
        likelihood += max(log0, log1)
        product *= 1.0 + smaller
        if (i + 1) % _CHUNK == 0:
            likelihood += np.log(product)
            product = 1.0
    step = first / n1
    mixture[0] = n0 / (n0 + n1)
    mixture[1] = n1 / (n0 + n1)
    mixture[4] = mean1 + step
    mixture[5] = second / n1 - step * step + reg_covar
    return (likelihood + np.log(product)) / x.size


@jit
def fit_mixture(x: Any, mixture: Any, tol: float, max_iter: int, reg_covar: float) -> bool:
    """EM of two normals of which the first is fixed; returns whether it converged.

    `mixture` (w0, w1, m0, v0, m1, v1) is the start and becomes the fit; v1 is not positive where the second component
    collapsed.
    """
    before = -np.inf
    for _ in range(max_iter):
        likelihood = _em_step(x, mixture, reg_covar)
        if abs(likelihood - before) < tol:
            return True
        if not mixture[5] > 0.0:
            return False
        before = likelihood
    return False


@jit
def _posterior(scores: Any, mixture: Any, weighted: bool) -> Any:
    """Probability of the second component."""
    odds = 0.5 * (np.log(mixture[5]) - np.log(mixture[3]))
    if weighted:
        odds += np.log(mixture[0]) - np.log(mixture[1])
    distance0 = (scores - mixture[2]) ** 2 / mixture[3]
    distance1 = (scores - mixture[4]) ** 2 / mixture[5]
    return 1.0 / (1.0 + np.exp(odds + 0.5 * (distance1 - distance0)))


@jit
def _assign(control_scores: Any, scores: Any, perturbed: Any, controls_before: Any, options: Any) -> Any:
    """Fit the mixture of one round. Returns (posterior, whether EM converged, status)."""
    posterior = np.zeros(scores.size)
    everyone = np.ones(control_scores.size, dtype=np.bool_)
    mixture = np.empty(6)
    _, mixture[2], mixture[3] = sample_moments(control_scores, everyone)
    _, mixture[4], mixture[5] = sample_moments(scores, perturbed)
    if not mixture[3] > 0.0:
        return posterior, False, CONTROL_CONSTANT
    if not mixture[5] > 0.0:
        return posterior, False, PERTURBED_CONSTANT
    x = in_data_order(control_scores, scores, controls_before)
    share = cluster_share(x, options[8:11])
    mixture[0] = share + _SHARE_FLOOR / x.size
    mixture[1] = 1.0 - share + _SHARE_FLOOR / x.size
    converged = fit_mixture(x, mixture, options[5], int(options[6]), options[7])
    if not mixture[5] > 0.0:
        return posterior, False, ILL_DEFINED
    posterior = _posterior(scores, mixture, options[4] != 0.0)
    return posterior, converged, FEW_PERTURBED if np.sum(posterior > 0.5) < options[3] else OK


@jit
def classify(target: Any, controls_before: Any, options: Any) -> Any:
    """All rounds of one target (see `project`).

    `options`: scale, clip, n_rounds, min_perturbed, weighted, tol, max_iter, reg_covar and three draws, as float64.
    Returns (posterior, perturbed, first scores, first control scores, rounds, converged, status).
    """
    control, _, values, moments = target
    n_cells = values.shape[1]
    posterior = np.zeros(n_cells)
    perturbed = np.ones(n_cells, dtype=np.bool_)
    nobody = np.zeros(n_cells, dtype=np.bool_)
    centres = standardisation(moments, control.shape[1], n_cells, options[0] != 0.0)
    first_control = np.empty(0)
    first_scores = np.full(n_cells, np.nan)
    n_rounds = int(options[2])
    for round_ in range(1, n_rounds + 1):
        control_scores, scores, length = project(target, perturbed, options[1], centres)
        if not length > 0.0:
            return np.zeros(n_cells), nobody, first_scores, first_control, round_, False, NO_DIRECTION
        control_scores /= length
        scores /= length
        if round_ == 1:
            first_control = control_scores
            first_scores = scores
        posterior, converged, status = _assign(control_scores, scores, perturbed, controls_before, options)
        if status != OK:
            return posterior, nobody, first_scores, first_control, round_, converged, status
        assigned = posterior > 0.5
        if np.array_equal(assigned, perturbed):
            return posterior, assigned, first_scores, first_control, round_, converged, OK
        perturbed = assigned
    return posterior, perturbed, first_scores, first_control, n_rounds, False, OK
