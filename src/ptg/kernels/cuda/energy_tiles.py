"""Energy sums from tiles of cuBLAS products: float64, sparse or wide cells, resampling weights, older cards."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import cupy as cp
import cupyx.scipy.sparse as csp
import numpy as np

from ptg.kernels.cuda.source import kernel

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from ptg.kernels.contract.resources import Resources

_STRIPE = 32
"""Rows of a segment that one block of threads sums."""

_PANEL = 512
"""Columns multiplied at once; panels of wide float32 cells are added in float64."""

_BLOCK = 4096
"""Rows of a block, whatever the memory: the bits of a sum depend on it. A tile takes 0.4 GB in float64."""
_DRAWS = 32
"""Draws multiplied at once, always as many (padded with zeros): a draw's bits do not depend on their number."""

_CLOSENESS = {np.dtype(np.float32): 2.0**-10, np.dtype(np.float64): 2.0**-16}
"""A squared distance below this part of the squared norms has lost too many digits of the product."""


class _Tile(NamedTuple):
    """Two blocks of rows, the wanted pairs of segments in them and where their sums belong."""

    rows: slice
    columns: slice
    segments: NDArray[np.int32]
    """(n, 4): row begin and end, column begin and end, within the blocks."""
    pair: NDArray[np.int64]
    factor: NDArray[np.float64]


@dataclass(frozen=True)
class _Layout:
    offsets: NDArray[np.int64]
    keys: NDArray[np.int64]
    block: int

    def tiles(self) -> Iterator[_Tile]:
        """Every tile with a wanted pair, rows before columns."""
        n_blocks = -(-int(self.offsets[-1]) // self.block)
        for row in range(n_blocks):
            for column in range(row, n_blocks):
                tile = self._tile(row, column)
                if len(tile.pair):
                    yield tile

    def _slice(self, number: int) -> slice:
        return slice(number * self.block, min((number + 1) * self.block, int(self.offsets[-1])))

    def _groups(self, block: slice) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Return the groups with cells in a block, and where they begin and end in it."""
        first = int(np.searchsorted(self.offsets, block.start, side="right")) - 1
        last = int(np.searchsorted(self.offsets, block.stop, side="left"))
        bounds = np.clip(self.offsets[first : last + 1], block.start, block.stop) - block.start
        filled = np.flatnonzero(np.diff(bounds) > 0)
        return filled + first, bounds[filled], bounds[filled + 1]

    def _tile(self, row: int, column: int) -> _Tile:
        rows, columns = self._slice(row), self._slice(column)
        a, a_begin, a_end = self._groups(rows)
        b, b_begin, b_end = self._groups(columns)
        n_groups = len(self.offsets) - 1
        wanted = a[:, None] * n_groups + b
        at = np.minimum(np.searchsorted(self.keys, wanted), len(self.keys) - 1)
        found = self.keys[at] == wanted
        i, j = np.nonzero(found)
        segments = np.stack([a_begin[i], a_end[i], b_begin[j], b_end[j]], axis=1).astype(np.int32)
        # A group in both blocks: the mirrored tile, which is not computed, holds as much.
        twice = (a[i] == b[j]) & (row != column)
        return _Tile(rows, columns, segments, at[i, j], np.where(twice, 2.0, 1.0))


class _Rows:
    """Blocks of centred rows on the current device, dense, in the dtype of the cells."""

    def __init__(self, cells: Any) -> None:
        sparse = not isinstance(cells, (np.ndarray, cp.ndarray))
        self._cells = csp.csr_matrix(cells) if sparse else cp.asarray(cells)
        total = self._cells.sum(axis=0, dtype=np.float64) if not sparse else cp.asarray(_column_sums(self._cells))
        self._centre = (total.ravel() / cells.shape[0]).astype(cells.dtype)
        values = self._cells.data if sparse else self._cells
        largest = float(cp.abs(values).max()) if values.size else 0.0
        # A power of two, so that squares neither overflow nor vanish.
        self.unit = float(2.0 ** np.frexp(largest)[1]) if largest > 0 else 1.0
        self._sparse = sparse

    def block(self, rows: slice) -> Any:
        block = self._cells[rows.start : rows.stop]
        dense = block.toarray() if self._sparse else block
        return cp.ascontiguousarray((dense - self._centre) * dense.dtype.type(1.0 / self.unit))


def _column_sums(cells: Any) -> Any:
    return cp.bincount(cells.indices, weights=cells.data.astype(np.float64), minlength=cells.shape[1])


def tile_sums(
    cells: Any,
    offsets: NDArray[np.int64],
    keys: NDArray[np.int64],
    *,
    weights: NDArray[Any] | None,
    resources: Resources,
) -> NDArray[np.float64]:
    """Sum distances for sorted, different pairs ``low * n_groups + high``; the bits do not depend on the devices."""
    n_draws = 1 if weights is None else len(weights)
    layout = _Layout(offsets, keys, _BLOCK)
    tiles = list(layout.tiles()) if len(keys) else []
    work = [float((t.rows.stop - t.rows.start) * (t.columns.stop - t.columns.start)) for t in tiles]
    resources.progress.start(sum(work))
    parts: list[NDArray[np.float64]] = [np.empty(0)] * len(tiles)
    unit = 1.0
    for number, device in enumerate(resources.devices):
        with cp.cuda.Device(device):
            rows = _Rows(cells)
            unit = rows.unit
            for index in range(number, len(tiles), len(resources.devices)):
                parts[index] = _sum_tile(rows, tiles[index], weights)
                resources.progress.advance(work[index])
    sums = np.zeros((n_draws, len(keys)))
    for tile, part in zip(tiles, parts, strict=True):
        sums[:, tile.pair] += part * tile.factor  # a tile holds each pair once
    sums *= unit
    return sums if weights is not None else sums[0]


def _sum_tile(rows: _Rows, tile: _Tile, weights: NDArray[Any] | None) -> NDArray[np.float64]:
    """(n_draws or 1, n_segments) sums of one tile."""
    a = rows.block(tile.rows)
    b = a if tile.rows == tile.columns else rows.block(tile.columns)
    operands = _Operands(_product(a, b), _norms(a), _norms(b), a, b)
    if weights is None:
        sums: NDArray[np.float64] = _plain(operands, tile)[None]
        return sums
    return _weighted(operands.distances(), tile, weights)


def _product(a: Any, b: Any) -> Any:
    if a.shape[1] <= _PANEL or a.dtype == np.float64:
        return a @ b.T
    total = cp.zeros((len(a), len(b)), dtype=np.float64)
    for start in range(0, a.shape[1], _PANEL):
        panel = slice(start, start + _PANEL)
        total += cp.ascontiguousarray(a[:, panel]) @ cp.ascontiguousarray(b[:, panel]).T
    return total


def _norms(block: Any) -> Any:
    return cp.square(block.astype(np.float64)).sum(axis=1)


class _Operands:
    """A tile's product with what turns it into distances; one dtype throughout."""

    def __init__(self, product: Any, row_norms: Any, column_norms: Any, rows: Any, columns: Any) -> None:
        self.closeness = _CLOSENESS[np.dtype(rows.dtype)]
        self.dtype = product.dtype
        self.product = product
        self.arrays = tuple(x.astype(self.dtype, copy=False) for x in (row_norms, column_norms, rows, columns))
        self.width = rows.shape[1]

    def distances(self) -> Any:
        """Float64 distances, in the shape of the product."""
        out = cp.empty(self.product.shape, dtype=np.float64)
        kernel("energy_tiles.cu", f"distances_{self.dtype.name}")(
            (-(-out.size // 256),),
            (256,),
            (
                self.product,
                np.int64(out.size),
                np.int64(out.shape[1]),
                *self.arrays,
                np.int32(self.width),
                np.float64(self.closeness),
                out,
            ),
        )
        return out


def _plain(operands: _Operands, tile: _Tile) -> Any:
    """(n_segments,) sums of distances."""
    n_stripes = -(-int((tile.segments[:, 1] - tile.segments[:, 0]).max()) // _STRIPE)
    out = cp.empty((len(tile.segments), n_stripes), dtype=np.float64)
    kernel("energy_tiles.cu", f"segment_sums_{operands.dtype.name}")(
        (len(out), n_stripes),
        (256,),
        (
            operands.product,
            np.int64(operands.product.shape[1]),
            *operands.arrays,
            np.int32(operands.width),
            np.float64(operands.closeness),
            cp.asarray(tile.segments),
            np.int32(n_stripes),
            out,
        ),
    )
    return out.get().sum(axis=1)


def _weighted(distances: Any, tile: _Tile, weights: NDArray[Any]) -> NDArray[np.float64]:
    """(n_draws, n_segments): ``W D W'`` for the columns that each row segment is paired with."""
    n_draws = len(weights)
    padding = ((0, -n_draws % _DRAWS), (0, 0))
    row_weights = cp.asarray(np.pad(weights[:, tile.rows], padding)).astype(np.float64)
    column_weights = cp.asarray(np.pad(weights[:, tile.columns], padding)).astype(np.float64)
    sums = np.empty((n_draws, len(tile.segments)))
    starts = np.flatnonzero(np.r_[True, np.diff(tile.segments[:, 0]) > 0])
    pending = []
    for begin, end in zip(starts, [*starts[1:], len(tile.segments)], strict=True):
        some = tile.segments[begin:end]
        top, bottom = int(some[0, 0]), int(some[0, 1])
        first, last = int(some[:, 2].min()), int(some[:, 3].max())
        products = cp.empty((len(row_weights), last - first), dtype=np.float64)
        for draw in range(0, len(row_weights), _DRAWS):
            panel = cp.ascontiguousarray(row_weights[draw : draw + _DRAWS, top:bottom])
            products[draw : draw + _DRAWS] = panel @ distances[top:bottom, first:last]
        pending.append((begin, end, _weighted_sums(products, column_weights[:, first:last], some[:, 2:] - first)))
    for begin, end, part in pending:
        sums[:, begin:end] = part.get()[:n_draws]
    return sums


def _weighted_sums(products: Any, weights: Any, bounds: NDArray[np.int32]) -> Any:
    n_draws, n_columns = products.shape
    out = cp.empty((n_draws, len(bounds)), dtype=np.float64)
    kernel("energy_tiles.cu", "weighted_sums")(
        (-(-out.size // 8),),
        (256,),
        (
            products,
            cp.ascontiguousarray(weights),
            np.int64(n_columns),
            cp.asarray(np.ascontiguousarray(bounds)),
            np.int32(len(bounds)),
            np.int32(n_draws),
            out,
        ),
    )
    return out
