"""Blocks of cell-to-cell distances on a CPU."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ptg.kernels.cpu.energy_rows import centred_rows, squared_norms
from ptg.kernels.cpu.energy_tiles import close_positions, to_distances
from ptg.kernels.cpu.products import aligned_empty, multiply

if TYPE_CHECKING:
    import scipy.sparse as sp
    from numpy.typing import NDArray

    from ptg.kernels.contract.resources import Resources

CLOSENESS = {np.dtype(np.float32): 2.0**-10, np.dtype(np.float64): 2.0**-16}
"""A squared distance below this part of the squared norms has lost too many digits of the product."""


class CellDistances:
    """Distances between ranges of cells, one block at a time, in units of `unit`.

    Parameters
    ----------
    cells
        (n_cells, n_columns) dense or canonical CSR, as the contract of `energy` asks.
    blocks
        The ranges that will be asked for, of which none overlap; one may be named more than once.
    resources
        Memory for what is kept between blocks.
    """

    def __init__(self, cells: NDArray[Any] | sp.csr_matrix[Any], blocks: list[slice], resources: Resources) -> None:
        self._rows = centred_rows(cells, resources)
        self._norms = np.zeros(cells.shape[0])
        for block in {block.start: block for block in blocks}.values():
            for panel in self._rows.panels:
                squared_norms(self._rows.block(block, panel), self._norms[block])
        self.unit = self._rows.unit

    def between(self, rows: slice, columns: slice) -> NDArray[Any]:
        """Compute the distances of two ranges."""
        products = self._products(rows, columns)
        row_norms = self._norms[rows].astype(products.dtype)
        column_norms = self._norms[columns].astype(products.dtype)
        closeness = products.dtype.type(CLOSENESS[self._rows.dtype])
        n_close = to_distances(products, row_norms, column_norms, closeness)
        if rows == columns and n_close == len(products):  # every cell is close to itself, and to no other
            np.fill_diagonal(products, 0.0)
        elif n_close:
            close = close_positions(products, row_norms, column_norms, closeness)
            self._rows.replace(products, rows, columns, close)
        return products

    def _products(self, rows: slice, columns: slice) -> NDArray[Any]:
        shape = (rows.stop - rows.start, columns.stop - columns.start)
        product = aligned_empty(shape, self._rows.dtype)
        total = product if len(self._rows.panels) == 1 else np.zeros(shape)
        for panel in self._rows.panels:
            multiply(self._rows.block(rows, panel), self._rows.columns(columns, panel), product)
            if total is not product:
                total += product
        return total
