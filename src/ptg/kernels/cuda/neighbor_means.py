"""Cells minus the mean of their neighbours (`neighbor_means.cu`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cupy as cp
import numpy as np

from ptg.kernels.cuda.devices import on_devices
from ptg.kernels.cuda.download import Downloads
from ptg.kernels.cuda.matrices import here, take_rows
from ptg.kernels.cuda.memory import reports_memory, with_fitting_size
from ptg.kernels.cuda.pieces import share_out
from ptg.kernels.cuda.rows import DeviceRows, RowReader
from ptg.kernels.cuda.source import kernel, type_options

if TYPE_CHECKING:
    import scipy.sparse as sp
    from numpy.typing import NDArray

    from ptg.kernels.contract.resources import Resources

_TILE = 4096
"""Genes that a block of threads sums at once for CSR, as in `neighbor_means.cu`."""

_THREADS = 256
_PIECE_BYTES = 512 << 20
"""Bytes of a piece of the result: its cells are worth several threads' copying, and its copies start early."""


@reports_memory
def neighbor_signature(
    matrix: NDArray[Any] | sp.csr_matrix[Any],
    rows: NDArray[np.int64],
    neighbor_offsets: NDArray[np.int64],
    neighbors: NDArray[np.int64],
    *,
    out: NDArray[Any],
    resources: Resources,
    batch_size: int | None = None,
) -> None:
    """Subtract cells from the mean of their neighbours: see the contract."""
    rows, offsets = cp.asnumpy(rows), cp.asnumpy(neighbor_offsets).astype(np.int64)
    of_row, n_genes = _Expression(matrix, resources).row_bytes, matrix.shape[1]
    if not len(rows) or not n_genes:
        return
    resources.progress.start(float(len(rows)))
    row_bytes = out.dtype.itemsize * n_genes + of_row
    size = batch_size or max(_PIECE_BYTES // row_bytes, 1)
    size = max(min(size, len(rows), resources.memory // 4 // row_bytes), 1)

    def compute(share: tuple[int, int]) -> None:
        first, stop = share
        if first == stop:
            return
        expression = _Expression(here(matrix, resources), resources)
        table = _Table(expression, neighbors[offsets[first] : offsets[stop]])

        def fill(size: int) -> None:
            with Downloads(resources) as downloads:
                for begin in range(first, stop, size):
                    end = min(begin + size, stop)
                    values = cp.empty((end - begin, n_genes), dtype=out.dtype)
                    cells = expression.load(rows[begin:end])
                    table.average(cells, offsets[begin : end + 1] - offsets[first], values)
                    downloads.start(values, out[begin:end])
                    resources.progress.advance(float(end - begin))

        with_fitting_size(fill, size, smallest=1, what="rows at once")

    on_devices(compute, share_out(offsets + np.arange(len(offsets)), len(resources.devices)), resources.devices)


class _Expression:
    """The cells, dense or CSR, on host or device."""

    def __init__(self, matrix: Any, resources: Resources) -> None:
        self.reader = RowReader(matrix, resources)
        self._matrix, self._resources = matrix, resources

    @property
    def row_bytes(self) -> int:
        """Bytes of a row on the device, about: values and, at most, 8 bytes of column number."""
        return int((self.reader.entries_per_row + 1) * (self.reader.dtype.itemsize + 8))

    def load(self, rows: NDArray[np.int64]) -> DeviceRows:
        """Bring some rows to the current device; neighbouring ones are not gathered first."""
        if len(rows) and (np.diff(rows) == 1).all():
            return self.reader.load(int(rows[0]), int(rows[-1]) + 1)
        gathered = take_rows(self._matrix, rows, resources=self._resources)
        return RowReader(gathered, self._resources).load(0, len(rows))


class _Table:
    """``expm1`` of the cells that are anybody's neighbour, on the current device."""

    def __init__(self, expression: _Expression, neighbors: Any) -> None:
        reader, neighbors = expression.reader, cp.asarray(neighbors)
        is_used = cp.zeros(reader.n_rows, dtype=np.int32)
        is_used[neighbors] = 1
        self._neighbors = (cp.cumsum(is_used) - 1).astype(np.int32)[neighbors]
        used = cp.flatnonzero(is_used).get()
        self._is_dense, self._n_genes = reader.is_dense, reader.n_columns
        controls = expression.load(used)
        _, indices, values = controls.arguments[:3]
        self._values = cp.empty(values.shape, dtype=values.dtype)
        if values.size:
            blocks = min(-(-values.size // _THREADS), 65_535)
            kernel("neighbor_means.cu", "exponentials", type_options(Value=values.dtype))(
                (blocks,), (_THREADS,), (values, np.int64(values.size), self._values)
            )
        if self._is_dense:
            return
        self._n_tiles = -(-self._n_genes // _TILE)
        self._indices = indices.astype(np.int32, copy=False)
        self._bounds = cp.empty((len(used), self._n_tiles + 1), dtype=np.int64)
        kernel("neighbor_means.cu", "tile_bounds", controls.options)(
            (-(-self._bounds.size // _THREADS),),
            (_THREADS,),
            (*controls.arguments, np.int32(self._n_tiles), self._bounds),
        )

    def average(self, cells: DeviceRows, offsets: NDArray[np.int64], out: Any) -> None:
        """Fill `out` (n_rows, n_genes) for rows whose neighbours lie between `offsets`."""
        options = (*cells.options, *type_options(Out=out.dtype))
        begin = int(offsets[0])
        neighbors = self._neighbors[begin : int(offsets[-1])]
        arguments = (cp.asarray(offsets - begin), neighbors, *cells.arguments, out)
        if self._is_dense:
            blocks = (len(out), -(-self._n_genes // _THREADS))
            kernel("neighbor_means.cu", "signature", options)(blocks, (_THREADS,), (self._values, *arguments))
        else:
            kernel("neighbor_means.cu", "signature", options)(
                (len(out), self._n_tiles), (_THREADS,), (self._bounds, self._indices, self._values, *arguments)
            )
