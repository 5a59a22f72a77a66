"""Solve many pairs at once, a wave whose exponents fit in memory: no pair waits for another."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import cupy as cp
import numpy as np

from ptg.kernels.cuda.sinkhorn_cells import CentredCells, Sets
from ptg.kernels.cuda.sinkhorn_plan import N_CHANGES, N_PRODUCTS, N_VECTORS, SHAPES, STATE, Shape, place
from ptg.kernels.cuda.source import kernel, type_options

if TYPE_CHECKING:
    from numpy.typing import NDArray

_TILE = 64
_ROUNDS = 3
"""Iterations between two looks at which pairs are done."""

_GUESS = 0.5
"""Part of the squared norm that the first potential is: see `first_potentials` in `sinkhorn_step.cu`."""

_SCALE, _PHI = 5, 6
"""Places among the vectors: see `sinkhorn_step.cu`."""

_FINE_TOL = 1e-5
"""Marginal errors below this need sums of products in float64 throughout."""

_SLACK = {np.dtype(np.float32): 1e-7, np.dtype(np.float64): 1e-12}
"""Part by which duals differ that are the same but for rounding."""


class Limits(NamedTuple):
    """When to stop and how far to go: see the contract."""

    tol: float
    max_iter: int
    relaxation: float


class Inputs(NamedTuple):
    """What solvers read."""

    cells: CentredCells
    sets: Sets
    limits: Limits

    @property
    def options(self) -> tuple[str, ...]:
        """Types of a pass."""
        dtype = self.cells.dtype
        is_fine = dtype == np.float64 or self.limits.tol < _FINE_TOL
        wide = ("-DWIDE_LANES",) if dtype == np.float32 else ()
        return (*type_options(Real=dtype, Chain=np.float64 if is_fine else np.float32), *wide)


class Blocks(NamedTuple):
    """Blocks of threads of some tasks: see ``own_task`` in `sinkhorn_common.cuh`."""

    number: int
    owner: Any
    tasks: Any
    starts: Any


def make_blocks(tasks: NDArray[np.int64], counts: NDArray[np.int64]) -> Blocks:
    """Give task ``tasks[k]`` as many blocks of threads as ``counts[k]``, at least one."""
    stops = np.cumsum(counts)
    starts = cp.asarray(stops - counts)
    owner = cp.searchsorted(starts, cp.arange(int(stops[-1])), side="right") - 1
    return Blocks(int(stops[-1]), owner.astype(np.int32), cp.asarray(tasks.astype(np.int32)), starts)


def product_blocks(tasks: NDArray[Any]) -> Blocks:
    """Blocks of threads that make the exponents of all tasks."""
    tiles = -(-tasks["n"].astype(np.int64) // _TILE) * -(-tasks["ld"].astype(np.int64) // _TILE)
    return make_blocks(np.arange(len(tasks)), tiles)


def make_exponents(tasks: Any, blocks: Blocks, inputs: Inputs, out: Any) -> None:
    """Fill ``out`` with the exponents of tasks on the device."""
    multiply = kernel("sinkhorn_products.cu", "products", type_options(Real=inputs.cells.dtype))
    for number, panel in enumerate(inputs.cells.panels()):
        arguments = (tasks, blocks.owner, blocks.tasks, blocks.starts, inputs.sets.place_cell, panel.cells)
        multiply(
            (blocks.number,),
            (128,),
            (*arguments, np.int64(panel.stride), np.int32(panel.width), np.int32(number > 0), out),
        )


class Iterates:
    """Potentials of some tasks and what is remembered of earlier ones, on the device."""

    def __init__(self, tasks: NDArray[Any], inputs: Inputs) -> None:
        self.inputs, self._tasks = inputs, tasks
        dtype = inputs.cells.dtype
        self.tasks = to_bytes(tasks)
        total = int(tasks["ld"].sum(dtype=np.int64))
        self.vectors = cp.empty((N_VECTORS, total))
        self.shift, self.changes = cp.empty(total, dtype=dtype), cp.empty((N_CHANGES, total), dtype=dtype)
        self.partial = cp.empty(int((tasks["n_bands"].astype(np.int64) * tasks["ld"]).sum()))
        self.dual = cp.empty(int(tasks["n_duals"].sum(dtype=np.int64)))
        self.states = cp.empty(len(tasks) * STATE.itemsize, dtype=np.uint8)
        self._gram = cp.empty(len(tasks) * N_PRODUCTS)
        self._total = np.int64(total)
        kernel("sinkhorn_step.cu", "first_potentials", inputs.options)(
            (len(tasks),),
            (128,),
            (
                self.tasks,
                self.states,
                inputs.sets.place_cell,
                inputs.sets.mass,
                inputs.cells.norms,
                np.float64(_GUESS),
                self.vectors,
                self.shift,
                self._total,
            ),
        )

    @property
    def scale(self) -> Any:
        """(total,): what powers are multiplied by."""
        return self.vectors[_SCALE]

    @property
    def phi(self) -> Any:
        """(total,): potentials of the rows of groups that are paired with themselves."""
        return self.vectors[_PHI]

    def step(self, numbers: Any, threads: int, *, first: bool) -> None:
        """Judge the potentials of some tasks after a pass, and set the next ones."""
        limits = self.inputs.limits
        kernel("sinkhorn_step.cu", "next_potentials", self.inputs.options)(
            (len(numbers),),
            (threads,),
            (
                self.tasks,
                numbers,
                self.states,
                self.inputs.sets.mass,
                self.partial,
                self.dual,
                self.vectors,
                self.shift,
                self.changes,
                self._gram,
                self._total,
                np.float64(limits.tol),
                np.int32(limits.max_iter),
                np.float64(limits.relaxation),
                np.float64(_SLACK[self.inputs.cells.dtype]),
                np.int32(first),
            ),
        )

    def read_states(self) -> NDArray[Any]:
        """Copy the states to the host."""
        states: NDArray[Any] = cp.asnumpy(self.states).view(STATE)
        return states

    def is_done(self) -> NDArray[np.bool_]:
        """Tell which tasks are done."""
        numbers = self.states.view(np.int32).reshape(len(self._tasks), -1)
        done: NDArray[np.bool_] = cp.asnumpy(numbers[:, STATE.fields["done"][1] // 4].copy()) != 0  # type: ignore[index]
        return done


def to_bytes(records: NDArray[Any]) -> Any:
    """Copy structured records to the device, as bytes."""
    return cp.asarray(np.ascontiguousarray(records).view(np.uint8))


def step_threads(columns: NDArray[Any]) -> NDArray[np.int64]:
    """Threads that a step takes for so many columns."""
    return np.where(columns <= 512, 128, 512)


def sweep(shape: Shape, tasks: Any, blocks: Blocks, iterates: Iterates, exponents: Any, *, first: bool) -> None:
    """Pass over the exponents of the tasks of one shape."""
    inputs = iterates.inputs
    kernel("sinkhorn_sweep.cu", f"sweep_{shape.values}_{shape.warps}", inputs.options)(
        (blocks.number,),
        (shape.threads,),
        (
            tasks,
            blocks.owner,
            blocks.tasks,
            blocks.starts,
            iterates.states,
            exponents,
            inputs.sets.mass,
            iterates.shift,
            iterates.scale,
            iterates.partial,
            iterates.dual,
            iterates.phi,
            np.int32(first),
        ),
    )


class _Launches:
    """The launches of an iteration of some tasks."""

    def __init__(
        self, tasks: NDArray[Any], shape_of: NDArray[np.int64], shapes: list[Shape], active: NDArray[np.int64]
    ) -> None:
        self.n_tasks = len(active)
        self._sweeps = []
        for number in np.unique(shape_of[active]):
            own = active[shape_of[active] == number]
            self._sweeps.append((shapes[number], make_blocks(own, tasks["n_bands"][own].astype(np.int64))))
        threads = step_threads(tasks["m"][active])
        self._steps = [(cp.asarray(active[threads == n].astype(np.int32)), int(n)) for n in np.unique(threads)]

    def iterate(self, iterates: Iterates, exponents: Any, *, first: bool = False) -> None:
        for shape, blocks in self._sweeps:
            sweep(shape, iterates.tasks, blocks, iterates, exponents, first=first)
        for numbers, threads in self._steps:
            iterates.step(numbers, threads, first=first)


def solve_wave(tasks: NDArray[Any], shape_of: NDArray[np.int64], inputs: Inputs) -> NDArray[Any]:
    """Solve tasks whose numbers fit on the device together; return the last state of each."""
    tasks = place(tasks)
    shapes = SHAPES[inputs.cells.dtype]
    iterates = Iterates(tasks, inputs)
    exponents = cp.empty(int((tasks["n"].astype(np.int64) * tasks["ld"]).sum()), dtype=inputs.cells.dtype)
    make_exponents(iterates.tasks, product_blocks(tasks), inputs, exponents)
    launches = _Launches(tasks, shape_of, shapes, np.arange(len(tasks)))
    launches.iterate(iterates, exponents, first=True)
    while True:
        for _ in range(_ROUNDS):
            launches.iterate(iterates, exponents)
        active = np.flatnonzero(~iterates.is_done())
        if not len(active):
            return iterates.read_states()
        if 4 * len(active) <= 3 * launches.n_tasks:
            launches = _Launches(tasks, shape_of, shapes, active)
