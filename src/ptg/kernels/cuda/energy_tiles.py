"""Energy sums from tiles of float64 cuBLAS products: float64, sparse or wide cells, weights of any size, old cards."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import cupy as cp
import numpy as np

from ptg.kernels.blocks import Block, Tile, cut_blocks, find_pairs, pairs_of_blocks
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


class _Centred(NamedTuple):
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
        self._kept: dict[int, _Centred] = {}

    def block(self, rows: slice) -> _Centred:
        block = self._kept.pop(rows.start, None) or self._make(rows)
        self._kept = dict([*self._kept.items(), (rows.start, block)][-2:])
        return block

    def _make(self, rows: slice) -> _Centred:
        part = self._cells[rows.start : rows.stop]
        values = (part.toarray() if self._sparse else part).astype(np.float64, order="C")
        values -= self._centre
        values *= 1.0 / self.unit
        return _Centred(values, cp.square(values).sum(axis=1))


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
    blocks = cut_blocks(offsets, _BLOCK) if len(keys) else []
    block_pairs = pairs_of_blocks(blocks, keys, len(offsets) - 1)
    n_devices = len(resources.devices)
    resources.progress.start(float(len(block_pairs)))

    def sum_share(share: list[tuple[Block, Block]]) -> tuple[list[tuple[Tile, Any] | None], float]:
        rows = _Rows(cells, resources)
        draws = None if weights is None else to_device(weights, resources)
        parts: list[tuple[Tile, Any] | None] = []
        for pair in share:
            tile = find_pairs(*pair, keys, len(offsets) - 1)
            parts.append((tile, _sum_tile(rows, tile, draws, resources.memory)) if len(tile.pairs) else None)
            resources.progress.advance(1.0)
        return parts, rows.unit

    shares = on_devices(sum_share, [block_pairs[k::n_devices] for k in range(n_devices)], resources.devices)
    sums = cp.zeros((n_draws, len(keys)))
    for index in range(len(block_pairs)):
        found = shares[index % n_devices][0][index // n_devices]
        if found is not None:
            tile, part = found
            places, factor = cp.asarray(tile.places), cp.asarray(tile.factor)
            sums[:, places] += cp.asarray(part) * factor  # a tile holds each pair once
    sums *= shares[0][1]
    return sums if weights is not None else sums[0]


def _sum_tile(rows: _Rows, tile: Tile, weights: Any, memory: int) -> Any:
    """(n_draws or 1, n_segments) sums of one tile, a segment for each of its pairs.

    There are partial sums of as many draws at a time as memory holds.
    """
    a, b = rows.block(tile.rows.cells), rows.block(tile.columns.cells)
    product = a.values @ b.values.T
    operands = (a.norms, b.norms, a.values, b.values, np.int32(a.values.shape[1]), np.float64(_CLOSENESS))
    if weights is None:
        return _plain(product, operands, tile)
    kernel("energy_tiles.cu", "distances")(
        (-(-product.size // 256),),
        (256,),
        (product, np.int64(product.size), np.int64(product.shape[1]), *operands),
    )
    segments, n_stripes = _segments(tile)
    at_once = max(memory // (8 * len(segments) * n_stripes) // _DRAWS, 1) * _DRAWS
    return cp.concatenate(
        [_weighted(product, tile, weights[first : first + at_once]) for first in range(0, len(weights), at_once)]
    )


def _segments(tile: Tile) -> tuple[Any, int]:
    """(n_segments, 4), row begin and end, column begin and end within the blocks; and the most stripes of one."""
    a, b = tile.pairs.T
    rows, columns = tile.rows.bounds, tile.columns.bounds
    segments = np.stack([rows[a], rows[a + 1], columns[b], columns[b + 1]], axis=1).astype(np.int32)
    return cp.asarray(segments), -(-int((segments[:, 1] - segments[:, 0]).max()) // _STRIPE)


def _plain(product: Any, operands: tuple[Any, ...], tile: Tile) -> Any:
    """(1, n_segments) sums of distances."""
    segments, n_stripes = _segments(tile)
    out = cp.empty((len(segments), n_stripes, 1), dtype=np.float64)
    kernel("energy_tiles.cu", "segment_sums")(
        (len(out), n_stripes),
        (256,),
        (product, np.int64(product.shape[1]), *operands, segments, np.int32(n_stripes), out),
    )
    return _add_stripes(out)


def _weighted(distances: Any, tile: Tile, weights: Any) -> Any:
    """(n_draws, n_segments): ``W D W'`` of every segment."""
    n_draws = len(weights)
    row_weights, column_weights = (
        cp.ascontiguousarray(weights[:, block.cells]).astype(np.float64) for block in (tile.rows, tile.columns)
    )
    segments, n_stripes = _segments(tile)
    out = cp.empty((len(segments), n_stripes, n_draws), dtype=np.float64)
    kernel("energy_tiles.cu", "weighted_sums")(
        (len(segments), n_stripes, -(-n_draws // _DRAWS)),
        (256,),
        (
            distances,
            np.int32(distances.shape[0]),
            np.int32(distances.shape[1]),
            row_weights,
            column_weights,
            segments,
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
