"""Sums of functions of two cells between groups, on a CPU: see `ptg.kernels.contract.kernel_sums`.

A tile of 512 x 512 pairs is accumulated column by column of the cells, in panels of 512 columns. With 50 columns a Zen
5 core does 4e8 pairs of cells a second with ``"rbf"``, of which the exponential takes a quarter.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from ptg.kernels.contract.kernel_sums import CellFunction
from ptg.kernels.cpu.products import aligned_empty, multiply
from ptg.kernels.cpu.threads import jit
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
    panels = [slice(start, start + _PANEL) for start in range(0, cells.shape[1], _PANEL)]

    def values_of(rows: slice, columns: slice) -> Floats:
        values = aligned_empty((rows.stop - rows.start, columns.stop - columns.start), np.dtype(np.float64))
        values[...] = 0.0
        for panel in panels:
            accumulate(_block(cells, rows, panel), np.ascontiguousarray(_block(cells, columns, panel).T), values)
        finish(values, function)
        return values

    return sum_tiles(values_of, offsets, (left, right), weights=weights, resources=resources)


def _block(cells: NDArray[Any] | sp.csr_matrix[Any], rows: slice, panel: slice) -> Floats:
    """Return dense rows in float64, some columns of them, in C order."""
    if isinstance(cells, np.ndarray):
        return np.ascontiguousarray(cells[rows, panel], dtype=np.float64)
    block = np.zeros((rows.stop - rows.start, min(panel.stop, cells.shape[1]) - panel.start))
    _densify((cells.data, cells.indices, cells.indptr), rows.start, panel.start, block)
    return block


@jit
def _densify(csr, first_row, first_column, out):  # type: ignore[no-untyped-def]
    data, indices, indptr = csr
    for i in range(out.shape[0]):
        start, stop = indptr[first_row + i], indptr[first_row + i + 1]
        p = start + np.searchsorted(indices[start:stop], first_column)
        while p < stop and indices[p] < first_column + out.shape[1]:
            out[i, indices[p] - first_column] = data[p]
            p += 1


# Four rows at a time, spelled out because numba keeps them in registers only so: half the time of one.
@jit
def _add_squares(rows, columns, out):  # type: ignore[no-untyped-def]
    """Add ``sum_k (rows[i, k] - columns[k, j])²`` to ``out[i, j]``."""
    n_rows = out.shape[0] // 4 * 4
    for i in range(0, n_rows, 4):
        r0, r1, r2, r3 = out[i], out[i + 1], out[i + 2], out[i + 3]
        for k in range(rows.shape[1]):
            x0, x1, x2, x3 = rows[i, k], rows[i + 1, k], rows[i + 2, k], rows[i + 3, k]
            y = columns[k]
            for j in range(y.size):
                d0, d1, d2, d3 = x0 - y[j], x1 - y[j], x2 - y[j], x3 - y[j]
                r0[j] += d0 * d0
                r1[j] += d1 * d1
                r2[j] += d2 * d2
                r3[j] += d3 * d3
    for i in range(n_rows, out.shape[0]):
        row = out[i]
        for k in range(rows.shape[1]):
            for j in range(row.size):
                row[j] += (rows[i, k] - columns[k, j]) * (rows[i, k] - columns[k, j])


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
