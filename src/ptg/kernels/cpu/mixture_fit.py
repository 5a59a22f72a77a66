"""Fit the Poisson-Normal mixture of one guide: EM from fixed starts, then Newton to stationarity.

Parameters are ``u = (log rate, mean, log std, logit of the Normal's weight)``. The data of a guide are a tuple:
distinct values ``y = log2(count)``, ``log Gamma(y + 1)``, multiplicities, number of cells, sum of y over the cells,
and scratch.
All that EM, gradient and Hessian need of them are moments of ``z = (y - mean) / std``: with ``r = P(Normal | y)``,
those of order 0 to 2 under the weights ``multiplicity * r`` (EM and gradient) and of order 0 to 4 under
``multiplicity * r * (1 - r)`` (Hessian).

The functions are written with loops because array expressions take numba seconds to compile.
"""

from __future__ import annotations

from math import exp, lgamma, log, log1p

import numpy as np

from ptg.kernels.cpu.compilation import jit
from ptg.kernels.cpu.exponential import exponentials64

# The open box of the estimate, in u: outside, the joint is unbounded or has spikes on single counts.
LOWER = np.array([log(1e-4), -5.0, log(0.05), log(1e-3 / (1.0 - 1e-3))])
UPPER = np.array([log(50.0), 20.0, log(50.0), log((1.0 - 1e-3) / 1e-3)])

STATIONARY, AT_BOUND, UNFINISHED = 0, 1, 2

HALF_LOG_2PI = 0.5 * log(2.0 * np.pi)
# The EM steps of a start before Newton takes over: with 3, 5 and 8 the search found the same maxima.
EM_STEPS = 5
# Parts that the range of y is cut into for the starts. Few distinct counts can have narrow maxima, and cost little.
MANY_VALUES, PARTS_OF_FEW, PARTS_OF_MANY = 40, 8, 6
# Up to this many distinct counts, narrow Normals end on the spikes of single counts. They get starts with this log std.
FEW_VALUES, WIDE = 7, 1.5
MAX_POINTS = 16


@jit
def add_log1p(x, out):  # type: ignore[no-untyped-def]
    """Add log(1 + x) of values from 0 to 1, as 2 artanh(x / (2 + x)): the series of s = 1/3 needs 16 terms."""
    for i in range(x.size):
        s = x[i] / (2.0 + x[i])
        q = s * s
        series = q * (1.0 / 33.0) + 1.0 / 31.0
        series = series * q + 1.0 / 29.0
        series = series * q + 1.0 / 27.0
        series = series * q + 1.0 / 25.0
        series = series * q + 1.0 / 23.0
        series = series * q + 1.0 / 21.0
        series = series * q + 1.0 / 19.0
        series = series * q + 1.0 / 17.0
        series = series * q + 1.0 / 15.0
        series = series * q + 1.0 / 13.0
        series = series * q + 1.0 / 11.0
        series = series * q + 1.0 / 9.0
        series = series * q + 1.0 / 7.0
        series = series * q + 1.0 / 5.0
        series = series * q + 1.0 / 3.0
        out[i] += 2.0 * s * (series * q + 1.0)


@jit
def mixture_moments(data, u, moments):  # type: ignore[no-untyped-def]
    """Fill `moments` (8,) as described above, in that order, and return the loss (minus the log joint)."""
    y, log_gamma, multiplicity, _, _, (rows, bits, powers) = data
    z, gap, small, higher = rows[0], rows[1], rows[2], rows[3]
    log_rate, mean, log_std, logit = u[0], u[1], u[2], u[3]
    inverse_std = exp(-log_std)
    log_normal = -log1p(exp(-logit))
    log_poisson = log_normal - logit
    normal_constant = log_normal - HALF_LOG_2PI - log_std
    poisson_constant = log_poisson - exp(log_rate)
    # Loops that vector instructions serve, and one of sums, which they do not.
    for i in range(y.size):
        z[i] = (y[i] - mean) * inverse_std
        poisson = poisson_constant + y[i] * log_rate - log_gamma[i]
        normal = normal_constant - 0.5 * z[i] * z[i]
        gap[i] = normal - poisson
        higher[i] = max(normal, poisson)
        small[i] = -abs(gap[i])
    exponentials64(small, bits, powers)
    add_log1p(small, higher)
    r0 = r1 = r2 = v0 = v1 = v2 = v3 = v4 = likelihood = 0.0
    for i in range(y.size):
        likelihood += multiplicity[i] * higher[i]
        share = 1.0 / (1.0 + small[i])
        of_lower = small[i] * share
        weight = multiplicity[i] * (share if gap[i] > 0.0 else of_lower)
        r0 += weight
        weight *= z[i]
        r1 += weight
        r2 += weight * z[i]
        weight = multiplicity[i] * of_lower * share
        v0 += weight
        weight *= z[i]
        v1 += weight
        weight *= z[i]
        v2 += weight
        weight *= z[i]
        v3 += weight
        v4 += weight * z[i]
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
    _, _, _, n, total, _ = data
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
    _, _, _, n, total, _ = data
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
def largest_size(values):  # type: ignore[no-untyped-def]
    """Return the largest absolute value of an array."""
    largest = 0.0
    for value in values.flat:
        largest = max(largest, abs(value))
    return largest


@jit
def hold_bounds(u, gradient, hessian):  # type: ignore[no-untyped-def]
    """Take coordinates that descent would push out of the box out of the problem; say whether there are any."""
    at_bound = False
    for i in range(4):
        if (u[i] <= LOWER[i] and gradient[i] > 0.0) or (u[i] >= UPPER[i] and gradient[i] < 0.0):
            at_bound = True
            gradient[i] = 0.0
            for j in range(4):
                hessian[i, j] = hessian[j, i] = 1.0 if i == j else 0.0
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
            largest = largest_size(hessian)
        if moved and solve_damped(hessian, gradient, 0.0, step):
            decrement = 0.0
            for i in range(4):
                decrement -= step[i] * gradient[i]
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
            clipped_sum(u, step, min(1.0, 1.0 / largest_size(step)), trial)
            n_steps += 1
            trial_loss = mixture_moments(data, trial, moments)
            if trial_loss < loss:
                moved = True
                loss = trial_loss
                clipped_sum(trial, step, 0.0, u)
        if moved:
            damping = damping * 0.1 if damping > 1e-4 * largest else 0.0
        else:
            damping = max(4.0 * damping, 1e-3 * largest)
    return loss, n_steps, UNFINISHED


@jit
def window_edges(y):  # type: ignore[no-untyped-def]
    """Cut the range of y into equal parts; return the distinct positions where they begin, and the end."""
    n_parts = PARTS_OF_MANY if y.size > MANY_VALUES else PARTS_OF_FEW
    edges = np.empty(n_parts + 1, dtype=np.int64)
    n_edges = 0
    edge = 0
    for k in range(n_parts):
        while y[edge] < y[0] + (y[-1] - y[0]) * k / n_parts:
            edge += 1
        if n_edges == 0 or edge > edges[n_edges - 1]:
            edges[n_edges] = edge
            n_edges += 1
    edges[n_edges] = y.size
    return edges[: n_edges + 1]


@jit
def window_start(data, window, u):  # type: ignore[no-untyped-def]
    """Set u to where EM goes when the values of one window, (first, stop), belong to the Normal and the rest do not."""
    y, _, multiplicity, _, _, _ = data
    moments, origin = np.zeros(8), np.zeros(4)
    for i in range(window[0], window[1]):
        moments[0] += multiplicity[i]
        moments[1] += multiplicity[i] * y[i]
        moments[2] += multiplicity[i] * y[i] * y[i]
    em_step(data, origin, moments, u)


@jit
def leads_to_known(u, loss, known):  # type: ignore[no-untyped-def]
    """Whether u lies where the quadratic around a stationary point in `known` describes the loss: Newton goes there."""
    points, losses, hessians, n_points = known
    for k in range(n_points[0]):
        rise = distance = 0.0
        for i in range(4):
            distance = max(distance, abs(u[i] - points[k, i]))
            for j in range(4):
                rise += 0.5 * (u[i] - points[k, i]) * hessians[k, i, j] * (u[j] - points[k, j])
        if distance < 0.5 and abs(loss - losses[k] - rise) < 0.2 * rise + 1e-9 * (1.0 + abs(loss)):
            return True
    return False


@jit
def expectation_maximisation(data, u, limits, known):  # type: ignore[no-untyped-def]
    """Take EM steps from u, at most `limits[0]` and until no parameter changes by more than `limits[1]`.

    Returns the number of steps, or -1 as soon as the way leads to a point in `known`.
    """
    moments, new = np.zeros(8), np.zeros(4)
    change = np.inf
    for n_steps in range(limits[0] + 1):
        loss = mixture_moments(data, u, moments)
        if leads_to_known(u, loss, known):
            return -1
        if change <= limits[1] or n_steps == limits[0]:
            break
        em_step(data, u, moments, new)
        change = 0.0
        for i in range(4):
            change = max(change, abs(new[i] - u[i]))
            u[i] = new[i]
    return n_steps


@jit
def remember(data, u, loss, known):  # type: ignore[no-untyped-def]
    """Add a stationary point to `known` while there is room."""
    points, losses, hessians, n_points = known
    if n_points[0] == MAX_POINTS:
        return
    gradient, moments = np.empty(4), np.empty(8)
    mixture_moments(data, u, moments)
    derivatives(data, u, moments, gradient, hessians[n_points[0]])
    losses[n_points[0]] = loss
    for i in range(4):
        points[n_points[0], i] = u[i]
    n_points[0] += 1


@jit
def fit_guide(data, max_iter, tol, best):  # type: ignore[no-untyped-def]
    """Search the highest interior maximum with mean > rate; fill `best` (4,); return (loss, iterations, end)."""
    u = np.empty(4)
    known = np.empty((MAX_POINTS, 4)), np.empty(MAX_POINTS), np.empty((MAX_POINTS, 4, 4)), np.zeros(1, dtype=np.int64)
    best_loss, best_iterations, end_of_all = np.inf, 0, AT_BOUND
    edges = window_edges(data[0])
    last = edges.size - 1
    n_windows, n_wide = last * last, last if data[0].size <= FEW_VALUES else 0
    for start in range(n_windows + n_wide):
        is_wide = start >= n_windows
        pair = start - n_windows if is_wide else start
        first, stop = pair % last, last - pair // last
        if first >= stop or (first == 0 and stop < last and data[0].size > MANY_VALUES):
            continue  # empty, or low counts for the Normal, which leads out of the box where there are many
        window_start(data, (edges[first], edges[stop]), u)
        if is_wide:
            u[2] = WIDE
        n_steps = expectation_maximisation(data, u, (min(EM_STEPS, max_iter), tol), known)
        if n_steps < 0:
            continue
        loss, n_newton, end = polish(data, u, max_iter - n_steps)
        if end == UNFINISHED:
            end_of_all = UNFINISHED
        if end != STATIONARY:
            continue
        remember(data, u, loss, known)
        if u[1] > exp(u[0]) and loss < best_loss:
            best_loss, best_iterations = loss, n_steps + n_newton
            for i in range(4):
                best[i] = u[i]
    return best_loss, best_iterations, end_of_all if best_loss == np.inf else STATIONARY


@jit
def guide_data(values, multiplicities):  # type: ignore[no-untyped-def]
    """Return the data of a guide, as described above, from its distinct counts and their multiplicities."""
    # One block: compiled loops look how far apart their arrays are, and must find the same for the same guide.
    block = np.empty((8, values.size))
    y, log_gamma, multiplicity, powers = block[0], block[1], block[2], block[3]
    n = total = 0.0
    for i in range(values.size):
        y[i] = np.log2(float(values[i]))
        log_gamma[i] = lgamma(y[i] + 1.0)
        multiplicity[i] = multiplicities[i]
        n += multiplicity[i]
        total += multiplicity[i] * y[i]
    return y, log_gamma, multiplicity, n, total, (block[4:], powers.view(np.int64), powers)


@jit
def fit_guides(histograms, guides, max_iter, tol, out):  # type: ignore[no-untyped-def]
    """Fit guides `guides[0]` to `guides[1] - 1`, filling their part of (parameters, loss, iterations, end).

    The parameters are rate, mean, std and weight. They are taken from u here because NumPy's exponentials of a column
    may differ in the last bit with the memory that the result happens to get (before NumPy 2).
    """
    values, multiplicities, offsets = histograms
    parameters, losses, iterations, ends = out
    for guide in range(guides[0], guides[1]):
        part = slice(offsets[guide], offsets[guide + 1])
        data = guide_data(values[part], multiplicities[part])
        n, total = data[3], data[4]
        if n < 2.0 or total == 0.0:
            continue
        best = parameters[guide]
        losses[guide], iterations[guide], ends[guide] = fit_guide(data, max_iter, tol, best)
        best[0], best[2], best[3] = exp(best[0]), exp(best[2]), 1.0 / (1.0 + exp(-best[3]))
