"""Standard deviations of costs, from moments of the groups or from products of cells: no pass over the costs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ptg.kernels.cpu.compilation import jit
from ptg.kernels.cpu.sinkhorn_groups import CentredCells, Side
from ptg.kernels.cpu.threads import run_tasks

if TYPE_CHECKING:
    import scipy.sparse as sp
    from numpy.typing import NDArray

    from ptg.kernels.contract.resources import Resources

_NARROW = 128
"""Columns up to which the moments of all groups are kept: 130 kB a group."""
_PAIRS = 256
"""Pairs of a task."""
_ROWS = 1024
"""Cells of a side whose products with the other side's are made at once."""

# A variance is nothing but rounding below these parts of its scales.
_OF_TRACES = 1e-14
_OF_MEAN_SQUARED = 1e-30


class _Moments(NamedTuple):
    """What the deviations need to know of every group, (n_groups, ...), in units of the centred cells.

    Attributes
    ----------
    means
        (n_groups, n_columns): NaN for a group without mass.
    covariances
        (n_groups, n_columns + 1, n_columns + 1): of the centred columns and their squared norm.
    """

    means: NDArray[np.float64]
    covariances: NDArray[np.float64]


def cost_deviations(
    cells: NDArray[Any] | sp.csr_matrix[Any],
    offsets: NDArray[Any],
    left: NDArray[Any],
    right: NDArray[Any],
    *,
    weights: NDArray[Any] | None = None,
    resources: Resources,
) -> NDArray[Any]:
    """Compute the standard deviation of the costs of many pairs: see the contract."""
    low, high = np.minimum(left, right).astype(np.int64), np.maximum(left, right).astype(np.int64)
    centred = CentredCells(cells, offsets, np.float64, resources)
    of_draw = _from_moments if cells.shape[1] <= _NARROW else _from_cells
    draws = [None] if weights is None else list(weights)
    variances = np.array([of_draw(centred, low, high, draw, resources) for draw in draws]).reshape(len(draws), -1)
    deviations: NDArray[Any] = np.sqrt(variances) * centred.unit**2
    return deviations[0] if weights is None else deviations


def _from_moments(
    centred: CentredCells,
    left: NDArray[np.int64],
    right: NDArray[np.int64],
    weights: NDArray[Any] | None,
    resources: Resources,
) -> NDArray[np.float64]:
    n_groups, n_columns = centred.centres.shape
    found = _Moments(np.full((n_groups, n_columns), np.nan), np.zeros((n_groups, n_columns + 1, n_columns + 1)))

    def fill(group: int) -> None:
        side = centred.side(group, weights)
        if side is not None:
            mean, own = _about_mean(side)
            found.means[group] = centred.centres[group] + mean
            values = np.column_stack([own, _squared_norms(own, side.mass)])
            found.covariances[group] = (values * side.mass[:, None]).T @ values

    run_tasks(fill, np.unique(np.concatenate([left, right])), resources)
    starts = range(0, len(left), _PAIRS)
    parts = run_tasks(
        lambda i: _variances(found.means, found.covariances, left[i : i + _PAIRS], right[i : i + _PAIRS]),
        starts,
        resources,
    )
    return np.concatenate([np.empty(0), *parts])


def _about_mean(side: Side) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the mean of a draw's cells, (n_columns,), and the cells less it."""
    n_panels, n, width = side.cells.shape
    cells = side.cells[0] if n_panels == 1 else side.cells.transpose(1, 0, 2).reshape(n, n_panels * width)
    mean = side.mass @ cells
    return mean, cells - mean


def _squared_norms(cells: NDArray[np.float64], mass: NDArray[np.float64]) -> NDArray[np.float64]:
    """Squared norms less their mean."""
    norms: NDArray[np.float64] = np.einsum("ik,ik->i", cells, cells)
    return norms - mass @ norms


@jit
def _variances(means, covariances, left, right):  # type: ignore[no-untyped-def]
    """Compute the variance of the cost of each pair."""
    variances = np.empty(left.size)
    d = means.shape[1]
    for pair in range(left.size):
        x, y = covariances[left[pair]], covariances[right[pair]]
        gap = 2.0 * (means[left[pair]] - means[right[pair]])
        spread = x[d, d] + y[d, d]
        products, x_trace, y_trace, distance = 0.0, 0.0, 0.0, 0.0
        for i in range(d):
            across, along = 0.0, 0.0
            for j in range(d):
                along += (x[i, j] + y[i, j]) * gap[j]
                across += x[i, j] * y[i, j]
            spread += gap[i] * (along + 2.0 * (x[i, d] - y[i, d]))
            products += across
            x_trace += x[i, i]
            y_trace += y[i, i]
            distance += 0.25 * gap[i] * gap[i]
        scales = (x_trace, y_trace, distance)
        variances[pair] = _above_rounding(spread + 4.0 * products, scales)
    return variances


@jit
def _above_rounding(variance, scales):  # type: ignore[no-untyped-def]
    """0 for a variance that is but the rounding of its parts; NaN stays."""
    x_trace, y_trace, distance = scales
    mean = x_trace + y_trace + distance
    if variance <= max(_OF_TRACES * x_trace * y_trace, _OF_MEAN_SQUARED * mean * mean):
        return 0.0
    return variance


def _from_cells(
    centred: CentredCells,
    left: NDArray[np.int64],
    right: NDArray[np.int64],
    weights: NDArray[Any] | None,
    resources: Resources,
) -> NDArray[np.float64]:
    """Compute the variances pair by pair: for wide cells, whose covariances are large."""

    def one(pair: tuple[int, int]) -> float:
        sides = [centred.side(group, weights) for group in pair]
        if sides[0] is None or sides[1] is None:
            return float("nan")
        (x_mean, x), (y_mean, y) = _about_mean(sides[0]), _about_mean(sides[1])
        a, b = sides[0].mass, sides[1].mass
        n_columns = centred.centres.shape[1]
        gap = np.zeros(len(x_mean))
        gap[:n_columns] = centred.centres[pair[0]] - centred.centres[pair[1]]
        gap += x_mean - y_mean
        spread = a @ (_squared_norms(x, a) + 2.0 * (x @ gap)) ** 2 + b @ (_squared_norms(y, b) - 2.0 * (y @ gap)) ** 2
        scales = (float(a @ (x * x).sum(axis=1)), float(b @ (y * y).sum(axis=1)), float(gap @ gap))
        return float(_above_rounding(float(spread) + 4.0 * _mean_squared_product(x, y, a, b), scales))

    return np.array(run_tasks(one, list(zip(left.tolist(), right.tolist(), strict=True)), resources))


def _mean_squared_product(
    x: NDArray[np.float64], y: NDArray[np.float64], a: NDArray[np.float64], b: NDArray[np.float64]
) -> float:
    """``sum(a (x y')² b)``, from the products or from the two covariances, whichever are fewer."""
    if x.shape[1] * (len(x) + len(y)) < len(x) * len(y):
        return float(((x * a[:, None]).T @ x * ((y * b[:, None]).T @ y)).sum())
    blocks = range(0, len(x), _ROWS)
    return float(sum(a[i : i + _ROWS] @ np.square(x[i : i + _ROWS] @ y.T) @ b for i in blocks))
