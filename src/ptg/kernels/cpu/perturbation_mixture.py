"""The mixture of one target: k-means weights, EM with a fixed first component, rounds of assignment."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ptg.kernels.contract.projection import (
    CONTROL_CONSTANT,
    FEW_PERTURBED,
    ILL_DEFINED,
    NO_DIRECTION,
    OK,
    PERTURBED_CONSTANT,
    MixtureRule,
)
from ptg.kernels.cpu.compilation import jit
from ptg.kernels.cpu.perturbation_scores import Target, project, sample_moments, standardisation

if TYPE_CHECKING:
    from numpy.typing import NDArray

_LOG_2PI = math.log(2.0 * math.pi)
_SHARE_FLOOR = 10 * float(np.finfo(np.float64).eps)
"""Added to a component's number of cells, as scikit-learn does, so that an empty one divides nothing by zero."""
_CHUNK = 512
"""Factors of the likelihood multiplied before a logarithm is taken: each is in [1, 2], so no overflow."""
_LLOYD_STEPS = 300
_LLOYD_TOLERANCE = 1e-4
"""Squared shift of the centres, relative to the variance, at which Lloyd's steps end; scikit-learn's default."""


def _two_centres(x: NDArray[Any], draws: tuple[float, float, float]) -> tuple[float, float]:
    """k-means++ for two clusters: the first centre uniform, the second the better of two draws by squared distance."""
    first = x[min(int(draws[0] * x.size), x.size - 1)]
    squares = (x - first) ** 2
    running = np.cumsum(squares)
    drawn = np.searchsorted(running, np.array(draws[1:]) * squares.sum())
    candidates = x[np.minimum(drawn, x.size - 1)]
    inertia = [np.minimum(squares, (x - candidate) ** 2).sum() for candidate in candidates]
    return float(first), float(candidates[int(np.argmin(inertia))])


@jit
def _split(x: Any, middle: float, mean: float) -> Any:
    """Count the cells above the middle; the sums of ``x - mean`` above and below it. Without branches, for speed."""
    n_upper = 0
    upper = 0.0
    total = 0.0
    for i in range(x.size):
        is_upper = x[i] > middle
        away = x[i] - mean
        n_upper += is_upper
        upper += away * is_upper
        total += away
    return n_upper, upper, total - upper


def cluster_share(x: NDArray[Any], draws: tuple[float, float, float]) -> float:
    """Share of cells in the first of two clusters of k-means (Lloyd)."""
    mean, variance = float(x.mean()), float(x.var())
    first, second = _two_centres(x, draws)
    low, high = min(first, second), max(first, second)
    first_is_high = first > second
    n_upper, n_before, settled = 0, -1, False
    for _ in range(_LLOYD_STEPS):
        middle = 0.5 * (low + high)
        # The first centre wins ties, whichever side it is on.
        n_upper, upper, lower = _split(x, np.nextafter(middle, -np.inf) if first_is_high else middle, mean)
        # Clusters of numbers are intervals: the same number of cells is the same clusters.
        if settled or n_upper in (n_before, 0, x.size):
            break
        upper, lower = mean + upper / n_upper, mean + lower / (x.size - n_upper)
        settled = (upper - high) ** 2 + (lower - low) ** 2 <= variance * _LLOYD_TOLERANCE
        low, high, n_before = lower, upper, n_upper
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


class Classes(NamedTuple):
    """Classes of one target; the scores are those of the first round, without a direction NaN and none."""

    posterior: NDArray[Any]
    perturbed: NDArray[Any]
    scores: NDArray[Any]
    n_rounds: int
    converged: bool
    status: int
    control_scores: NDArray[Any]


def classify(target: Target, controls_before: NDArray[Any], rule: MixtureRule, *, scale: bool, clip: float) -> Classes:
    """Separate perturbed from unperturbed cells of one target, round by round."""
    n_cells = target.values.shape[1]
    posterior, perturbed = np.zeros(n_cells), np.ones(n_cells, dtype=bool)
    nobody = np.zeros(n_cells, dtype=bool)
    first = (np.empty(0), np.full(n_cells, np.nan))
    centres = standardisation(target, scale=scale)
    for round_ in range(1, rule.n_rounds + 1):
        projected = project(target, perturbed, centres, clip)
        if projected is None:
            return Classes(np.zeros(n_cells), nobody, first[1], round_, False, NO_DIRECTION, first[0])
        if round_ == 1:
            first = projected
        posterior, converged, status = _assign(*projected, perturbed, controls_before, rule)
        if status != OK:
            return Classes(posterior, nobody, first[1], round_, converged, status, first[0])
        assigned = posterior > 0.5
        if np.array_equal(assigned, perturbed):
            return Classes(posterior, assigned, first[1], round_, converged, OK, first[0])
        perturbed = assigned
    return Classes(posterior, perturbed, first[1], rule.n_rounds, False, OK, first[0])


def _assign(
    control_scores: NDArray[Any],
    scores: NDArray[Any],
    perturbed: NDArray[Any],
    controls_before: NDArray[Any],
    rule: MixtureRule,
) -> tuple[NDArray[Any], bool, int]:
    """Fit the mixture of one round: posterior, whether EM converged, status."""
    mixture = np.empty(6)
    mixture[2:4] = sample_moments(control_scores)
    mixture[4:6] = sample_moments(scores[perturbed])
    if not mixture[3] > 0.0:
        return np.zeros(len(scores)), False, CONTROL_CONSTANT
    if not mixture[5] > 0.0:
        return np.zeros(len(scores)), False, PERTURBED_CONSTANT
    x = np.insert(control_scores, controls_before, scores)
    share = cluster_share(x, rule.draws)
    mixture[:2] = np.array([share, 1.0 - share]) + _SHARE_FLOOR / x.size
    converged = bool(fit_mixture(x, mixture, rule.tol, rule.max_iter, rule.reg_covar))
    if not mixture[5] > 0.0:
        return np.zeros(len(scores)), False, ILL_DEFINED
    posterior = _posterior(scores, mixture, weighted=rule.weighted)
    few = np.count_nonzero(posterior > 0.5) < rule.min_perturbed
    return posterior, converged, FEW_PERTURBED if few else OK


def _posterior(scores: NDArray[Any], mixture: NDArray[Any], *, weighted: bool) -> NDArray[Any]:
    """Probability of the second component."""
    weight0, weight1, mean0, variance0, mean1, variance1 = mixture
    odds = 0.5 * np.log(variance1 / variance0)
    if weighted:
        odds += np.log(weight0 / weight1)
    odds = odds + 0.5 * ((scores - mean1) ** 2 / variance1 - (scores - mean0) ** 2 / variance0)
    # The exponential never overflows: the larger side is in the denominator.
    smaller = np.exp(-np.abs(odds))
    return np.asarray(np.where(odds > 0, smaller, 1.0) / (1.0 + smaller))
