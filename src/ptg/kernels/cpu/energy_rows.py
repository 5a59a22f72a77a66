"""Blocks of centred rows for matrix products, from dense or CSR cells, and single distances without a product.

All values are divided by a power of two near the largest (exactly, unless they underflow), so that squares neither
overflow nor vanish; `Rows.unit` turns distances back.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import numpy as np

from ptg.kernels.cpu.moments import group_sums
from ptg.kernels.cpu.products import aligned_empty
from ptg.kernels.cpu.threads import jit

if TYPE_CHECKING:
    import scipy.sparse as sp
    from numpy.typing import NDArray

    from ptg.kernels.contract.resources import Resources

PANEL = 512
"""Columns multiplied at once. Products of wider rows are added panel by panel in float64."""


class Rows(ABC):
    """Cells as a matrix product needs them.

    Attributes
    ----------
    unit
        What a distance between scaled rows must be multiplied with.
    panels
        The column ranges of the products.
    """

    def __init__(self, shape: tuple[int, int], largest: float, total: NDArray[np.float64], dtype: Any) -> None:
        limits = np.finfo(dtype)
        exponent = np.clip(np.frexp(largest)[1], limits.minexp + 1, limits.maxexp - 2)
        self.unit = float(np.ldexp(1.0, exponent))
        self._factor = dtype.type(1.0 / self.unit)
        # Any shift will do, as long as it is the same for all: rounding it to the dtype costs nothing.
        self._centre = (total / shape[0] / self.unit).astype(dtype)
        self.dtype = dtype
        self.panels = [slice(start, min(start + PANEL, shape[1])) for start in range(0, shape[1], PANEL)]

    @abstractmethod
    def block(self, rows: slice, panel: slice) -> NDArray[Any]:
        """Return rows, centred and scaled, in C order and the dtype of the cells."""

    def columns(self, cells: slice, panel: slice) -> NDArray[Any]:
        """Return the transpose of a block, in C order from a cache line on."""
        block = self.block(cells, panel)
        transposed = aligned_empty((block.shape[1], block.shape[0]), block.dtype)
        transposed[...] = block.T
        return transposed

    @abstractmethod
    def replace(self, distances: NDArray[Any], rows: slice, columns: slice, close: NDArray[np.int64]) -> None:
        """Overwrite the distances at flat positions `close` of a block with exact ones."""


class _DenseRows(Rows):
    def __init__(self, cells: NDArray[Any], resources: Resources) -> None:
        offsets = np.array([0, len(cells)])
        total = group_sums(cells, offsets, resources=resources)[0]
        super().__init__(cells.shape, max(float(cells.max()), -float(cells.min())), total, cells.dtype)
        self._cells = cells
        # Each block is needed many times; where memory allows, all are made once.
        self._all: NDArray[Any] | None = None
        self._transposed: dict[int, NDArray[Any]] = {}
        if len(self.panels) == 1 and 3 * cells.nbytes <= resources.memory:
            self._all = self._centred(slice(None), slice(None))

    def _centred(self, rows: slice, panel: slice) -> NDArray[Any]:
        block: NDArray[Any] = self._cells[rows, panel] * self._factor
        block -= self._centre[panel]
        return block

    def block(self, rows: slice, panel: slice) -> NDArray[Any]:
        return self._centred(rows, panel) if self._all is None else self._all[rows]

    def columns(self, cells: slice, panel: slice) -> NDArray[Any]:
        if self._all is None:
            return super().columns(cells, panel)
        if cells.start not in self._transposed:  # two threads at worst make the same one
            self._transposed[cells.start] = super().columns(cells, panel)
        return self._transposed[cells.start]

    def replace(self, distances: NDArray[Any], rows: slice, columns: slice, close: NDArray[np.int64]) -> None:
        _replace_dense(distances, self._cells[rows], self._cells[columns], close, 1.0 / self.unit)


class _SparseRows(Rows):
    def __init__(self, cells: sp.csr_matrix[Any], resources: Resources) -> None:
        offsets = np.array([0, cells.shape[0]])
        total = group_sums(cells, offsets, resources=resources)[0]
        largest = max(float(cells.data.max()), -float(cells.data.min())) if cells.nnz else 0.0
        super().__init__(cells.shape, largest, total, cells.dtype)
        self._arrays = (cells.data, cells.indices, cells.indptr)

    def block(self, rows: slice, panel: slice) -> NDArray[Any]:
        block = np.empty((rows.stop - rows.start, panel.stop - panel.start), self.dtype)
        _densify(self._arrays, (rows.start, panel.start), self._centre[panel], self._factor, block)
        return block

    def replace(self, distances: NDArray[Any], rows: slice, columns: slice, close: NDArray[np.int64]) -> None:
        _replace_sparse(distances, self._arrays, (rows.start, columns.start), close, 1.0 / self.unit)


def centred_rows(cells: NDArray[Any] | sp.csr_matrix[Any], resources: Resources) -> Rows:
    """Prepare dense or CSR cells."""
    return _DenseRows(cells, resources) if isinstance(cells, np.ndarray) else _SparseRows(cells, resources)


@jit
def squared_norms(block, out):  # type: ignore[no-untyped-def]
    """Add the squared norm of every row of `block` to `out`, in float64."""
    for i in range(block.shape[0]):
        total = 0.0
        for k in range(block.shape[1]):
            total += np.float64(block[i, k]) * np.float64(block[i, k])
        out[i] += total


@jit
def _densify(csr, first, centre, factor, out):  # type: ignore[no-untyped-def]
    data, indices, indptr = csr
    width = out.shape[1]
    for i in range(out.shape[0]):
        for k in range(width):
            out[i, k] = -centre[k]
        start, stop = indptr[first[0] + i], indptr[first[0] + i + 1]
        p = start + np.searchsorted(indices[start:stop], first[1])
        while p < stop and indices[p] < first[1] + width:
            k = indices[p] - first[1]
            out[i, k] = data[p] * factor - centre[k]
            p += 1


@jit
def _replace_dense(distances, rows, columns, close, scale):  # type: ignore[no-untyped-def]
    for position in close:
        i, j = position // distances.shape[1], position % distances.shape[1]
        total = 0.0
        for k in range(rows.shape[1]):
            difference = (np.float64(rows[i, k]) - np.float64(columns[j, k])) * scale
            total += difference * difference
        distances[i, j] = np.sqrt(total)


@jit
def _replace_sparse(distances, csr, first, close, scale):  # type: ignore[no-untyped-def]
    data, indices, indptr = csr
    for position in close:
        i, j = position // distances.shape[1], position % distances.shape[1]
        p, p_stop = indptr[first[0] + i], indptr[first[0] + i + 1]
        q, q_stop = indptr[first[1] + j], indptr[first[1] + j + 1]
        total = 0.0
        while p < p_stop or q < q_stop:
            # The next column of either row; a row without an entry there has a zero.
            take_p = p < p_stop and (q == q_stop or indices[p] <= indices[q])
            take_q = q < q_stop and (p == p_stop or indices[q] <= indices[p])
            difference = 0.0
            if take_p:
                difference += np.float64(data[p])
                p += 1
            if take_q:
                difference -= np.float64(data[q])
                q += 1
            total += (difference * scale) ** 2
        distances[i, j] = np.sqrt(total)
