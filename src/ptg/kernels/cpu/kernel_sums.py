"""Sums of functions of two cells between groups, on a CPU: see `ptg.kernels.contract.kernel_sums`.

A tile of 512 x 512 pairs is accumulated column by column of the cells, in panels of 512 columns. With 50 columns a Zen
5 core does 4e8 pairs of cells a second with ``"rbf"``, of which the exponential takes a quarter.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from ptg.kernels.contract.kernel_sums import CellFunction
from ptg.kernels.cpu.blocks import column_panels, dense_block
from ptg.kernels.cpu.compilation import jit
from ptg.kernels.cpu.differences import squared_differences
from ptg.kernels.cpu.products import aligned_empty, multiply
from ptg.kernels.cpu.tiles import sum_tiles

if TYPE_CHECKING:
    import scipy.sparse as sp
    from numpy.typing import NDArray

    from ptg.kernels.contract.resources import Resources

    Floats: TypeAlias = NDArray[np.float64]

_PANEL = 512
"""Columns of the cells that are dense at once."""


def kernel_sums(
    cells: NDArray[Any] | sp.csr_matrix[Any],
    offsets: NDArray[Any],
    left: NDArray[Any],
    right: NDArray[Any],
    *,
    function: CellFunction,
    weights: NDArray[Any] | None = None,
    resources: Resources,
) -> NDArray[np.float64]:
    """Sum a function of two cells over the cells of two groups, for many pairs: see the contract."""
    accumulate, finish = _FUNCTIONS[function.name]
    panels = column_panels(cells.shape[1], _PANEL)

    def values_of(rows: slice, columns: slice) -> Floats:
        values = aligned_empty((rows.stop - rows.start, columns.stop - columns.start), np.dtype(np.float64))
        values[...] = 0.0
        for panel in panels:
            left_block, right_block = (dense_block(cells, some, panel, np.float64) for some in (rows, columns))
            accumulate(left_block, np.ascontiguousarray(right_block.T), values)
        finish(values, function)
        return values

    return sum_tiles(values_of, offsets, (left, right), weights=weights, resources=resources)


@jit
def _add_absolute(rows, columns, out):  # type: ignore[no-untyped-def]
    """Add ``sum_k |rows[i, k] - columns[k, j]|`` to ``out[i, j]``."""
    n_steps = rows.shape[1] // 4 * 4
    for i in range(out.shape[0]):
        row = out[i]
        for k in range(0, n_steps, 4):
            x0, x1, x2, x3 = rows[i, k], rows[i, k + 1], rows[i, k + 2], rows[i, k + 3]
            y0, y1, y2, y3 = columns[k], columns[k + 1], columns[k + 2], columns[k + 3]
            for j in range(row.size):
                row[j] += (abs(x0 - y0[j]) + abs(x1 - y1[j])) + (abs(x2 - y2[j]) + abs(x3 - y3[j]))
        for k in range(n_steps, rows.shape[1]):
            for j in range(row.size):
                row[j] += abs(rows[i, k] - columns[k, j])


@jit
def _raise_to_largest(rows, columns, out):  # type: ignore[no-untyped-def]
    """Raise ``out[i, j]`` to ``max_k |rows[i, k] - columns[k, j]|``."""
    for i in range(out.shape[0]):
        row = out[i]
        for k in range(rows.shape[1]):
            x, y = rows[i, k], columns[k]
            for j in range(row.size):
                difference = abs(x - y[j])
                row[j] = max(row[j], difference)


def _add_products(rows: Floats, columns: Floats, out: Floats) -> None:
    """Add ``sum_k rows[i, k] columns[k, j]`` to ``out[i, j]``."""
    products = aligned_empty(out.shape, out.dtype)
    multiply(rows, columns, products)
    out += products


def _add_squares(rows: Floats, columns: Floats, out: Floats) -> None:
    """Add ``sum_k (rows[i, k] - columns[k, j])²`` to ``out[i, j]``."""
    squares = aligned_empty(out.shape, out.dtype)
    squared_differences(rows, columns, squares)
    out += squares


def _keep(values: Floats, function: CellFunction) -> None:
    """Leave the accumulated values as they are."""


def _exponential(values: Floats, function: CellFunction) -> None:
    values *= -function.gamma
    np.exp(values, out=values)


def _power(values: Floats, function: CellFunction) -> None:
    values *= function.gamma
    factor = values.copy()
    for _ in range(function.degree - 1):
        values *= factor


_Accumulate: TypeAlias = Callable[[Any, Any, Any], Any]
_FUNCTIONS: dict[str, tuple[_Accumulate, Callable[[Any, CellFunction], None]]] = {
    "cityblock": (_add_absolute, _keep),
    "chebyshev": (_raise_to_largest, _keep),
    "rbf": (_add_squares, _exponential),
    "poly": (_add_products, _power),
}
