"""Negative binomial fits and likelihoods, on a CPU: see `ptg.kernels.contract.negative_binomial`.

What a group needs is how many of its cells have each count of a column: the fit, and its likelihood of another group,
which is the product of a table of log-probabilities and that group's shares.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp

from ptg.kernels.contract.negative_binomial import LogLikelihoods
from ptg.kernels.cpu.compilation import jit
from ptg.kernels.cpu.threads import run_tasks

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ptg.kernels.contract.resources import Resources

_COLUMNS = 64
"""Columns whose tables are in memory at once."""

_PAIRS_PER_TASK = 512
_MAX_STEPS = 100
_TOLERANCE = 1e-13
"""Of the logarithm of the size."""

_LARGEST_MEAN_OF_UNEXPRESSED = 10.0


def log_likelihoods(
    counts: NDArray[Any] | sp.csr_matrix[Any],
    offsets: NDArray[Any],
    left: NDArray[Any],
    right: NDArray[Any],
    *,
    weights: NDArray[Any] | None = None,
    resources: Resources,
) -> LogLikelihoods:
    """Fit the left group of every pair and take the log-likelihood of the right one: see the contract."""
    offsets, left, right = (np.asarray(numbers, dtype=np.int64) for numbers in (offsets, left, right))
    group_of = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    weight = np.ones(len(group_of)) if weights is None else np.asarray(weights, dtype=np.float64)
    sizes = np.bincount(group_of, weights=weight, minlength=len(offsets) - 1)
    columns: Any = sp.csc_matrix(counts) if sp.issparse(counts) else counts
    found = LogLikelihoods(np.zeros(len(left)), np.zeros(len(left), np.int64))
    tasks = [slice(start, start + _PAIRS_PER_TASK) for start in range(0, len(left), _PAIRS_PER_TASK)]

    def tables_of(column: int) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        rows, values = _nonzero(columns, column)
        distinct, which = np.unique(values, return_inverse=True)
        shares = np.zeros((len(sizes), len(distinct) + 1))
        np.add.at(shares, (group_of[rows], which + 1), weight[rows])
        shares[:, 0] = sizes - shares[:, 1:].sum(axis=1)
        shares /= sizes[:, None]
        distinct = np.append(0, distinct)
        log_p = np.empty(shares.shape)
        means = shares @ distinct
        _fill_log_p(shares, sizes, means, distinct, log_p)
        return shares, log_p, means

    for start in range(0, counts.shape[1], _COLUMNS):
        tables = run_tasks(tables_of, range(start, min(start + _COLUMNS, counts.shape[1])), resources)

        def add(pairs: slice, tables: list[Any] = tables) -> None:
            for table in tables:
                _add(table, (left[pairs], right[pairs]), found.sums[pairs], found.n_columns[pairs])

        run_tasks(add, tasks, resources)
    return found


def _nonzero(columns: Any, column: int) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Return the rows with a count above 0 in a column, and the counts."""
    if not isinstance(columns, np.ndarray):
        entries = slice(columns.indptr[column], columns.indptr[column + 1])
        rows, values = columns.indices[entries], columns.data[entries]
    else:
        values = columns[:, column]
        rows = np.arange(len(values))
    counted = values > 0
    return rows[counted], values[counted].astype(np.int64)


@jit
def _fill_log_p(shares, sizes, means, distinct, log_p):  # type: ignore[no-untyped-def]
    """Fill ``log_p[g, v]`` with the log-probability of ``distinct[v]`` in the fit of group `g`, NaN without a fit."""
    log_factorial = np.array([math.lgamma(value + 1.0) for value in distinct])
    for group in range(shares.shape[0]):
        mean = means[group]
        size = _size(shares[group], sizes[group], distinct)
        if np.isnan(size):
            log_p[group] = np.nan
            continue
        rising, k = 0.0, 0
        for v in range(distinct.size):
            while k < distinct[v]:
                rising += math.log1p((k - mean) / (size + mean))
                k += 1
            log_p[group, v] = rising - size * math.log1p(mean / size) + distinct[v] * math.log(mean) - log_factorial[v]


@jit
def _size(shares, n, distinct):  # type: ignore[no-untyped-def]
    """Maximum-likelihood size from the shares of the counts among `n` cells; NaN where it is infinite."""
    total, squares = 0.0, 0.0
    for v in range(distinct.size):
        n_v = np.round(shares[v] * n)  # whole numbers: the comparison of variance and mean is exact
        total += n_v * distinct[v]
        squares += n_v * float(distinct[v]) * distinct[v]
    if n * squares - total * total <= n * total:
        return np.nan
    mean = total / n
    log_size = math.log(total * total / (n * squares - total * total - n * total))
    lower, upper = -np.inf, np.inf
    for _ in range(_MAX_STEPS):
        size = math.exp(log_size)
        score, slope = _score(shares, distinct, mean, size)
        if score > 0:
            lower = log_size
        else:
            upper = log_size
        new = log_size - score / slope
        if not (lower < new < upper and abs(new - log_size) < 1.0):
            # Outside the bracket or far: halve the bracket, or look for its other end.
            new = (lower + upper) / 2 if lower > -np.inf and upper < np.inf else log_size + math.copysign(1.0, score)
        if abs(new - log_size) < _TOLERANCE * max(1.0, abs(new)):
            return math.exp(new)
        log_size = new
    return math.exp(log_size)


@jit
def _score(shares, distinct, mean, size):  # type: ignore[no-untyped-def]
    """Derive the mean log-likelihood by the size, and that by the logarithm of the size."""
    score = -math.log1p(mean / size)
    slope = mean / (size + mean)
    above, k = 1.0, 0
    for v in range(distinct.size):
        # `above` is the share of counts of at least distinct[v].
        while k < distinct[v]:
            inverse = 1.0 / (size + k)
            score += above * inverse
            slope -= above * size * inverse * inverse
            k += 1
        above -= shares[v]
    return score, slope


@jit
def _add(table, pairs, sums, n_columns):  # type: ignore[no-untyped-def]
    """Add a column to the pairs where it counts."""
    (shares, log_p, means), (left, right) = table, pairs
    for pair in range(left.size):
        x, y = left[pair], right[pair]
        if means[x] == 0.0:
            n_columns[pair] += means[y] < _LARGEST_MEAN_OF_UNEXPRESSED
        elif not np.isnan(log_p[x, 0]):
            total = 0.0
            for v in range(shares.shape[1]):
                total += shares[y, v] * log_p[x, v]
            sums[pair] += total
            n_columns[pair] += 1
