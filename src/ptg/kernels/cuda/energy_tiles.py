"""Energy sums from tiles of float64 cuBLAS products: float64, sparse or wide cells, weights of any size, old cards."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import cupy as cp
import numpy as np

from ptg.kernels.contract.resources import NO_PROGRESS
from ptg.kernels.cuda.devices import on_devices
from ptg.kernels.cuda.matrices import bring
from ptg.kernels.cuda.moments import group_sums
from ptg.kernels.cuda.source import kernel
from ptg.kernels.cuda.transfer import to_device

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ptg.kernels.contract.resources import Resources

_STRIPE = 32
"""Rows of a segment that one block of threads sums."""

_BLOCK = 4096
"""Rows of a block, whatever the memory: the bits of a sum depend on it. A tile takes 0.4 GB in float64."""
_DRAWS = 32
"""Draws that one block of threads multiplies by."""

_CLOSENESS = 2.0**-16
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

    def blocks(self) -> list[tuple[int, int]]:
        """Every pair of blocks, rows before columns."""
        n_blocks = -(-int(self.offsets[-1]) // self.block)
        return [(row, column) for row in range(n_blocks) for column in range(row, n_blocks)]

    def _slice(self, number: int) -> slice:
        return slice(number * self.block, min((number + 1) * self.block, int(self.offsets[-1])))

    def _groups(self, block: slice) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Return the groups with cells in a block, and where they begin and end in it."""
        first = int(np.searchsorted(self.offsets, block.start, side="right")) - 1
        last = int(np.searchsorted(self.offsets, block.stop, side="left"))
        bounds = np.clip(self.offsets[first : last + 1], block.start, block.stop) - block.start
        filled = np.flatnonzero(np.diff(bounds) > 0)
        return filled + first, bounds[filled], bounds[filled + 1]

    def tile(self, row: int, column: int) -> _Tile:
        """Find the wanted pairs of groups in a pair of blocks; there may be none."""
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


class _Block(NamedTuple):
    """Centred, scaled rows and their squared norms, in float64 whatever the cells are.

    float32 would be right for cells, but not for sums of many that are much closer to each other than to the centre:
    their rounding does not average out.
    """

    values: Any
    norms: Any


class _Rows:
    """Blocks of centred rows on the current device; the last two are kept."""

    def __init__(self, cells: Any, resources: Resources) -> None:
        self._cells = bring(cells, resources)
        self._sparse = not isinstance(self._cells, cp.ndarray)
        alone = replace(resources, progress=NO_PROGRESS, devices=(cp.cuda.runtime.getDevice(),))
        total = group_sums(self._cells, np.array([0, cells.shape[0]]), resources=alone)
        self._centre = cp.asarray(total).ravel() / cells.shape[0]
        values = self._cells.data if self._sparse else self._cells
        largest = float(cp.abs(values).max()) if values.size else 0.0
        # A power of two, so that squares neither overflow nor vanish.
        self.unit = float(2.0 ** np.frexp(largest)[1]) if largest > 0 else 1.0
        self._kept: dict[int, _Block] = {}

    def block(self, rows: slice) -> _Block:
        block = self._kept.pop(rows.start, None) or self._make(rows)
        self._kept = dict([*self._kept.items(), (rows.start, block)][-2:])
        return block

    def _make(self, rows: slice) -> _Block:
        part = self._cells[rows.start : rows.stop]
        values = (part.toarray() if self._sparse else part).astype(np.float64, order="C")
        values -= self._centre
        values *= 1.0 / self.unit
        return _Block(values, cp.square(values).sum(axis=1))


def tile_sums(
    cells: Any,
    offsets: NDArray[np.int64],
    keys: NDArray[np.int64],
    *,
    weights: NDArray[Any] | None,
    resources: Resources,
) -> Any:
    """Sum distances for sorted, different pairs ``low * n_groups + high``; the bits do not depend on the devices."""
    n_draws = 1 if weights is None else len(weights)
    layout = _Layout(offsets, keys, _BLOCK)
    n_devices = len(resources.devices)
    blocks = layout.blocks() if len(keys) else []
    resources.progress.start(float(len(blocks)))

    def sum_share(share: list[tuple[int, int]]) -> tuple[list[tuple[_Tile, Any] | None], float]:
        rows = _Rows(cells, resources)
        draws = None if weights is None else to_device(weights, resources)
        parts: list[tuple[_Tile, Any] | None] = []
        for row, column in share:
            tile = layout.tile(row, column)
            parts.append((tile, _sum_tile(rows, tile, draws)) if len(tile.pair) else None)
            resources.progress.advance(1.0)
        return parts, rows.unit

    shares = on_devices(sum_share, [blocks[k::n_devices] for k in range(n_devices)], resources.devices)
    sums = cp.zeros((n_draws, len(keys)))
    for index in range(len(blocks)):
        found = shares[index % n_devices][0][index // n_devices]
        if found is not None:
            tile, part = found
            sums[:, cp.asarray(tile.pair)] += cp.asarray(part) * cp.asarray(tile.factor)  # a tile holds each pair once
    sums *= shares[0][1]
    return sums if weights is not None else sums[0]


def _sum_tile(rows: _Rows, tile: _Tile, weights: Any) -> Any:
    """(n_draws or 1, n_segments) sums of one tile."""
    a, b = rows.block(tile.rows), rows.block(tile.columns)
    product = a.values @ b.values.T
    operands = (a.norms, b.norms, a.values, b.values, np.int32(a.values.shape[1]), np.float64(_CLOSENESS))
    if weights is None:
        return _plain(product, operands, tile)
    kernel("energy_tiles.cu", "distances")(
        (-(-product.size // 256),),
        (256,),
        (product, np.int64(product.size), np.int64(product.shape[1]), *operands),
    )
    return _weighted(product, tile, weights)


def _plain(product: Any, operands: tuple[Any, ...], tile: _Tile) -> Any:
    """(1, n_segments) sums of distances."""
    n_stripes = -(-int((tile.segments[:, 1] - tile.segments[:, 0]).max()) // _STRIPE)
    out = cp.empty((len(tile.segments), n_stripes, 1), dtype=np.float64)
    kernel("energy_tiles.cu", "segment_sums")(
        (len(out), n_stripes),
        (256,),
        (product, np.int64(product.shape[1]), *operands, cp.asarray(tile.segments), np.int32(n_stripes), out),
    )
    return _add_stripes(out)


def _weighted(distances: Any, tile: _Tile, weights: Any) -> Any:
    """(n_draws, n_segments): ``W D W'`` of every segment."""
    n_draws = len(weights)
    row_weights, column_weights = (
        cp.ascontiguousarray(weights[:, some]).astype(np.float64) for some in (tile.rows, tile.columns)
    )
    n_stripes = -(-int((tile.segments[:, 1] - tile.segments[:, 0]).max()) // _STRIPE)
    out = cp.empty((len(tile.segments), n_stripes, n_draws), dtype=np.float64)
    kernel("energy_tiles.cu", "weighted_sums")(
        (len(tile.segments), n_stripes, -(-n_draws // _DRAWS)),
        (256,),
        (
            distances,
            np.int32(distances.shape[0]),
            np.int32(distances.shape[1]),
            row_weights,
            column_weights,
            cp.asarray(tile.segments),
            np.int32(n_draws),
            out,
        ),
    )
    return _add_stripes(out)


def _add_stripes(parts: Any) -> Any:
    """(n_draws, n_segments) from (n_segments, n_stripes, n_draws), added in an order that no shape changes."""
    n_segments, n_stripes, n_draws = parts.shape
    out = cp.empty((n_draws, n_segments), dtype=np.float64)
    kernel("energy_tiles.cu", "add_stripes")(
        (-(-out.size // 256),), (256,), (parts, np.int32(n_segments), np.int32(n_stripes), np.int32(n_draws), out)
    )
    return out
