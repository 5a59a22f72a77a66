"""Distances in units of a group's covariance, on GPUs: see `ptg.kernels.contract.covariance`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cupy as cp
import numpy as np

from ptg.kernels.contract.covariance import CONSTANT, ROWS_AT_ONCE, SINGULAR
from ptg.kernels.cuda.devices import in_blocks
from ptg.kernels.cuda.matrices import bring
from ptg.kernels.cuda.memory import reports_memory
from ptg.kernels.cuda.transfer import to_device

if TYPE_CHECKING:
    import scipy.sparse as sp
    from numpy.typing import NDArray

    from ptg.kernels.contract.resources import Resources


@reports_memory
def mahalanobis(
    cells: NDArray[Any] | sp.csr_matrix[Any],
    offsets: NDArray[Any],
    profiles: NDArray[Any],
    left: NDArray[Any],
    right: NDArray[Any],
    *,
    weights: NDArray[Any] | None = None,
    resources: Resources,
) -> NDArray[np.float64]:
    """Compute the distance of two profiles in units of the left group's covariance: see the contract."""
    offsets, left, right = (cp.asnumpy(numbers) for numbers in (offsets, left, right))
    weight = np.ones(cells.shape[0]) if weights is None else cp.asnumpy(weights).astype(np.float64)
    distances = np.full(len(left), np.nan)
    groups, group_of = np.unique(left, return_inverse=True)
    pairs_of = np.split(np.argsort(group_of, kind="stable"), np.cumsum(np.bincount(group_of))[:-1])

    def compute(first: int, stop: int) -> None:
        there, vectors = bring(cells, resources), to_device(profiles, resources)
        for number in range(first, stop):
            group, pairs = int(groups[number]), pairs_of[number]
            rows = slice(int(offsets[group]), int(offsets[group + 1]))
            covariance = _covariance(there, rows, weight[rows])
            if covariance is not None:
                differences = vectors[cp.asarray(right[pairs])] - vectors[group]
                distances[pairs] = _lengths(differences, covariance)

    share = max(1, -(-len(groups) // len(resources.devices)))
    in_blocks(compute, [(a, min(a + share, len(groups))) for a in range(0, len(groups), share)], resources)
    return distances


def _covariance(cells: Any, rows: slice, weight: NDArray[np.float64]) -> Any:
    """(n_columns, n_columns) covariance of some rows; None where that is singular: too few rows, constant columns."""
    n_columns = cells.shape[1]
    if np.count_nonzero(weight) <= n_columns:
        return None
    there = cp.asarray(weight)
    starts = range(0, len(weight), ROWS_AT_ONCE)
    total = float(weight.sum())
    mean = cp.zeros(n_columns)
    for start in starts:
        mean += there[start : start + ROWS_AT_ONCE] @ _dense(cells, rows, start)
    mean /= total
    products = cp.zeros((n_columns, n_columns))
    for start in starts:
        deviations = _dense(cells, rows, start) - mean
        products += (deviations * there[start : start + ROWS_AT_ONCE, None]).T @ deviations
    covariance = products / (total - 1.0)
    spread = cp.sqrt(cp.diag(covariance))
    # A constant column keeps what rounding its mean has left.
    return covariance if bool((spread > CONSTANT * cp.abs(mean)).all()) else None


def _dense(cells: Any, rows: slice, start: int) -> Any:
    block = cells[rows.start + start : min(rows.start + start + ROWS_AT_ONCE, rows.stop)]
    return (block if isinstance(block, cp.ndarray) else block.toarray()).astype(np.float64)


def _lengths(differences: Any, covariance: Any) -> NDArray[np.float64]:
    """(n,) lengths of the rows in units of the covariance; NaN if it is singular."""
    spread = cp.sqrt(cp.diag(covariance))
    values, vectors = cp.linalg.eigh(covariance / cp.outer(spread, spread))
    if float(values[0]) <= SINGULAR * len(values) * np.finfo(np.float64).eps:
        return np.full(len(differences), np.nan)
    lengths: NDArray[np.float64] = cp.linalg.norm((differences / spread) @ vectors / cp.sqrt(values), axis=1).get()
    return lengths
