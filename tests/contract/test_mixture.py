"""Every backend's guide-count kernels against slow definitions."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import product

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import gammaln
from scipy.stats import lognorm, norm
from tests.support import BACKENDS, kernels

from ptg.kernels.contract.mixture import CountHistograms, FitStatus, MixtureFit
from ptg.kernels.cpu import mixture_fit

LOWER = np.array([np.log(1e-4), -5.0, np.log(0.05), np.log(1e-3 / (1 - 1e-3))])
UPPER = np.array([np.log(50.0), 20.0, np.log(50.0), -np.log(1e-3 / (1 - 1e-3))])


# ---------------------------------------------------------------- the mixture


@dataclass(frozen=True)
class Guide:
    """Distinct counts of one guide with their multiplicities, and its joint by definition."""

    values: np.ndarray
    multiplicities: np.ndarray

    @classmethod
    def of(cls, counts: np.ndarray) -> Guide:
        return cls(*np.unique(np.maximum(np.round(counts), 1).astype(np.int64), return_counts=True))

    def loss(self, u: np.ndarray) -> float:
        """Minus the log joint at u = (log rate, mean, log std, logit of the Normal's weight)."""
        rate, mean, std, weight = np.exp(u[0]), u[1], np.exp(u[2]), 1 / (1 + np.exp(-u[3]))
        y = np.log2(self.values)
        poisson = np.log(1 - weight) + y * np.log(rate) - rate - gammaln(y + 1)
        cells = self.multiplicities @ np.logaddexp(poisson, np.log(weight) + norm.logpdf(y, mean, std))
        prior = -0.1 * np.log(1 - weight) - 0.9 * np.log(weight)
        prior += norm.logpdf(mean, 3, 2) - norm.logpdf(3, 3, 2)
        for value, centre in ((std, 2.0), (rate, 0.0)):
            # without the constants -log(sqrt(2 pi)) of the two densities
            prior += lognorm.logpdf(value, 1, scale=np.exp(centre)) - norm.logpdf(0)
        return -(cells + prior)

    def gradient(self, u: np.ndarray, step: float = 1e-5) -> np.ndarray:
        shifts = step * np.eye(4)
        return np.array([(self.loss(u + shift) - self.loss(u - shift)) / (2 * step) for shift in shifts])

    def hessian(self, u: np.ndarray) -> np.ndarray:
        columns = [self.gradient(u + shift) - self.gradient(u - shift) for shift in 1e-3 * np.eye(4)]
        return np.array(columns) / 2e-3


def pack(guides: list[Guide]) -> CountHistograms:
    offsets = np.concatenate([[0], np.cumsum([guide.values.size for guide in guides])])
    values = np.concatenate([guide.values for guide in guides])
    return CountHistograms(values, np.concatenate([guide.multiplicities for guide in guides]), offsets)


def parameters(fit: MixtureFit, guide: int) -> np.ndarray:
    weight = fit.normal_weight[guide]
    return np.array(
        [np.log(fit.poisson_rate[guide]), fit.normal_mean[guide], np.log(fit.normal_std[guide]),
         np.log(weight) - np.log1p(-weight)]
    )  # fmt: skip


def random_guide(rng: np.random.Generator) -> Guide:
    """One of: background and signal, without background, high MOI, a handful of cells, spikes, three populations."""
    n = int(rng.integers(2, 40) if rng.random() < 0.3 else rng.integers(30, 1500))
    signal = 2 ** rng.normal(rng.uniform(2, 9), rng.uniform(0.3, 1.8), n)
    background = [rng.poisson(rng.uniform(0.02, 0.8), n) + 1, rng.geometric(rng.uniform(0.1, 0.9), n)]
    kind = rng.integers(0, 6)
    if kind < 3:
        counts = np.where(rng.random(n) < rng.uniform(0.02, 0.7), signal, background[kind % 2])
    elif kind == 3:
        counts = np.repeat(signal, rng.integers(1, 4, n))
    elif kind == 4:
        counts = np.concatenate([signal, np.repeat(rng.integers(1, 50, 3), rng.integers(1, 9, 3))])
    else:
        counts = 2 ** rng.normal(np.sort(rng.uniform(0, 10, 3))[rng.integers(0, 3, n)], rng.uniform(0.2, 1.2))
    return Guide.of(counts)


@cache
def random_guides() -> list[Guide]:
    rng = np.random.default_rng(8)
    guides = (random_guide(rng) for _ in range(10_000))
    return [next(guide for guide in guides if guide.values[-1] > 1) for _ in range(60)]


def test_a_fit_is_an_interior_maximum_of_the_joint_by_definition(mixture, bounds):
    guides = random_guides()
    fit = mixture.fit_mixture(pack(guides), max_iter=90, tol=1e-4, resources=bounds())
    fitted = np.flatnonzero(fit.status == FitStatus.FITTED)
    assert fitted.size >= 30
    for number in fitted:
        guide, u = guides[number], parameters(fit, number)
        n = guide.multiplicities.sum()
        assert fit.loss[number] == pytest.approx(guide.loss(u), rel=1e-12, abs=1e-11)
        assert np.abs(guide.gradient(u)).max() < 1e-5 * np.sqrt(n)
        assert np.linalg.eigvalsh(guide.hessian(u)).min() > 0
        assert (u > LOWER).all()
        assert (u < UPPER).all()
        assert fit.normal_mean[number] > fit.poisson_rate[number]
        assert fit.n_iterations[number] > 0


def brute_force(guide: Guide) -> float:
    """Lowest loss of an interior ordered stationary point, from a grid of starts; infinite where there is none."""
    data, moments, gradient, hessian = (
        mixture_fit.guide_data(guide.values, guide.multiplicities),
        np.zeros(8),
        np.zeros(4),
        np.zeros((4, 4)),
    )

    def loss_and_gradient(u: np.ndarray) -> tuple[float, np.ndarray]:  # both are held against the definition below
        loss = mixture_fit.mixture_moments(data, u, moments)
        mixture_fit.derivatives(data, u, moments, gradient, hessian)
        return loss, gradient.copy()

    best = np.inf
    bounds = list(zip(LOWER, UPPER, strict=True))
    for rate, mean, std, logit in product((0.3, 2.5), (2.0, 4.0, 6.0, 8.0), (0.5, 2.0), (-2.0, 1.0)):
        start = np.array([np.log(rate), mean, np.log(std), logit])
        end = minimize(loss_and_gradient, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 200})
        inside = (end.x > LOWER + 1e-3).all() and (end.x < UPPER - 1e-3).all()
        if inside and end.x[1] > np.exp(end.x[0]) and np.abs(loss_and_gradient(end.x)[1]).max() < 1e-2:
            best = min(best, end.fun)
    return best


def test_no_higher_maximum_is_found_by_brute_force(mixture, bounds):
    guides = random_guides()[:14]
    fit = mixture.fit_mixture(pack(guides), max_iter=90, tol=1e-4, resources=bounds())
    losses = np.where(fit.status == FitStatus.FITTED, fit.loss, np.inf)
    brute = np.array([brute_force(guide) for guide in guides])
    assert np.isfinite(brute).sum() >= 7
    assert (losses <= brute + 1e-6).all()


def test_a_signal_of_one_or_two_counts_is_found(mixture, bounds):
    """Narrow Normals end on the spikes of single counts; the maximum inside the box is a wide one."""
    spikes = [((1, 2, 37793), (2, 2, 8)), ((1, 485), (6, 2)), ((1, 2, 609), (5, 1, 2)), ((1, 49893), (4, 4))]
    guides = [Guide(np.array(values), np.array(cells)) for values, cells in spikes]
    fit = mixture.fit_mixture(pack(guides), max_iter=90, tol=1e-4, resources=bounds())
    assert (fit.status == FitStatus.FITTED).all()
    brute = [brute_force(guide) for guide in guides]
    assert np.isfinite(brute).all()
    assert (fit.loss <= np.array(brute) + 1e-6).all()


def test_guides_are_independent_of_each_other_and_of_threads(mixture, bounds):
    guides = random_guides()
    whole = mixture.fit_mixture(pack(guides), max_iter=90, tol=1e-4, resources=bounds())
    threads = mixture.fit_mixture(pack(guides), max_iter=90, tol=1e-4, resources=bounds(n_threads=3))
    order = np.random.default_rng(0).permutation(len(guides))
    permuted = mixture.fit_mixture(pack([guides[i] for i in order]), max_iter=90, tol=1e-4, resources=bounds())
    for name, field, same, shuffled in zip(MixtureFit._fields, whole, threads, permuted, strict=True):
        np.testing.assert_array_equal(field, same, err_msg=name)
        np.testing.assert_array_equal(field[order], shuffled, err_msg=name)


UNFITTED = {
    "no cell": (Guide(np.array([], dtype=np.int64), np.array([], dtype=np.int64)), FitStatus.TOO_FEW_CELLS),
    "one cell": (Guide.of(np.array([900])), FitStatus.TOO_FEW_CELLS),
    "only ones": (Guide.of(np.ones(50)), FitStatus.COUNTS_BELOW_TWO),
    "two cells": (Guide.of(np.array([1, 2])), FitStatus.NO_MAXIMUM),
    "one count for all": (Guide.of(np.full(100, 7)), FitStatus.NO_MAXIMUM),
}


def test_guides_that_are_not_fitted(mixture, bounds):
    guides = [guide for guide, _ in UNFITTED.values()]
    fit = mixture.fit_mixture(pack(guides), max_iter=90, tol=1e-4, resources=bounds())
    assert fit.status.tolist() == [status for _, status in UNFITTED.values()]
    for field in fit[:5]:
        assert np.isnan(field).all()
    assert not fit.n_iterations.any()
    assert mixture.fit_mixture(
        CountHistograms(np.zeros(0, int), np.zeros(0, int), np.zeros(1, int)),
        max_iter=90, tol=1e-4, resources=bounds(),
    ).loss.size == 0  # fmt: skip


def test_steps_used_up_is_reported(mixture, bounds):
    guides = random_guides()
    full = mixture.fit_mixture(pack(guides), max_iter=90, tol=1e-4, resources=bounds())
    short = mixture.fit_mixture(pack(guides), max_iter=1, tol=1e-4, resources=bounds())
    assert (short.status[full.status == FitStatus.FITTED] == FitStatus.NOT_CONVERGED).all()
    assert np.isnan(short.loss).all()


def test_tol_does_not_move_the_result(mixture, bounds):
    histograms = pack(random_guides())
    fits = [mixture.fit_mixture(histograms, max_iter=90, tol=tol, resources=bounds()) for tol in (0.0, 1e-4, 1.0)]
    for other in fits[1:]:
        np.testing.assert_allclose(other.loss, fits[0].loss, rtol=1e-9)


# ---------------------------------------------------------------- the steps of the CPU fit


def random_parameters(rng: np.random.Generator) -> np.ndarray:
    u = np.array([rng.normal(0, 1), rng.normal(4, 3), rng.normal(0, 1), rng.normal(-1, 2)])
    return np.clip(u, LOWER, UPPER)


def test_em_never_lowers_the_joint():
    rng = np.random.default_rng(2)
    for guide in random_guides():
        u, new, moments = random_parameters(rng), np.zeros(4), np.zeros(8)
        data = mixture_fit.guide_data(guide.values, guide.multiplicities)
        losses = []
        for _ in range(25):
            losses.append(mixture_fit.mixture_moments(data, u, moments))
            assert losses[-1] == pytest.approx(guide.loss(u), rel=1e-12)
            mixture_fit.em_step(data, u, moments, new)
            u = new.copy()
            # Logarithms of NumPy and of compiled code may differ in the last bit.
            assert (u >= LOWER - 1e-14 * np.abs(LOWER)).all()
            assert (u <= UPPER + 1e-14 * np.abs(UPPER)).all()
        assert np.diff(losses).max() <= 1e-12 * np.abs(losses).max()


def test_logarithms_and_exponentials_by_vector_instructions_are_right():
    """Shares that are far apart, nearly equal and equal: the loss is the definition's to the last digits."""
    rng = np.random.default_rng(7)
    for scale in (1e-6, 1.0, 30.0):
        guide = Guide.of(2.0 ** (rng.normal(3, 0.01 + scale / 10, 200)))
        data = mixture_fit.guide_data(guide.values, guide.multiplicities)
        for _ in range(50):
            u = random_parameters(rng)
            assert mixture_fit.mixture_moments(data, u, np.zeros(8)) == pytest.approx(guide.loss(u), rel=1e-13)
    x = np.concatenate([[0.0, 1.0, 1e-300, 1e-17], rng.random(1000), 10.0 ** -rng.uniform(0, 20, 1000)])
    out = np.zeros(len(x))
    mixture_fit.add_log1p(x, out)
    np.testing.assert_allclose(out, np.log1p(x), rtol=2 * np.finfo(float).eps)


def test_derivatives_by_differences():
    rng = np.random.default_rng(4)
    for guide in random_guides()[:20]:
        u, moments, gradient, hessian = random_parameters(rng) * 0.8, np.zeros(8), np.zeros(4), np.zeros((4, 4))
        data = mixture_fit.guide_data(guide.values, guide.multiplicities)
        loss = mixture_fit.mixture_moments(data, u, moments)
        mixture_fit.derivatives(data, u, moments, gradient, hessian)
        assert loss == pytest.approx(guide.loss(u), rel=1e-12)
        np.testing.assert_allclose(gradient, guide.gradient(u), rtol=1e-5, atol=1e-6 * np.abs(gradient).max())
        np.testing.assert_allclose(hessian, guide.hessian(u), rtol=1e-3, atol=1e-4 * np.abs(hessian).max())


# ---------------------------------------------------------------- thresholds and assignments


def slow_threshold(fit: MixtureFit, guide: int, largest: int, level: float) -> float:
    for count in range(1, largest + 1):
        y = np.log2(count)
        weight, rate = fit.normal_weight[guide], fit.poisson_rate[guide]
        normal = weight * norm.pdf(y, fit.normal_mean[guide], fit.normal_std[guide])
        poisson = (1 - weight) * np.exp(y * np.log(rate) - rate - gammaln(y + 1))
        if normal / (normal + poisson) > level:
            return float(count)
    return np.nan


@pytest.mark.parametrize("level", [0.05, 0.5, 0.645, 0.999])
def test_thresholds(mixture, bounds, level):
    histograms = pack([*random_guides()[:30], UNFITTED["one cell"][0]])
    fit = mixture.fit_mixture(histograms, max_iter=90, tol=1e-4, resources=bounds())
    largest = np.minimum(histograms.max_counts, 500)
    found = mixture.mixture_thresholds(fit, largest, posterior_threshold=level, resources=bounds())
    expected = [slow_threshold(fit, guide, largest[guide], level) for guide in range(len(largest))]
    np.testing.assert_array_equal(found, expected)
    assert found.dtype == np.float64


# ---------------------------------------------------------------- backends against the CPU


@pytest.mark.parametrize("other", BACKENDS[1:])
@pytest.mark.parametrize("max_iter", [90, 12])
def test_fits_and_thresholds_are_those_of_the_cpu(other, max_iter):
    histograms = pack([*random_guides(), *(guide for guide, _ in UNFITTED.values())])
    fits, thresholds = [], []
    for name in (other, "cpu"):
        run, resources = kernels(name)
        fits.append(run.mixture.fit_mixture(histograms, max_iter=max_iter, tol=1e-4, resources=resources))
        thresholds.append(
            [
                run.mixture.mixture_thresholds(
                    fits[-1], histograms.max_counts, posterior_threshold=level, resources=resources
                )
                for level in (0.05, 0.5, 0.9)
            ]
        )
    np.testing.assert_array_equal(fits[0].status, fits[1].status)
    np.testing.assert_array_equal(*thresholds)
    for found, expected in zip(fits[0][:5], fits[1][:5], strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-10)


def test_ten_runs_give_the_same_bits(mixture, bounds):
    histograms = pack(random_guides()[:20])
    first, *others = (mixture.fit_mixture(histograms, max_iter=90, tol=1e-4, resources=bounds()) for _ in range(10))
    for other in others:
        for field, same in zip(first, other, strict=True):
            np.testing.assert_array_equal(field, same)
