"""Distances in units of a group's covariance, on a CPU: see `ptg.kernels.contract.covariance`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from ptg.kernels.contract.covariance import CONSTANT, ROWS_AT_ONCE, SINGULAR
from ptg.kernels.cpu.threads import run_tasks

if TYPE_CHECKING:
    import scipy.sparse as sp
    from numpy.typing import NDArray

    from ptg.kernels.contract.resources import Resources

    Floats: TypeAlias = NDArray[np.float64]


def mahalanobis(
    cells: NDArray[Any] | sp.csr_matrix[Any],
    offsets: NDArray[Any],
    profiles: NDArray[Any],
    left: NDArray[Any],
    right: NDArray[Any],
    *,
    weights: NDArray[Any] | None = None,
    resources: Resources,
) -> Floats:
    """Compute the distance of two profiles in units of the left group's covariance: see the contract."""
    weight = np.ones(cells.shape[0]) if weights is None else np.asarray(weights, dtype=np.float64)
    distances = np.full(len(left), np.nan)
    groups, group_of = np.unique(left, return_inverse=True)
    pairs_of = np.split(np.argsort(group_of, kind="stable"), np.cumsum(np.bincount(group_of))[:-1])

    def compute(number: int) -> None:
        group, pairs = int(groups[number]), pairs_of[number]
        rows = slice(int(offsets[group]), int(offsets[group + 1]))
        covariance = _covariance(cells, rows, weight)
        if covariance is not None:
            distances[pairs] = _lengths(profiles[right[pairs]] - profiles[group], covariance)

    run_tasks(compute, range(len(groups)), resources)
    return distances


def _covariance(cells: Any, rows: slice, weight: Floats) -> Floats | None:
    """(n_columns, n_columns) covariance of some rows; None where that is singular: too few rows, constant columns."""
    n_columns = cells.shape[1]
    if np.count_nonzero(weight[rows]) <= n_columns:
        return None
    blocks = [
        slice(start, min(start + ROWS_AT_ONCE, rows.stop)) for start in range(rows.start, rows.stop, ROWS_AT_ONCE)
    ]
    total = weight[rows].sum()
    mean = sum((weight[block] @ _dense(cells[block]) for block in blocks), np.zeros(n_columns)) / total
    products = np.zeros((n_columns, n_columns))
    for block in blocks:
        deviations = _dense(cells[block]) - mean
        products += (deviations * weight[block, None]).T @ deviations
    covariance = products / (total - 1.0)
    spread = np.sqrt(np.diag(covariance))
    # A constant column keeps what rounding its mean has left.
    return covariance if bool((spread > CONSTANT * np.abs(mean)).all()) else None


def _dense(rows: Any) -> Floats:
    return (rows if isinstance(rows, np.ndarray) else rows.toarray()).astype(np.float64)


def _lengths(differences: Floats, covariance: Floats) -> Floats:
    """(n,) lengths of the rows in units of the covariance; NaN if it is singular."""
    spread = np.sqrt(np.diag(covariance))
    values, vectors = np.linalg.eigh(covariance / np.outer(spread, spread))
    if values[0] <= SINGULAR * len(values) * np.finfo(np.float64).eps:
        return np.full(len(differences), np.nan)
    lengths: Floats = np.linalg.norm((differences / spread) @ vectors / np.sqrt(values), axis=1)
    return lengths
