"""Entropic optimal transport between groups, on GPUs: see `ptg.kernels.contract.sinkhorn`.

The larger group of a pair gives the rows of a matrix of exponents, made once from products of centred cells
(`sinkhorn_products.cu`). An iteration reads it once (`sinkhorn_sweep.cu`) and takes one accelerated step
(`sinkhorn_step.cu`). Many pairs are solved in step with each other (`sinkhorn_batch`), those that do not fit in memory
one by one (`sinkhorn_large`). A power of two per entry and pass costs less than reading the entry, so potentials are
absorbed whenever they have moved by a factor of 16, and nothing is made anew for that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import cupy as cp
import numpy as np

from ptg.kernels.contract.sinkhorn import Transport
from ptg.kernels.cuda.devices import on_devices
from ptg.kernels.cuda.memory import within_memory
from ptg.kernels.cuda.pieces import share_out
from ptg.kernels.cuda.sinkhorn_batch import Inputs, Limits, solve_wave
from ptg.kernels.cuda.sinkhorn_cells import (
    CentredCells,
    Constants,
    Sets,
    constants,
    make_sets,
    pair_means,
    set_means,
)
from ptg.kernels.cuda.sinkhorn_deviations import deviations
from ptg.kernels.cuda.sinkhorn_large import solve_large
from ptg.kernels.cuda.sinkhorn_plan import SHAPES, STATE, cut_waves, make_tasks, task_bytes

if TYPE_CHECKING:
    import scipy.sparse as sp
    from numpy.typing import NDArray

    from ptg.kernels.contract.resources import Resources

_LISTED = 16
"""Bytes that a cell of a draw takes in the lists."""

_OF_SET = 80_000
"""Bytes that the moments of a set take."""


class _Work(NamedTuple):
    """Pairs of sets of some draws without empty ones, and where their results belong.

    Attributes
    ----------
    sets
        Set ``draw * n_groups + group``, draws counted from the first of these.
    places
        (n,): place among all draws and pairs, draws first.
    pairs
        (n, 2) int32: sets, that of the lower group first.
    """

    sets: Sets
    places: NDArray[np.int64]
    pairs: NDArray[np.int32]


class _Request(NamedTuple):
    """What is asked for, on the host: pairs of groups, (n_pairs, 2), in every draw."""

    offsets: NDArray[np.int64]
    groups: NDArray[np.int64]
    weights: NDArray[Any] | None
    resources: Resources

    @property
    def shape(self) -> tuple[int, int]:
        """Draws and pairs."""
        return 1 if self.weights is None else len(self.weights), len(self.groups)

    def result(self, values: NDArray[Any]) -> Any:
        """Return values of all draws and pairs as the contract wants them, on the current device."""
        return cp.asarray(values[0] if self.weights is None else values)

    def work(self, first: int, stop: int) -> Iterator[_Work]:
        """Yield the pairs `first` to ``stop - 1`` of so many draws at a time as fit."""
        (n_draws, n_pairs), n_groups = self.shape, len(self.offsets) - 1
        of_draw = int(self.offsets[-1]) * _LISTED + n_groups * _OF_SET
        at_once = max(self.resources.memory // 4 // of_draw, 1)
        ordered = np.sort(self.groups[first:stop], axis=1)
        for begin in range(0, n_draws, at_once):
            end = min(begin + at_once, n_draws)
            sets = make_sets(self.offsets, None if self.weights is None else self.weights[begin:end])
            draws = np.arange(end - begin)[:, None]
            pairs = (draws[:, :, None] * n_groups + ordered).reshape(-1, 2)
            places = ((draws + begin) * n_pairs + np.arange(first, stop)).ravel()
            is_filled = (sets.sizes > 0)[pairs].all(axis=1)
            yield _Work(sets, places[is_filled], pairs[is_filled].astype(np.int32))


def _request(
    offsets: NDArray[Any], left: NDArray[Any], right: NDArray[Any], weights: NDArray[Any] | None, resources: Resources
) -> _Request:
    groups = np.stack([cp.asnumpy(left), cp.asnumpy(right)], axis=1).astype(np.int64)
    on_host = None if weights is None else cp.asnumpy(weights)
    return _Request(np.asarray(offsets, dtype=np.int64), groups, on_host, resources)


@within_memory
def cost_deviations(
    cells: NDArray[Any] | sp.csr_matrix[Any],
    offsets: NDArray[Any],
    left: NDArray[Any],
    right: NDArray[Any],
    *,
    weights: NDArray[Any] | None = None,
    resources: Resources,
) -> Any:
    """Compute the standard deviation of all costs of a pair of groups, for many pairs: see the contract.

    The result is an array on the first of the devices.
    """
    request = _request(offsets, left, right, weights, resources)
    found = np.full(request.shape, np.nan)
    with cp.cuda.Device(resources.devices[0]):
        if request.offsets[-1] > 0:
            centred = CentredCells(cells, request.offsets, np.float64, resources)
            for work in request.work(0, len(request.groups)):
                if len(work.places):
                    found.reshape(-1)[work.places] = deviations(centred, work.sets, work.pairs)
        return request.result(found)


@within_memory
def transport_costs(
    cells: NDArray[Any] | sp.csr_matrix[Any],
    offsets: NDArray[Any],
    left: NDArray[Any],
    right: NDArray[Any],
    *,
    epsilon: NDArray[Any],
    weights: NDArray[Any] | None = None,
    tol: float,
    max_iter: int,
    relaxation: float,
    resources: Resources,
) -> Transport:
    """Find the cost of the entropic optimal transport between groups, for many pairs: see the contract.

    The results are arrays on the first of the devices.
    """
    request = _request(offsets, left, right, weights, resources)
    shape = request.shape
    strength = np.broadcast_to(cp.asnumpy(epsilon).astype(np.float64), shape).reshape(-1)
    limits = Limits(float(tol), min(int(max_iter), 2**31 - 1), float(relaxation))
    result = Transport(
        np.full(shape, np.nan), np.zeros(shape, dtype=np.int64), np.full(shape, np.nan), np.zeros(shape, dtype=bool)
    )
    flat = [field.reshape(-1) for field in result]

    def solve(share: tuple[int, int]) -> None:
        if share[0] == share[1]:
            return
        centred = CentredCells(cells, request.offsets, cells.dtype, resources)
        for work in request.work(*share):
            is_posed = ~np.isnan(strength[work.places])
            posed = _Work(work.sets, work.places[is_posed], work.pairs[is_posed])
            if len(posed.places):
                inputs = Inputs(centred, posed.sets, limits)
                for field, values in zip(flat, _solve(posed, strength, inputs, resources), strict=True):
                    field[posed.places] = values

    if request.offsets[-1] > 0:
        sizes = np.diff(request.offsets).astype(np.float64)
        cumulative = np.concatenate([[0.0], np.cumsum(sizes[request.groups].prod(axis=1) + 1.0)])
        resources.progress.start(float(cumulative[-1]) * shape[0])
        on_devices(solve, share_out(cumulative, len(resources.devices)), resources.devices)
    with cp.cuda.Device(resources.devices[0]):
        return Transport(*(request.result(field) for field in result))


def _solve(work: _Work, strength: NDArray[np.float64], inputs: Inputs, resources: Resources) -> tuple[Any, ...]:
    """Return the fields of `Transport` of some pairs."""
    epsilon = strength[work.places]
    parts = _constants(inputs, work.pairs)
    iterated = np.flatnonzero(epsilon > 0)
    states = _solve_tasks(work.pairs[iterated], epsilon[iterated], inputs, resources)
    cost, error = parts.mean_cost.copy(), np.zeros(len(epsilon))
    iterations = np.zeros(len(epsilon), dtype=np.int64)
    of_products = 2.0 * parts.product[iterated] + epsilon[iterated] * np.log(2.0) * states["dual"]
    cost[iterated] += of_products
    iterations[iterated], error[iterated] = states["iterations"], states["error"]
    return cost, iterations, error, error <= inputs.limits.tol


def _constants(inputs: Inputs, pairs: NDArray[np.int32]) -> Constants:
    on_device = cp.asarray(pairs)
    trace, found = cp.empty(len(inputs.sets.bounds) - 1), cp.empty((len(pairs), 2))
    for number, panel in enumerate(inputs.cells.panels()):
        means = set_means(panel, inputs.sets, trace, joins=number > 0)
        pair_means(panel, means, on_device, found, joins=number > 0)
    return constants(trace, found, pairs)


def _solve_tasks(
    pairs: NDArray[np.int32], epsilon: NDArray[np.float64], inputs: Inputs, resources: Resources
) -> NDArray[Any]:
    """Solve tasks of similar shape together, the large ones alone; return the last state of each."""
    dtype = inputs.cells.dtype
    tasks, shape = make_tasks(pairs.astype(np.int64), inputs.sets.bounds, epsilon, SHAPES[dtype])
    sizes = task_bytes(tasks, dtype.itemsize)
    is_alone = (shape == len(SHAPES[dtype])) | (sizes > resources.memory // 2)
    states = np.zeros(len(tasks), dtype=STATE)
    runs: list[tuple[NDArray[np.int64], Callable[[NDArray[np.int64]], NDArray[Any]]]] = []
    together = np.flatnonzero(~is_alone)
    together = together[np.lexsort((-sizes[together], shape[together]))]
    runs += [
        (together[first:stop], lambda which: solve_wave(tasks[which], shape[which], inputs))
        for first, stop in cut_waves(sizes[together], resources.memory // 2)
    ]
    runs += [
        (np.array([which]), lambda which: solve_large(tasks[which[0]], int(shape[which[0]]), inputs, resources.memory))
        for which in np.flatnonzero(is_alone)
    ]
    for which, solve in runs:
        states[which] = solve(which)
        resources.progress.advance(float((tasks["n"][which].astype(np.float64) * tasks["m"][which]).sum()))
    return states
