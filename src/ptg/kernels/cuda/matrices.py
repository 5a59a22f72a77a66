"""Matrices on the current device and parts of them: see `ptg.kernels.contract.matrices`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cupy as cp
import cupyx.scipy.sparse as csp
import numpy as np

from ptg.kernels.contract.matrices import Blocks
from ptg.kernels.cpu import matrices as on_host
from ptg.kernels.cuda.memory import reports_memory
from ptg.kernels.cuda.rows import RowReader, is_on_host
from ptg.kernels.cuda.source import kernel
from ptg.kernels.cuda.transfer import to_device

if TYPE_CHECKING:
    import scipy.sparse as sp
    from numpy.typing import NDArray

    from ptg.kernels.contract.resources import Resources

_TILE = 32
"""Rows and columns of a block that a block of threads reads, as in `matrices.cu`."""


@dataclass(frozen=True)
class DeviceCsr:
    """CSR on one device, of any number of entries: CuPy's own may count them in 32 bits.

    Attributes
    ----------
    data, indices, indptr
        CuPy arrays; `indptr` int64, `indices` of any integer type, ascending in each row.
    """

    data: Any
    indices: Any
    indptr: Any
    shape: tuple[int, int]

    @property
    def dtype(self) -> Any:
        """Type of the values."""
        return self.data.dtype

    @property
    def nnz(self) -> int:
        """Number of stored values."""
        return int(self.data.size)

    def get(self) -> sp.csr_matrix[Any]:
        """Copy to the host."""
        import scipy.sparse as sp

        return sp.csr_matrix((self.data.get(), self.indices.get(), self.indptr.get()), shape=self.shape)


@reports_memory
def keep(matrix: NDArray[Any] | sp.csr_matrix[Any], *, resources: Resources) -> Any:
    """Bring a matrix to the current device if it fits; see the contract."""
    if is_on_host(matrix) and _bytes_there(matrix) > resources.memory:
        return matrix
    try:
        if isinstance(matrix, (np.ndarray, cp.ndarray, DeviceCsr)):
            return bring(matrix, resources)
        return DeviceCsr(
            to_device(matrix.data, resources),
            to_device(matrix.indices, resources, _index_type(matrix)),
            cp.asarray(matrix.indptr).astype(np.int64, copy=False),
            matrix.shape,
        )
    except cp.cuda.memory.OutOfMemoryError:
        cp.get_default_memory_pool().free_all_blocks()
        return matrix


def _index_type(matrix: Any) -> Any:
    return np.int32 if matrix.shape[1] <= np.iinfo(np.int32).max else np.int64


def _bytes_there(matrix: Any) -> int:
    """Bytes of a matrix on the host when it is on a device."""
    if isinstance(matrix, np.ndarray):
        return matrix.nbytes
    return int(matrix.nnz * (matrix.dtype.itemsize + np.dtype(_index_type(matrix)).itemsize))


def bring(matrix: Any, resources: Resources) -> Any:
    """Return a matrix of the host or of any device on the current one; what is there already is not copied.

    A CuPy array or CuPy's CSR; a `DeviceCsr` stays one.
    """
    if isinstance(matrix, (np.ndarray, cp.ndarray)):
        return to_device(matrix, resources)
    if not is_on_host(matrix) and matrix.data.device == cp.cuda.Device():
        return matrix
    # Part by part: CuPy takes the parts of a CSR matrix as they are, on whichever device they are.
    data, indices, indptr = (to_device(part, resources) for part in (matrix.data, matrix.indices, matrix.indptr))
    if isinstance(matrix, DeviceCsr):
        return DeviceCsr(data, indices, indptr, matrix.shape)
    brought = csp.csr_matrix((data, indices, indptr), shape=matrix.shape)
    if data.size > np.iinfo(brought.indptr.dtype).max:  # not every CuPy 14 has 64 bits for it, nor says so
        raise ValueError(f"this CuPy has no CSR matrix of {data.size} values: update it, or pass device='cpu'")
    return brought


def here(matrix: Any, resources: Resources) -> Any:
    """Copy a matrix on another device to the current one; one on the host stays there."""
    return matrix if is_on_host(matrix) else bring(matrix, resources)


@reports_memory
def take_rows(matrix: Any, rows: NDArray[np.int64], *, resources: Resources) -> Any:
    """Copy some rows; see the contract."""
    if is_on_host(matrix):
        return on_host.take_rows(matrix, rows, resources=resources)
    wanted = cp.asarray(rows)
    if isinstance(matrix, cp.ndarray):
        return matrix[wanted]
    begins = matrix.indptr.astype(np.int64, copy=False)[wanted]
    lengths = matrix.indptr.astype(np.int64, copy=False)[wanted + 1] - begins
    indptr = cp.zeros(len(rows) + 1, dtype=np.int64)
    indptr[1:] = cp.cumsum(lengths)
    n_entries = int(indptr[-1])
    there = RowReader(matrix, resources).load(0, matrix.shape[0])
    indices = cp.empty(n_entries, dtype=matrix.indices.dtype)
    data = cp.empty(n_entries, dtype=matrix.dtype)
    if n_entries:
        kernel("matrices.cu", "take_rows", there.options)(
            (len(rows),), (128,), (*there.arguments, wanted, indptr, indices, data)
        )
    return DeviceCsr(data, indices, indptr, (len(rows), matrix.shape[1]))


@reports_memory
def read_blocks(matrix: Any, blocks: Blocks, *, resources: Resources) -> Any:
    """Read blocks of a matrix; see the contract.

    A matrix on the host is read there: what is wanted is a small part of it.
    """
    if is_on_host(matrix):
        return to_device(on_host.read_blocks(matrix, blocks, resources=resources), resources)
    tiles, rows = BlockTiles(blocks), RowReader(matrix, resources).load(0, matrix.shape[0])
    values = cp.empty(tiles.n_values)
    columns = cp.asarray(np.asarray(blocks.columns, dtype=np.int64))
    tiles.launch("matrices.cu", "read_blocks", rows.options, rows.arguments, (columns, values))
    return values


class BlockTiles:
    """Blocks on the current device, cut into tiles that a block of threads takes each.

    Attributes
    ----------
    n_values
        Number of values of all blocks.
    """

    def __init__(self, blocks: Blocks) -> None:
        n_rows, n_columns = np.diff(blocks.row_offsets), np.diff(blocks.column_offsets)
        n_tiles = -(-n_rows // _TILE) * -(-n_columns // _TILE)
        first_tile = np.concatenate([[0], np.cumsum(n_tiles)]).astype(np.int64)
        value_offsets = blocks.value_offsets
        self.n_values, self._n_tiles = int(value_offsets[-1]), int(first_tile[-1])
        host = (blocks.rows, blocks.row_offsets, blocks.column_offsets, value_offsets, first_tile)
        self._arguments = tuple(cp.asarray(np.asarray(array, dtype=np.int64)) for array in host)
        self._n_blocks = len(n_tiles)

    def launch(
        self, file: str, function: str, options: tuple[str, ...], first: tuple[Any, ...], last: tuple[Any, ...]
    ) -> None:
        """Run a kernel with a block of threads for each tile; ``BLOCKS_PARAMETERS`` come between the others."""
        if self._n_tiles:
            arguments = (*first, *self._arguments, np.int32(self._n_blocks), *last)
            kernel(file, function, options)((self._n_tiles,), (_TILE, 8), arguments)
