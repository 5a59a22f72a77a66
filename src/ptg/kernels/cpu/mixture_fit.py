"""Fit the Poisson-Normal mixture of one guide: EM from fixed starts, then Newton to stationarity.

Parameters are ``u = (log rate, mean, log std, logit of the Normal's weight)``. The data of a guide are a tuple:
distinct values ``y = log2(count)``, ``log Gamma(y + 1)``, multiplicities, number of cells, sum of y over the cells.
All that EM, gradient and Hessian need of them are moments of ``z = (y - mean) / std``: with ``r = P(Normal | y)``,
those of order 0 to 2 under the weights ``multiplicity * r`` (EM and gradient) and of order 0 to 4 under
``multiplicity * r * (1 - r)`` (Hessian).

The functions are in one file because numba does not notice when a compiled function of another file has changed.
"""

from __future__ import annotations

from math import exp, lgamma, log, log1p

import numpy as np

from ptg.kernels.cpu.threads import jit

# The open box of the estimate, in u: outside, the joint is unbounded or has spikes on single counts.
LOWER = np.array([log(1e-4), -5.0, log(0.05), log(1e-3 / (1.0 - 1e-3))])
UPPER = np.array([log(50.0), 20.0, log(50.0), log((1.0 - 1e-3) / 1e-3)])

STATIONARY, AT_BOUND, UNFINISHED = 0, 1, 2

HALF_LOG_2PI = 0.5 * log(2.0 * np.pi)
# The EM steps of a start before Newton takes over: with 3, 5 and 8 the search found the same maxima.
EM_STEPS = 5
# Guides with few distinct counts can have narrow maxima, and cost little: they are searched with more windows.
MANY_VALUES = 64
WINDOWS_OF_FEW, WINDOWS_OF_MANY = 8, 5
MAX_POINTS = 16


@jit
def mixture_moments(data, u, moments):  # type: ignore[no-untyped-def]
    """Fill `moments` (8,) as described above, in that order, and return the loss (minus the log joint)."""
    y, log_gamma, multiplicity, _, _ = data
    log_rate, mean, log_std, logit = u[0], u[1], u[2], u[3]
    inverse_std = exp(-log_std)
    log_normal = -log1p(exp(-logit))
    log_poisson = log_normal - logit
    normal_constant = log_normal - HALF_LOG_2PI - log_std
    poisson_constant = log_poisson - exp(log_rate)
    r0 = r1 = r2 = v0 = v1 = v2 = v3 = v4 = likelihood = 0.0
    for i in range(y.size):
        z = (y[i] - mean) * inverse_std
        poisson = poisson_constant + y[i] * log_rate - log_gamma[i]
        normal = normal_constant - 0.5 * z * z
        small = exp(-abs(normal - poisson))
        share = 1.0 / (1.0 + small)
        if normal > poisson:
            r = share
            likelihood += multiplicity[i] * (normal + log1p(small))
        else:
            r = small * share
            likelihood += multiplicity[i] * (poisson + log1p(small))
        weight = multiplicity[i] * r
        r0 += weight
        weight *= z
        r1 += weight
        r2 += weight * z
        weight = multiplicity[i] * small * share * share
        v0 += weight
        weight *= z
        v1 += weight
        weight *= z
        v2 += weight
        weight *= z
        v3 += weight
        v4 += weight * z
    moments[0], moments[1], moments[2] = r0, r1, r2
    moments[3], moments[4], moments[5], moments[6], moments[7] = v0, v1, v2, v3, v4
    prior = -0.1 * log_poisson - 0.9 * log_normal - 0.125 * (mean - 3.0) ** 2
    prior -= log_std + 0.5 * (log_std - 2.0) ** 2 + log_rate + 0.5 * log_rate**2
    return -(likelihood + prior)


@jit
def best_log_rate(n_poisson, sum_poisson):  # type: ignore[no-untyped-def]
    """Solve ``n_poisson * e^l + l = sum_poisson - 1`` for l: convex and rising, so Newton from the right is safe."""
    log_rate = max(log(max(sum_poisson, 1e-300) / max(n_poisson, 1e-300)), -1.0)
    for _ in range(60):
        rate = n_poisson * exp(log_rate)
        step = (rate + log_rate - sum_poisson + 1.0) / (rate + 1.0)
        log_rate -= step
        if abs(step) < 1e-12:
            break
    return log_rate


@jit
def best_log_std(n_normal, squares):  # type: ignore[no-untyped-def]
    """Solve ``squares * e^(-2s) - s = n_normal - 1`` for s: convex and falling, so Newton from the left is safe."""
    log_std = LOWER[2]
    if squares * exp(-2.0 * log_std) <= n_normal - 1.0 + log_std:
        return log_std  # the solution is outside the box
    log_std = max(min(0.5 * log(squares / (n_normal + 1.0)), 2.0), log_std)
    for _ in range(60):
        spread = squares * exp(-2.0 * log_std)
        step = (spread - log_std - n_normal + 1.0) / (2.0 * spread + 1.0)
        log_std += step
        if abs(step) < 1e-12:
            break
    return log_std


@jit
def em_step(data, u, moments, new):  # type: ignore[no-untyped-def]
    """Raise the expected joint given the responsibilities: rate and weight exactly, mean given std, std given mean.

    Parameters
    ----------
    u, moments
        Where the moments were taken, and the moments.
    new
        (4,) filled with the next parameters, in the closed box.
    """
    _, _, _, n, total = data
    mean, std = u[1], exp(u[2])
    n_normal = min(moments[0], n)
    sum_normal = mean * moments[0] + std * moments[1]
    new[0] = best_log_rate(n - n_normal, max(total - sum_normal, 0.0))
    precision = 1.0 / (std * std)
    new[1] = (sum_normal * precision + 0.75) / (n_normal * precision + 0.25)
    new[1] = min(max(new[1], LOWER[1]), UPPER[1])
    shift = (new[1] - mean) / std
    squares = max(moments[2] - 2.0 * shift * moments[1] + shift * shift * moments[0], 0.0) / precision
    new[2] = best_log_std(n_normal, squares)
    # Dirichlet(0.9, 0.1): a component that hardly any cell supports has no interior weight.
    normal, poisson = n_normal - 0.9, n - n_normal - 0.1
    if normal <= 0.0:
        new[3] = LOWER[3]
    elif poisson <= 0.0:
        new[3] = UPPER[3]
    else:
        new[3] = log(normal / poisson)
    for i in range(4):
        new[i] = min(max(new[i], LOWER[i]), UPPER[i])


@jit
def derivatives(data, u, moments, gradient, hessian):  # type: ignore[no-untyped-def]
    """Fill gradient (4,) and Hessian (4, 4) of the loss at u from the moments there."""
    _, _, _, n, total = data
    rate, mean, std = exp(u[0]), u[1], exp(u[2])
    weight = 1.0 / (1.0 + exp(-u[3]))
    r0, r1, r2, v0, v1, v2, v3, v4 = moments
    gradient[0] = rate * (n - r0) - (total - mean * r0 - std * r1) + 1.0 + u[0]
    gradient[1] = (mean - 3.0) / 4.0 - r1 / std
    gradient[2] = r0 - r2 + 1.0 + (u[2] - 2.0)
    gradient[3] = n * weight - r0 - 0.1 * weight + 0.9 * (1.0 - weight)
    gap = rate - mean  # rate - y = gap - std * z
    hessian[0, 0] = rate * (n - r0) - (gap * gap * v0 - 2.0 * gap * std * v1 + std * std * v2) + 1.0
    hessian[0, 1] = v2 - gap * v1 / std
    hessian[0, 2] = std * (v3 - v1) - gap * (v2 - v0)
    hessian[0, 3] = std * v1 - gap * v0
    hessian[1, 1] = (r0 - v2) / (std * std) + 0.25
    hessian[1, 2] = (2.0 * r1 - v3 + v1) / std
    hessian[1, 3] = -v1 / std
    hessian[2, 2] = 2.0 * r2 - (v4 - 2.0 * v2 + v0) + 1.0
    hessian[2, 3] = v0 - v2
    hessian[3, 3] = (n - 1.0) * weight * (1.0 - weight) - v0
    for i in range(4):
        for j in range(i):
            hessian[i, j] = hessian[j, i]


@jit
def solve_damped(hessian, gradient, damping, step):  # type: ignore[no-untyped-def]
    """Fill ``step = -(hessian + damping * I)^-1 gradient`` by Cholesky; False where that is not positive definite."""
    lower = np.zeros((4, 4))
    for i in range(4):
        for j in range(i + 1):
            value = hessian[i, j] + (damping if i == j else 0.0)
            for k in range(j):
                value -= lower[i, k] * lower[j, k]
            if i > j:
                lower[i, j] = value / lower[j, j]
            elif value > 1e-10:
                lower[i, i] = np.sqrt(value)
            else:
                return False
    for i in range(4):
        value = -gradient[i]
        for k in range(i):
            value -= lower[i, k] * step[k]
        step[i] = value / lower[i, i]
    for i in range(3, -1, -1):
        value = step[i]
        for k in range(i + 1, 4):
            value -= lower[k, i] * step[k]
        step[i] = value / lower[i, i]
    return True


@jit
def hold_bounds(u, gradient, hessian):  # type: ignore[no-untyped-def]
    """Take coordinates that descent would push out of the box out of the problem; say whether there are any."""
    at_bound = False
    for i in range(4):
        if (u[i] <= LOWER[i] and gradient[i] > 0.0) or (u[i] >= UPPER[i] and gradient[i] < 0.0):
            at_bound = True
            gradient[i] = 0.0
            hessian[i, :] = 0.0
            hessian[:, i] = 0.0
            hessian[i, i] = 1.0
    return at_bound


@jit
def clipped_sum(u, step, scale, out):  # type: ignore[no-untyped-def]
    """Fill ``out = u + scale * step``, kept in the closed box."""
    for i in range(4):
        out[i] = min(max(u[i] + scale * step[i], LOWER[i]), UPPER[i])


@jit
def polish(data, u, max_steps):  # type: ignore[no-untyped-def]
    """Move u downhill by damped Newton steps in the closed box, until the loss can fall no further.

    Returns (loss, steps, end): STATIONARY for an interior minimum of the loss, AT_BOUND for a minimum on the bounds,
    UNFINISHED when the steps were used up.
    """
    gradient, hessian, moments = np.zeros(4), np.zeros((4, 4)), np.zeros(8)
    step, trial = np.zeros(4), np.zeros(4)
    loss = mixture_moments(data, u, moments)
    damping, largest = 0.0, 1.0
    at_bound, moved = False, True
    n_steps = 0
    while n_steps < max_steps and damping < 1e12 * largest:
        if moved:
            derivatives(data, u, moments, gradient, hessian)
            at_bound = hold_bounds(u, gradient, hessian)
            largest = np.abs(hessian).max()
        if moved and solve_damped(hessian, gradient, 0.0, step):
            decrement = -(step * gradient).sum()
            if decrement < 1e-9 * (1.0 + abs(loss)):
                # What is left to gain drowns in the rounding of the loss: trust the full step.
                clipped_sum(u, step, 1.0, u)
                n_steps += 1
                loss = mixture_moments(data, u, moments)
                if decrement < 1e-13 * (1.0 + abs(loss)):
                    return loss, n_steps, AT_BOUND if at_bound else STATIONARY
                continue
        moved = False
        if solve_damped(hessian, gradient, damping, step):
            clipped_sum(u, step, min(1.0, 1.0 / np.abs(step).max()), trial)
            n_steps += 1
            trial_loss = mixture_moments(data, trial, moments)
            if trial_loss < loss:
                moved = True
                u[:] = trial
                loss = trial_loss
        if moved:
            damping = damping * 0.1 if damping > 1e-4 * largest else 0.0
        else:
            damping = max(4.0 * damping, 1e-3 * largest)
    return loss, n_steps, UNFINISHED


@jit
def window_edges(y):  # type: ignore[no-untyped-def]
    """Cut the range of y into equal windows; return the distinct positions where they begin, and the end."""
    n_windows = WINDOWS_OF_MANY if y.size > MANY_VALUES else WINDOWS_OF_FEW
    edges = np.empty(n_windows + 1, dtype=np.int64)
    n_edges = 0
    for k in range(n_windows):
        edge = np.searchsorted(y, y[0] + (y[-1] - y[0]) * k / n_windows)
        if n_edges == 0 or edge > edges[n_edges - 1]:
            edges[n_edges] = edge
            n_edges += 1
    edges[n_edges] = y.size
    return edges[: n_edges + 1]


@jit
def expectation_maximisation(data, window, limits, u):  # type: ignore[no-untyped-def]
    """Start with the values of one window given to the Normal; fill u; return the number of EM steps.

    Parameters
    ----------
    window
        (first, stop) of the values of the Normal; the Poisson has all others.
    limits
        (largest number of steps, change of every parameter at which to stop).
    """
    y, _, multiplicity, _, _ = data
    moments, new = np.zeros(8), np.zeros(4)
    for i in range(window[0], window[1]):
        moments[0] += multiplicity[i]
        moments[1] += multiplicity[i] * y[i]
        moments[2] += multiplicity[i] * y[i] * y[i]
    em_step(data, new, moments, u)
    n_steps = 0
    change = np.inf
    while n_steps < limits[0] and change > limits[1]:
        mixture_moments(data, u, moments)
        em_step(data, u, moments, new)
        change = np.abs(new - u).max()
        u[:] = new
        n_steps += 1
    return n_steps


@jit
def leads_to(u, loss, point, point_loss, hessian):  # type: ignore[no-untyped-def]
    """Whether u lies where the quadratic around a known stationary point describes the loss: Newton would go there."""
    rise = 0.0
    for i in range(4):
        if abs(u[i] - point[i]) > 0.5:
            return False
        for j in range(4):
            rise += 0.5 * (u[i] - point[i]) * hessian[i, j] * (u[j] - point[j])
    return abs(loss - point_loss - rise) < 0.2 * rise + 1e-9 * (1.0 + abs(loss))


@jit
def fit_guide(data, max_iter, tol, best):  # type: ignore[no-untyped-def]
    """Search the highest interior maximum with mean > rate; fill `best` (4,); return (loss, iterations, end)."""
    u, gradient, moments = np.empty(4), np.empty(4), np.empty(8)
    points, losses, hessians = np.empty((MAX_POINTS, 4)), np.empty(MAX_POINTS), np.empty((MAX_POINTS, 4, 4))
    n_points = 0
    best_loss, best_iterations, end_of_all = np.inf, 0, AT_BOUND
    edges = window_edges(data[0])
    for pair in range(edges.size * edges.size):
        window = (edges[pair % edges.size], edges[edges.size - 1 - pair // edges.size])
        if window[0] >= window[1]:
            continue
        n_steps = expectation_maximisation(data, window, (min(EM_STEPS, max_iter), tol), u)
        loss = mixture_moments(data, u, moments)
        known = False
        for k in range(n_points):
            known |= leads_to(u, loss, points[k], losses[k], hessians[k])
        if known:
            continue
        loss, n_newton, end = polish(data, u, max_iter - n_steps)
        if end == UNFINISHED:
            end_of_all = UNFINISHED
        elif end == STATIONARY and n_points < MAX_POINTS:
            mixture_moments(data, u, moments)
            points[n_points], losses[n_points] = u, loss
            derivatives(data, u, moments, gradient, hessians[n_points])
            n_points += 1
        if end == STATIONARY and u[1] > exp(u[0]) and loss < best_loss:
            best[:] = u
            best_loss, best_iterations = loss, n_steps + n_newton
    return best_loss, best_iterations, end_of_all if best_loss == np.inf else STATIONARY


@jit
def fit_guides(histograms, guides, max_iter, tol, out):  # type: ignore[no-untyped-def]
    """Fit guides `guides[0]` to `guides[1] - 1`, filling their part of (u, loss, iterations, end)."""
    values, multiplicities, offsets = histograms
    parameters, losses, iterations, ends = out
    for guide in range(guides[0], guides[1]):
        first, stop = offsets[guide], offsets[guide + 1]
        multiplicity = multiplicities[first:stop].astype(np.float64)
        if multiplicity.sum() < 2.0 or values[stop - 1] < 2:
            continue
        y = np.log2(values[first:stop].astype(np.float64))
        log_gamma = np.empty(y.size)
        for i in range(y.size):
            log_gamma[i] = lgamma(y[i] + 1.0)
        data = (y, log_gamma, multiplicity, multiplicity.sum(), (multiplicity * y).sum())
        losses[guide], iterations[guide], ends[guide] = fit_guide(data, max_iter, tol, parameters[guide])


@jit
def posterior_thresholds(parameters, max_counts, log_odds, thresholds):  # type: ignore[no-untyped-def]
    """Fill the smallest count 1, 2, ..., max whose log odds of the Normal exceed `log_odds`; leave the rest alone."""
    for guide in range(thresholds.size):
        rate, mean, std, weight = parameters[guide]
        if np.isnan(rate):
            continue
        constant = log(weight) - HALF_LOG_2PI - log(std) - log1p(-weight) + rate
        for count in range(1, max_counts[guide] + 1):
            y = np.log2(float(count))
            z = (y - mean) / std
            if constant - 0.5 * z * z - y * log(rate) + lgamma(y + 1.0) > log_odds:
                thresholds[guide] = count
                break
