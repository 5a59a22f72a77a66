"""Differences of densities in the plane, on a CPU: see `ptg.kernels.contract.density`.

Every pair has a grid of its own, so nothing can be kept from one pair to the next: 10,000 exponentials per point. A Zen
5 core does 5e8 a second.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ptg.kernels.cpu.compilation import jit
from ptg.kernels.cpu.exponential import exponentials
from ptg.kernels.cpu.threads import run_tasks

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ptg.kernels.contract.resources import Resources

_GRID = 100
_PAIRS_PER_TASK = 4


def density_differences(
    points: NDArray[Any], offsets: NDArray[Any], left: NDArray[Any], right: NDArray[Any], *, resources: Resources
) -> NDArray[np.float64]:
    """Compute mean squared differences of densities for pairs of groups: see the contract."""
    offsets, left, right = (np.asarray(numbers, dtype=np.int64) for numbers in (offsets, left, right))
    out = np.empty(len(left))

    def compute(start: int) -> None:
        some = slice(start, start + _PAIRS_PER_TASK)
        _differences(points, offsets, left[some], right[some], out[some])

    run_tasks(compute, range(0, len(left), _PAIRS_PER_TASK), resources)
    return out


@jit
def _differences(points, offsets, left, right, out):  # type: ignore[no-untyped-def]
    for pair in range(left.size):
        x = points[offsets[left[pair]] : offsets[left[pair] + 1]]
        y = points[offsets[right[pair]] : offsets[right[pair] + 1]]
        if x.shape[0] == 0 or y.shape[0] == 0:
            out[pair] = np.nan
            continue
        rows, columns = _grid(x[:, 0], y[:, 0]), _grid(x[:, 1], y[:, 1])
        density, other = np.empty(_GRID), np.empty(_GRID)
        total = 0.0
        for row in rows:
            _density(x, row, columns, density)
            _density(y, row, columns, other)
            of_row = 0.0
            for column in range(_GRID):
                of_row += (density[column] - other[column]) * (density[column] - other[column])
            total += of_row
        out[pair] = total / (_GRID * _GRID)


@jit
def _grid(x, y):  # type: ignore[no-untyped-def]
    """Return the middles of 98 parts of the range of all values, and one more on either side."""
    low, high = min(x.min(), y.min()), max(x.max(), y.max())
    part = (high - low) / (_GRID - 2)
    start = (low - part) + 0.5 * part
    return start + part * np.arange(_GRID)


@jit
def _density(points, row, columns, out):  # type: ignore[no-untyped-def]
    """Fill `out` with the density along one row of the grid."""
    n_points = points.shape[0]
    bandwidth = n_points ** (-1.0 / 6.0)
    values, bits = np.empty(_GRID), np.empty(_GRID, np.int64)
    powers = bits.view(np.float64)
    out[:] = 0.0
    for i in range(n_points):
        across = (row - points[i, 0]) * (row - points[i, 0])
        along = points[i, 1]
        for j in range(_GRID):
            values[j] = -np.sqrt(across + (columns[j] - along) * (columns[j] - along)) / bandwidth
        exponentials(values, bits, powers)
        for j in range(_GRID):
            out[j] += values[j]
    out /= 2.0 * np.pi * bandwidth * bandwidth * n_points
