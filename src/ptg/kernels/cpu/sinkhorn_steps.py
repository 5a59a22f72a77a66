"""What happens between two passes over the kernel matrix: the dual, the residual, and the next potential.

A pass at the potential g (of the columns) gives f = T(g), and with it the dual D(T(g), g), its gradient, which is how
far the column marginal is off, and Sinkhorn's next potential. D(T(.), .) is concave with its maximum at the fixed
point. Anderson's step is the combination of the last potentials whose residuals cancel best (least squares, weighted
by mass); the next pass tells its dual, and it is kept unless that is below what the plain step is known to reach.

A group paired with itself has ``f = g`` at the fixed point. Its plain step goes half way from g to T(g), which never
lowers the dual either, because this is concave and the same for (f, g) and (g, f). Where cells are far from each other
and the plan is hardly more than the identity, Sinkhorn's own step would leave ``f - g`` almost as it was.

Exponents, potentials and duals are in units of epsilon.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ptg.kernels.cpu.compilation import jit

if TYPE_CHECKING:
    from numpy.typing import NDArray

_DEPTH = 8
_RIDGE = 1e-10
"""Part of the squared norm of each change of residuals that is added to it: the least squares may be singular."""
_ROUNDING = 1e-12
"""Part of the sizes that make up a dual below which its differences mean nothing."""

CONTINUE, ABSORB, DONE = 0, 1, 2

# Places in `Iterate.numbers`.
_N_ITERATIONS, _N_CHANGES, _HAS_PREVIOUS, _HAS_FALLBACK, _BOUND = 0, 1, 2, 3, 4
DUAL, ERROR = 5, 6
N_ITERATIONS = _N_ITERATIONS


class Rules(NamedTuple):
    """How to iterate, and when to stop.

    Attributes
    ----------
    tol, max_iter, relaxation
        See the contract.
    absorb
        Sum of the largest logarithms of both scalings from which potentials are absorbed: entries of the kernel that
        underflowed are still negligible there.
    reach
        How far an accelerated potential may be from the absorbed one: no sum of a row underflows.
    is_symmetric
        Both sides have the same cells, but for a shift.
    """

    tol: float
    max_iter: int
    relaxation: float
    absorb: float
    reach: float
    is_symmetric: bool = False


class Iterate(NamedTuple):
    """The state of the iteration for n rows and m columns. All float64, but p and q, which have the kernel's type.

    Attributes
    ----------
    p, q
        (n,), (m,): potentials absorbed into the kernel.
    row_mass, column_mass
        (n,), (m,): a and b.
    potential
        (m,): of the columns; what is iterated.
    scaled
        (m,): ``b exp(potential - q)``, by which the kernel is multiplied.
    sums, column_sums
        (n,), (m,): what a pass found: ``K scaled`` and ``(a / sums) K``.
    residual
        (m,): what a plain step adds to the potential.
    previous
        (2, m): the potential before this one, and its residual.
    fallback
        (m,): the potential that a plain step would have made.
    changes
        (2, depth, m): differences of successive potentials, and of their residuals.
    gram
        (depth, depth): products of the differences of residuals.
    numbers
        Counts, flags, and the best dual with its marginal error.
    """

    p: NDArray[Any]
    q: NDArray[Any]
    row_mass: NDArray[np.float64]
    column_mass: NDArray[np.float64]
    potential: NDArray[np.float64]
    scaled: NDArray[np.float64]
    sums: NDArray[np.float64]
    column_sums: NDArray[np.float64]
    residual: NDArray[np.float64]
    previous: NDArray[np.float64]
    fallback: NDArray[np.float64]
    changes: NDArray[np.float64]
    gram: NDArray[np.float64]
    numbers: NDArray[np.float64]


# Loops instead of assignments of arrays: those take numba seconds to compile.
@jit
def set_all(target, value):  # type: ignore[no-untyped-def]
    """Fill a vector with a value."""
    for j in range(target.size):
        target[j] = value


@jit
def _copy(target, source):  # type: ignore[no-untyped-def]
    for j in range(target.size):
        target[j] = source[j]


@jit
def make_iterate(p, q, row_mass, column_mass):  # type: ignore[no-untyped-def]
    """Start at the absorbed potentials."""
    n, m = p.size, q.size
    potential, scaled = np.empty(m), np.empty(m)
    _copy(potential, q)
    _copy(scaled, column_mass)
    numbers = np.empty(7)
    set_all(numbers, 0.0)
    numbers[DUAL], numbers[ERROR] = -np.inf, 2.0
    return Iterate(
        p,
        q,
        row_mass,
        column_mass,
        potential,
        scaled,
        np.empty(n),
        np.empty(m),
        np.empty(m),
        np.empty((2, m)),
        np.empty(m),
        np.empty((2, _DEPTH, m)),
        np.empty((_DEPTH, _DEPTH)),
        numbers,
    )


@jit
def scale(iterate):  # type: ignore[no-untyped-def]
    """Set `scaled` from the potential."""
    for j in range(iterate.q.size):
        iterate.scaled[j] = iterate.column_mass[j] * np.exp(iterate.potential[j] - iterate.q[j])


@jit
def absorb(iterate):  # type: ignore[no-untyped-def]
    """Move the scalings into p and q; the kernel must be made anew, and passed over once more."""
    for i in range(iterate.p.size):
        iterate.p[i] -= np.log(iterate.sums[i])
    _copy(iterate.q, iterate.potential)
    scale(iterate)
    iterate.numbers[_HAS_FALLBACK] = 0.0  # its bound came from the entries of the old kernel


@jit
def step(iterate, rules):  # type: ignore[no-untyped-def]
    """Judge the potential after a pass over the kernel and set the next one; return what to do."""
    numbers = iterate.numbers
    dual, rounding, largest = _dual(iterate)
    numbers[_N_ITERATIONS] += 1.0
    is_last = numbers[_N_ITERATIONS] >= rules.max_iter
    # Judged before it is absorbed: entries that underflowed can only make its dual look larger than it is.
    if numbers[_HAS_FALLBACK] != 0.0 and not dual >= numbers[_BOUND] - rounding:
        _copy(iterate.potential, iterate.fallback)
        numbers[_HAS_FALLBACK] = numbers[_HAS_PREVIOUS] = numbers[_N_CHANGES] = 0.0
        scale(iterate)
        return DONE if is_last else CONTINUE
    if largest > rules.absorb:  # counts, so that it ends where exponents are too large for their type
        return DONE if is_last else ABSORB
    error = _residual(iterate, rules)
    if dual >= numbers[DUAL] or error <= rules.tol:
        numbers[DUAL], numbers[ERROR] = dual, error
    if error <= rules.tol or is_last:
        return DONE
    _advance(iterate, rules, dual)
    scale(iterate)
    return CONTINUE


@jit
def _dual(iterate):  # type: ignore[no-untyped-def]
    """Return the dual, what rounding may have done to it, and the largest logarithm that scalings reach together."""
    dual, size, largest_row, largest_column = 0.0, 0.0, -np.inf, -np.inf
    for i in range(iterate.p.size):
        logarithm = -np.log(iterate.sums[i])
        part = iterate.row_mass[i] * (iterate.p[i] + logarithm)
        dual += part
        size += abs(part)
        largest_row = max(largest_row, logarithm)
    for j in range(iterate.q.size):
        part = iterate.column_mass[j] * iterate.potential[j]
        dual += part
        size += abs(part)
        largest_column = max(largest_column, iterate.potential[j] - iterate.q[j])
    return dual, _ROUNDING * (1.0 + size), largest_row + largest_column


@jit
def _residual(iterate, rules):  # type: ignore[no-untyped-def]
    """Set the residual; return the marginal error of the columns, or how far f is from g if that is more."""
    error, difference = 0.0, 0.0
    for j in range(iterate.q.size):
        mass = iterate.scaled[j] * iterate.column_sums[j]
        error += abs(mass - iterate.column_mass[j])
        if rules.is_symmetric:
            iterate.residual[j] = 0.5 * (iterate.p[j] - np.log(iterate.sums[j]) - iterate.potential[j])
            difference += iterate.column_mass[j] * 2.0 * abs(iterate.residual[j])
        else:
            iterate.residual[j] = np.log(iterate.column_mass[j] / mass)
    return max(error, difference)


@jit
def _advance(iterate, rules, dual):  # type: ignore[no-untyped-def]
    """Set the next potential, the one to fall back to, and the dual that this would have at least."""
    numbers = iterate.numbers
    plain = min(rules.relaxation, 1.0)
    bound, lost = 0.0, 0.0
    for j in range(iterate.q.size):
        mass, residual = iterate.column_mass[j], iterate.residual[j]
        iterate.fallback[j] = iterate.potential[j] + plain * residual
        if not rules.is_symmetric:
            bound += mass * plain * residual
            lost += mass * (np.exp((plain - 1.0) * residual) - 1.0) if plain < 1.0 else 0.0
    numbers[_BOUND] = dual + bound - lost
    if numbers[_HAS_PREVIOUS] != 0.0:
        _remember(iterate)
    _copy(iterate.previous[0], iterate.potential)
    _copy(iterate.previous[1], iterate.residual)
    numbers[_HAS_PREVIOUS] = 1.0
    weights = _combination(iterate)
    is_plain = weights.size == 0 and rules.relaxation <= 1.0
    is_near = True
    for j in range(iterate.q.size):
        moved = iterate.potential[j] + rules.relaxation * iterate.residual[j]
        for k in range(weights.size):
            moved -= weights[k] * (iterate.changes[0, k, j] + rules.relaxation * iterate.changes[1, k, j])
        iterate.potential[j] = moved
        is_near = is_near and abs(moved - iterate.q[j]) <= rules.reach  # not if it is NaN
    if not is_near:
        _copy(iterate.potential, iterate.fallback)
    numbers[_HAS_FALLBACK] = 1.0 if is_near and not is_plain else 0.0


@jit
def _remember(iterate):  # type: ignore[no-untyped-def]
    """Add the last change of potential and residual, in the place of the oldest."""
    numbers, moves, changes = iterate.numbers, iterate.changes[0], iterate.changes[1]
    count = int(numbers[_N_CHANGES])
    numbers[_N_CHANGES] += 1.0
    slot = count % _DEPTH
    for j in range(iterate.q.size):
        moves[slot, j] = iterate.potential[j] - iterate.previous[0, j]
        changes[slot, j] = iterate.residual[j] - iterate.previous[1, j]
    for k in range(min(count + 1, _DEPTH)):
        product = _product(iterate.column_mass, changes[slot], changes[k])
        iterate.gram[slot, k] = iterate.gram[k, slot] = product


@jit
def _product(mass, x, y):  # type: ignore[no-untyped-def]
    total = 0.0
    for j in range(mass.size):
        total += mass[j] * x[j] * y[j]
    return total


@jit
def _combination(iterate):  # type: ignore[no-untyped-def]
    """Solve the least squares for the weights of the changes, by Cholesky's factors."""
    size = min(int(iterate.numbers[_N_CHANGES]), _DEPTH)
    weights = np.empty(size)
    factor = np.empty((size, size))
    for k in range(size):
        weights[k] = _product(iterate.column_mass, iterate.changes[1, k], iterate.residual)
        for i in range(k + 1):
            value = iterate.gram[k, i] * (1.0 + _RIDGE if i == k else 1.0)
            for h in range(i):
                value -= factor[k, h] * factor[i, h]
            if i < k:
                factor[k, i] = value / factor[i, i]
            else:
                factor[k, k] = np.sqrt(max(value, _RIDGE * iterate.gram[k, k]))
    for k in range(size):
        for h in range(k):
            weights[k] -= factor[k, h] * weights[h]
        weights[k] /= factor[k, k]
    for k in range(size - 1, -1, -1):
        for h in range(k + 1, size):
            weights[k] -= factor[h, k] * weights[h]
        weights[k] /= factor[k, k]
    return weights
