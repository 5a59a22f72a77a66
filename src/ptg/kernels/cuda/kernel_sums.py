"""Sums of functions of two cells between groups, on GPUs: see `ptg.kernels.contract.kernel_sums`.

The cells are cut into blocks; the values of a pair of blocks are made in float64, summed over the columns by group, and
then over the rows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cupy as cp
import numpy as np

from ptg.kernels.blocks import Tile, cut_blocks, find_pairs, pairs_of_blocks
from ptg.kernels.cuda.devices import on_devices
from ptg.kernels.cuda.matrices import bring
from ptg.kernels.cuda.memory import within_memory
from ptg.kernels.cuda.source import kernel
from ptg.kernels.cuda.transfer import to_device

if TYPE_CHECKING:
    import scipy.sparse as sp
    from numpy.typing import NDArray

    from ptg.kernels.contract.kernel_sums import CellFunction
    from ptg.kernels.contract.resources import Resources

_THREADS = 256
_EDGE = 64
"""Rows and columns of the values that a block of threads makes."""

_ROWS, _ROWS_IF_WIDE, _WIDE = 2048, 512, 2048
"""Rows of a block, whatever the memory, as the bits of a sum depend on them; and those of cells with many columns."""

_PARTS = 1 << 26
"""Partial sums of draws in memory at once, at most: half a gigabyte."""

_OPTIONS = {
    "cityblock": ("-DACCUMULATE=1", "-DFINISH=0"),
    "chebyshev": ("-DACCUMULATE=2", "-DFINISH=0"),
    "rbf": ("-DACCUMULATE=0", "-DFINISH=1"),
    "poly": ("-DACCUMULATE=3", "-DFINISH=2"),
}


@within_memory
def kernel_sums(
    cells: NDArray[Any] | sp.csr_matrix[Any],
    offsets: NDArray[Any],
    left: NDArray[Any],
    right: NDArray[Any],
    *,
    function: CellFunction,
    weights: NDArray[Any] | None = None,
    resources: Resources,
) -> Any:
    """Sum a function of two cells over the cells of two groups, for many pairs: see the contract.

    The result is an array on the first of the devices.
    """
    offsets, left, right = (cp.asnumpy(numbers).astype(np.int64) for numbers in (offsets, left, right))
    low, high = np.minimum(left, right), np.maximum(left, right)
    keys, position = np.unique(low * (len(offsets) - 1) + high, return_inverse=True)
    tiles = _tiles(offsets, keys, _ROWS if cells.shape[1] <= _WIDE else _ROWS_IF_WIDE)
    resources.progress.start(float(len(tiles)))

    def sum_share(share: list[Tile]) -> list[NDArray[np.float64]]:
        rows = _Rows(cells, resources)
        draws = None if weights is None else to_device(weights, resources)
        parts = []
        for tile in share:
            parts.append(_sum_tile(rows, tile, function, (draws, resources.memory)))
            resources.progress.advance(1.0)
        return [part.get() for part in parts]

    n_devices = len(resources.devices)
    shares = [tiles[number::n_devices] for number in range(n_devices)]
    by_device = on_devices(sum_share, shares, resources.devices)
    sums = np.zeros((1 if weights is None else len(weights), len(keys)))
    for number, tile in enumerate(tiles):
        part = by_device[number % n_devices][number // n_devices]
        sums[:, tile.places] += part * tile.factor  # a tile holds each pair once
    with cp.cuda.Device(resources.devices[0]):
        return cp.asarray(sums[0, position] if weights is None else sums[:, position])


def _tiles(offsets: NDArray[np.int64], keys: NDArray[np.int64], n_rows: int) -> list[Tile]:
    """Find the tiles that hold a wanted pair."""
    blocks = cut_blocks(offsets, n_rows) if len(keys) else []
    n_groups = len(offsets) - 1
    tiles = (find_pairs(*pair, keys, n_groups) for pair in pairs_of_blocks(blocks, keys, n_groups))
    return [tile for tile in tiles if len(tile.pairs)]


class _Rows:
    """Dense float64 blocks of the cells on the current device; the last two are kept."""

    def __init__(self, cells: Any, resources: Resources) -> None:
        self._cells = bring(cells, resources)
        self._sparse = not isinstance(self._cells, cp.ndarray)
        self._kept: dict[int, Any] = {}

    def block(self, rows: slice) -> Any:
        if rows.start in self._kept:
            return self._kept[rows.start]
        part = self._cells[rows.start : rows.stop]
        block = cp.ascontiguousarray((part.toarray() if self._sparse else part).astype(np.float64))
        self._kept = dict([*self._kept.items(), (rows.start, block)][-2:])
        return block


def _sum_tile(rows: _Rows, tile: Tile, function: CellFunction, draws: tuple[Any, int]) -> Any:
    """(n_draws or 1, n_pairs) sums of a tile, on the current device; `draws` are weights and the memory for them."""
    weights, memory = draws
    values = _values(rows.block(tile.rows.cells), rows.block(tile.columns.cells), function)
    n_draws = 1 if weights is None else len(weights)
    at_once = max(1, min(_PARTS, memory // 8) // (values.shape[0] * len(tile.columns.groups)))
    sums = cp.empty((n_draws, len(tile.pairs)))
    for first in range(0, n_draws, at_once):
        some = slice(first, min(first + at_once, n_draws))
        sums[some] = _weighted_sums(values, tile, None if weights is None else weights[some])
    return sums


def _values(rows: Any, columns: Any, function: CellFunction) -> Any:
    out = cp.empty((len(rows), len(columns)))
    kernel("kernel_sums.cu", "values", _OPTIONS[function.name])(
        (-(-len(columns) // _EDGE), -(-len(rows) // _EDGE)),
        (_THREADS,),
        (
            rows,
            columns,
            np.int32(len(rows)),
            np.int32(len(columns)),
            np.int32(rows.shape[1]),
            np.float64(function.gamma),
            np.int32(function.degree),
            out,
        ),
    )
    return out


def _weighted_sums(values: Any, tile: Tile, weights: Any) -> Any:
    """(n_draws or 1, n_pairs): sum over the columns of each group, then over the rows."""
    n_rows, n_columns = values.shape
    n_segments, n_pairs = len(tile.columns.groups), len(tile.pairs)
    none = np.uint64(0)
    row_weights, column_weights = (
        none if weights is None else cp.ascontiguousarray(weights[:, part.cells]).astype(np.float64)
        for part in (tile.rows, tile.columns)
    )
    n_draws = 1 if weights is None else len(weights)
    parts = cp.empty((n_draws, n_rows, n_segments))
    warps = _THREADS // 32
    kernel("kernel_sums.cu", "sum_columns", _OPTIONS["rbf"])(
        (-(-parts.size // warps),),
        (_THREADS,),
        (
            values,
            column_weights,
            cp.asarray(tile.columns.bounds.astype(np.int32)),
            np.int32(n_draws),
            np.int32(n_rows),
            np.int32(n_columns),
            np.int32(n_segments),
            parts,
        ),
    )
    out = cp.empty((n_draws, n_pairs))
    kernel("kernel_sums.cu", "sum_rows", _OPTIONS["rbf"])(
        (-(-out.size // warps),),
        (_THREADS,),
        (
            parts,
            row_weights,
            cp.asarray(tile.rows.bounds.astype(np.int32)),
            cp.asarray(tile.pairs.astype(np.int32)),
            np.int32(n_draws),
            np.int32(n_rows),
            np.int32(n_segments),
            np.int32(n_pairs),
            out,
        ),
    )
    return out
