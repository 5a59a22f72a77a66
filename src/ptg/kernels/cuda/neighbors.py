"""Nearest neighbours and averages over them, on GPUs: see `ptg.kernels.contract.neighbors`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import cupy as cp
import numpy as np

from ptg.kernels.cuda.approximate import APPROXIMATE
from ptg.kernels.cuda.devices import on_devices
from ptg.kernels.cuda.download import Downloads
from ptg.kernels.cuda.memory import reports_memory, with_fitting_size
from ptg.kernels.cuda.neighbor_means import neighbor_signature
from ptg.kernels.cuda.pieces import share_out
from ptg.kernels.cuda.signature_blocks import signature_blocks
from ptg.kernels.cuda.source import kernel
from ptg.kernels.cuda.transfer import to_device

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ptg.kernels.contract.resources import Resources

__all__ = ["APPROXIMATE", "nearest", "neighbor_signature", "signature_blocks"]

_TILE = 128
"""References that a warp looks at together, as in `neighbor_search.cu`."""

_QUERIES = 8
"""Queries of a warp."""

_WARPS = 4
_SHARED = 48 << 10
"""Bytes that a block may always have."""

_ROUNDING = 2.0**-22
"""Four times the rounding error of one float32 operation."""

_UNDERFLOW = 2.0**-120
"""More than what is lost where float32 numbers near zero lose their digits."""

_SMALLEST = 2.0**-1074
"""More than what a square loses where float64 numbers near zero lose theirs."""

_SMALLEST_PIECE = 1024
_LARGEST_PIECE = 1 << 20
"""Queries at a time: results of one piece travel while the next is computed."""


@reports_memory
def nearest(
    reference: NDArray[Any], query: NDArray[Any], k: int, *, resources: Resources
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Find the nearest reference points: see the contract."""
    n_queries, n_dims = query.shape
    dtype = np.result_type(reference.dtype, query.dtype, np.float32)
    indices = np.empty((n_queries, k), dtype=np.int64)
    squared = np.empty((n_queries, k))
    resources.progress.start(float(n_queries))
    per_query = n_dims * (dtype.itemsize + 8) + 24 * k + 64
    size = int(np.clip(resources.memory // 2 // per_query, _SMALLEST_PIECE, _LARGEST_PIECE))

    def search(share: tuple[int, int]) -> bool:
        references = _References(to_device(reference, resources).astype(dtype, copy=False))

        def search_pieces(size: int) -> bool:
            finite = True
            with Downloads(resources) as downloads:
                for first in range(*share, size):
                    stop = min(first + size, share[1])
                    points = to_device(query[first:stop], resources).astype(dtype, copy=False)
                    found, distances = _search(points, references, k)
                    finite &= bool(cp.isfinite(distances).view(np.uint8).min())  # `all` would be compiled for seconds
                    downloads.start(found.astype(np.int64), indices[first:stop])
                    downloads.start(distances, squared[first:stop])
                    resources.progress.advance(float(stop - first))
            return finite

        return with_fitting_size(search_pieces, size, smallest=_SMALLEST_PIECE, what="queries at once")

    shares = share_out(np.arange(n_queries + 1), len(resources.devices))
    if not all(on_devices(search, shares, resources.devices)):
        raise FloatingPointError("squared distances overflow float64: scale the points down")
    return indices, squared


class _Coarse(NamedTuple):
    """Float32 copy of points, centred and scaled, as `neighbor_search.cu` reads it; squared norms in float64."""

    values: Any
    squares: Any


class _References:
    """What all searches on a device share."""

    def __init__(self, points: Any) -> None:
        self.points = points
        self.centre = points.mean(axis=0, dtype=np.float64)
        self.largest = cp.abs(points - self.centre).max() if points.size else cp.zeros(())

    def scale_with(self, points: Any) -> float:
        """Return the power of two that brings all coordinates of references and points below 1."""
        largest = float(cp.maximum(self.largest, cp.abs(points - self.centre).max()) if points.size else self.largest)
        # Beyond 2^500 squares would overflow in turn.
        return float(2.0 ** -max(np.ceil(np.log2(largest)), -500.0)) if largest > 0 else 1.0

    def coarse(self, points: Any, scale: float, factor: float, group: int) -> _Coarse:
        """Round centred and scaled points, `group` of them together."""
        n, n_dims = points.shape
        n_padded, padded_dims = -(-n // group) * group, _padded(n_dims)
        values = cp.empty((n_padded // group, padded_dims, group), dtype=np.float32)
        squares = cp.empty(n_padded, dtype=np.float64)
        kernel("neighbor_search.cu", f"coarse_points_{points.dtype.name}")(
            (-(-n_padded // 256),),
            (256,),
            (
                points,
                self.centre,
                np.float64(scale),
                np.float64(factor),
                np.int64(n),
                np.int64(n_padded),
                np.int32(n_dims),
                np.int32(padded_dims),
                np.int32(group),
                values,
                squares,
            ),
        )
        return _Coarse(values, squares)


def _padded(n_dims: int) -> int:
    """Dimensions of the float32 copies: a multiple of 4."""
    return max(-(-n_dims // 4) * 4, 4)


def _search(points: Any, references: _References, k: int) -> tuple[Any, Any]:
    """Positions (int32) and squared distances of the neighbours, on the current device."""
    n, n_dims = points.shape
    n_references = len(references.points)
    found = cp.empty((n, k), dtype=np.int32)
    distances = cp.empty((n, k), dtype=np.float64)
    if n == 0:
        return found, distances
    scale = references.scale_with(points)
    coarse = references.coarse(references.points, scale, -2.0, _TILE)
    queries = references.coarse(points, scale, 1.0, _QUERIES)
    squares = coarse.squares.astype(np.float32)
    squares[n_references:] = np.inf
    list_bytes = _WARPS * _QUERIES * k * 12
    in_shared = list_bytes <= _SHARED
    kernel("neighbor_search.cu", f"nearest_{points.dtype.name}")(
        (-(-n // (_WARPS * _QUERIES)),),
        (_WARPS * 32,),
        (
            queries.values,
            queries.squares,
            points,
            coarse.values,
            squares,
            cp.sqrt(coarse.squares.reshape(-1, _TILE).max(axis=1)),
            references.points,
            np.float64(scale),
            np.float64((n_dims + 8) * _ROUNDING),
            np.float64(n_dims * _SMALLEST * scale * scale + _UNDERFLOW),
            np.int64(n),
            np.int32(n_references),
            np.int32(n_dims),
            np.int32(_padded(n_dims)),
            np.int32(k),
            np.int32(in_shared),
            distances,
            found,
        ),
        shared_mem=list_bytes if in_shared else 0,
    )
    return found, distances
