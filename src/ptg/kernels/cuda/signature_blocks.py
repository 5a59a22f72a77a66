"""Some genes of some cells of the perturbation signature (`signature_blocks.cu`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cupy as cp
import numpy as np

from ptg.kernels.contract.matrices import Blocks
from ptg.kernels.cpu.signature_blocks import signature_blocks as signature_blocks_on_host
from ptg.kernels.cuda.matrices import BlockTiles, read_blocks
from ptg.kernels.cuda.memory import reports_memory
from ptg.kernels.cuda.rows import RowReader, is_on_host
from ptg.kernels.cuda.source import kernel, type_options
from ptg.kernels.cuda.transfer import to_device

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ptg.kernels.contract.resources import Resources

_THREADS = 128


@reports_memory
def signature_blocks(
    matrix: Any,
    blocks: Blocks,
    neighbor_offsets: NDArray[np.int64],
    neighbors: NDArray[np.int64],
    *,
    resources: Resources,
) -> Any:
    """Compute blocks of the signature: see the contract. A matrix on the host is not brought here for them."""
    if is_on_host(matrix):
        graph = (cp.asnumpy(neighbor_offsets), cp.asnumpy(neighbors))
        return to_device(signature_blocks_on_host(matrix, blocks, *graph, resources=resources), resources)
    values = read_blocks(matrix, blocks, resources=resources)
    if values.size:
        _Table(matrix, blocks, cp.asarray(neighbor_offsets), cp.asarray(neighbors), resources).subtract_from(values)
    return values


class _Table:
    """``expm1`` of the blocks' genes in the blocks' neighbours, on the current device."""

    def __init__(self, matrix: Any, blocks: Blocks, offsets: Any, neighbors: Any, resources: Resources) -> None:
        self._tiles, self._offsets = BlockTiles(blocks), offsets.astype(np.int64, copy=False)
        n_rows, n_columns = matrix.shape
        is_used = cp.zeros(n_rows, dtype=np.int32)
        cells = cp.asarray(blocks.rows)
        kernel("signature_blocks.cu", "mark_neighbors", type_options(Index=neighbors.dtype))(
            (-(-len(cells) // _THREADS),), (_THREADS,), (cells, np.int64(len(cells)), self._offsets, neighbors, is_used)
        )
        self._neighbors = (cp.cumsum(is_used) - 1).astype(np.int32)[neighbors]
        is_wanted = np.zeros(n_columns, dtype=bool)
        is_wanted[blocks.columns] = True
        place = np.where(is_wanted, np.cumsum(is_wanted) - 1, -1).astype(np.int32)
        self._columns = cp.asarray(place[blocks.columns].astype(np.int64))
        used = cp.flatnonzero(is_used)
        self._values = cp.zeros((len(used), int(is_wanted.sum())), dtype=matrix.dtype)
        rows = RowReader(matrix, resources).load(0, n_rows)
        kernel("signature_blocks.cu", "fill_table", rows.options)(
            (len(used),),
            (_THREADS,),
            (*rows.arguments, used, cp.asarray(place), np.int64(self._values.shape[1]), self._values),
        )

    def subtract_from(self, values: Any) -> None:
        """Replace x by the signature."""
        self._tiles.launch(
            "signature_blocks.cu",
            "subtract",
            type_options(Value=self._values.dtype),
            (),
            (self._columns, self._values, np.int64(self._values.shape[1]), self._offsets, self._neighbors, values),
        )
