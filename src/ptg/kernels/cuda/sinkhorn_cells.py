"""Cells made ready for transport on the current device: centred on their groups, with masses and moments."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import cupy as cp
import numpy as np

from ptg.kernels.cuda.rows import RowReader
from ptg.kernels.cuda.source import kernel, type_options

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ptg.kernels.contract.resources import Resources

PANEL = 64
"""Columns multiplied at once."""

_WARPS = 8
_LANES = 4


class Panel(NamedTuple):
    """Some columns of all cells, each cell centred on its group.

    Attributes
    ----------
    cells
        (n_cells, stride): zeros from column `width` to `stride`, a multiple of 4.
    centres
        (n_groups, stride) float64: what was subtracted.
    """

    cells: Any
    centres: Any
    width: int

    @property
    def stride(self) -> int:
        """Columns with padding."""
        return int(self.cells.shape[1])


class CentredCells:
    """Dense or CSR cells, centred on their groups in panels of columns.

    Parameters
    ----------
    cells, offsets
        As in the contract.
    dtype
        What centred cells are rounded to.
    resources
        All panels are kept where they take no more than a quarter of the memory, and made again otherwise.

    Attributes
    ----------
    norms
        (n_cells,) float64: squared norms of the centred cells.
    """

    def __init__(self, cells: Any, offsets: NDArray[np.int64], dtype: Any, resources: Resources) -> None:
        reader = RowReader(cells, resources)
        self.dtype = np.dtype(dtype)
        self.n_cells, self.n_columns, self.n_groups = int(offsets[-1]), int(cells.shape[1]), len(offsets) - 1
        self._rows = reader.load(0, reader.n_rows)
        self._offsets = cp.asarray(offsets)
        groups = np.repeat(np.arange(self.n_groups, dtype=np.int32), np.diff(offsets))
        self._group_of_cell = cp.asarray(groups)
        self.norms = cp.zeros(self.n_cells)
        self._starts = range(0, max(self.n_columns, 1), PANEL)
        keeps = len(self._starts) == 1 or 4 * self.n_cells * self.n_columns * self.dtype.itemsize <= resources.memory
        self._kept: list[Panel] = []
        for first in self._starts:
            panel = self._make(first, counts=True)
            if keeps:
                self._kept.append(panel)

    def panels(self) -> Iterator[Panel]:
        """Every panel, from the first columns to the last."""
        if self._kept:
            yield from self._kept
        else:
            for first in self._starts:
                yield self._make(first, counts=False)

    def _make(self, first: int, *, counts: bool) -> Panel:
        """Make a panel, and with `counts` add its part of the norms."""
        width = min(PANEL, self.n_columns - first)
        stride = max(-(-width // 4) * 4, 4)
        values = cp.empty((self.n_cells, stride))
        centres = cp.empty((self.n_groups, stride))
        cells = cp.empty((self.n_cells, stride), dtype=self.dtype)
        by_warp, threads = (-(-self.n_cells // _WARPS),), (_WARPS * 32,)
        load = kernel("sinkhorn_cells.cu", "load_panel", self._rows.options)
        load(by_warp, threads, (*self._rows.arguments, np.int32(first), np.int32(width), np.int32(stride), values))
        centre = kernel("sinkhorn_cells.cu", "centre_groups")
        centre((self.n_groups,), (PANEL, 16), (values, self._offsets, np.int32(stride), centres))
        subtract = kernel("sinkhorn_cells.cu", "centre_cells", type_options(Real=self.dtype))
        arguments = (values, self._group_of_cell, centres, np.int64(self.n_cells), np.int32(stride), cells, self.norms)
        subtract(by_warp, threads, (*arguments, np.int32(counts)))
        return Panel(cells, centres, width)


class Sets(NamedTuple):
    """The cells with mass of every group in every draw; set ``draw * n_groups + group``.

    Attributes
    ----------
    bounds
        (n_sets + 1,) int64 on the host: places of each set in the lists.
    offsets
        The same on the device.
    place_cell
        (n_places,) int32: cell of each place.
    mass
        (n_places,) float64: masses of a set sum to 1.
    """

    bounds: NDArray[np.int64]
    offsets: Any
    place_cell: Any
    mass: Any

    @property
    def sizes(self) -> NDArray[np.int64]:
        """Number of cells of each set."""
        return np.diff(self.bounds)


def make_sets(offsets: NDArray[np.int64], weights: NDArray[Any] | None) -> Sets:
    """List the cells of every group, or in every draw those whose weight is not 0."""
    sizes = np.diff(offsets)
    if weights is None:
        bounds, place_cell = offsets, np.arange(offsets[-1], dtype=np.int32)
        mass = np.repeat(1.0 / np.maximum(sizes, 1), sizes)
    else:
        draw, cell = np.nonzero(weights)
        place_cell = cell.astype(np.int32)
        own = weights[draw, cell].astype(np.float64)
        places = draw * offsets[-1] + cell
        starts = (np.arange(len(weights))[:, None] * offsets[-1] + offsets[:-1]).ravel()
        bounds = np.append(np.searchsorted(places, starts), len(places))
        in_set = np.repeat(np.arange(len(starts)), np.diff(bounds))
        mass = own / np.bincount(in_set, weights=own, minlength=len(starts))[in_set]
    return Sets(bounds, cp.asarray(bounds), cp.asarray(place_cell), cp.asarray(mass))


def set_means(panel: Panel, sets: Sets, trace: Any, *, joins: bool) -> Any:
    """Mean of every set, (n_sets, stride) float64; add to `trace`, (n_sets,), or with ``joins=False`` set it."""
    n_sets = len(sets.bounds) - 1
    mean = cp.empty((n_sets, panel.stride))
    find = kernel("sinkhorn_cells.cu", "set_means", type_options(Real=panel.cells.dtype))
    arguments = (sets.offsets, sets.place_cell, sets.mass, panel.cells, np.int32(panel.stride), mean, trace)
    find((n_sets,), (PANEL, _LANES), (*arguments, np.int32(joins)))
    return mean


def pair_means(panel: Panel, means: Any, pairs: Any, found: Any, *, joins: bool) -> None:
    """Add what a panel has of the squared distance of means and of their product to `found`, (n_pairs, 2)."""
    n_pairs, n_groups = len(found), len(panel.centres)
    add = kernel("sinkhorn_cells.cu", "pair_means")
    arguments = (pairs, np.int64(n_pairs), panel.centres, means, np.int32(n_groups), np.int32(panel.stride), found)
    add((-(-n_pairs // _WARPS),), (_WARPS * 32,), (*arguments, np.int32(joins)))


class Constants(NamedTuple):
    """Parts of the costs of pairs that are no sums over pairs of cells, (n_pairs,), on the host.

    Attributes
    ----------
    traces
        (2, n_pairs): mean squared distance of the cells of either set from their mean.
    distance
        Squared distance of the means.
    product
        Product of the means, each counted from where its group was centred.
    """

    traces: NDArray[np.float64]
    distance: NDArray[np.float64]
    product: NDArray[np.float64]

    @property
    def mean_cost(self) -> NDArray[np.float64]:
        """``sum(a C b)``."""
        mean: NDArray[np.float64] = self.traces.sum(axis=0) + self.distance
        return mean


def constants(trace: Any, found: Any, pairs: NDArray[np.int32]) -> Constants:
    """Copy what `set_means` and `pair_means` have summed to the host."""
    on_host = cp.asnumpy(found)
    return Constants(cp.asnumpy(trace)[pairs.T], on_host[:, 0], on_host[:, 1])
