"""Solve one pair, with its kernel in memory or made anew for every pass, in one thread or in several."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ptg.kernels.cpu.compilation import jit
from ptg.kernels.cpu.products import aligned_empty
from ptg.kernels.cpu.sinkhorn_groups import Side
from ptg.kernels.cpu.sinkhorn_steps import (
    ABSORB,
    CONTINUE,
    DONE,
    DUAL,
    ERROR,
    N_ITERATIONS,
    absorb,
    make_iterate,
    set_all,
    step,
)
from ptg.kernels.cpu.sinkhorn_sweeps import (
    BLOCK,
    Factors,
    fill_kernel,
    make_scratch,
    remake_kernel,
    scale_remade_rows,
    scale_rows,
    start_rows,
    tiled,
)
from ptg.kernels.cpu.threads import run_tasks

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ptg.kernels.contract.resources import Resources
    from ptg.kernels.cpu.sinkhorn_steps import Iterate, Rules

_CHUNK = 512
"""Rows whose column sums are added up before they join the others; a multiple of `BLOCK`."""


class Problem(NamedTuple):
    """A transport in units of the centred cells.

    Attributes
    ----------
    rows, columns
        The two sides.
    epsilon
        0 if the cost is constant.
    mean_cost
        ``sum(a C b)``.
    offset
        The cost less the part that comes from the potentials of the products of cells.
    """

    rows: Side
    columns: Side
    epsilon: float
    mean_cost: float
    offset: float

    def factors(self) -> Factors:
        """Return what the exponents are made of."""
        dtype = self.rows.cells.dtype
        return Factors(self.rows.cells, tiled(self.columns.cells), dtype.type(2.0 / self.epsilon))

    def rules(self, rules: Rules) -> Rules:
        """Return the rules for this pair: those of a group with itself, or with its equal or a shifted copy."""
        same = self.rows.cells.shape == self.columns.cells.shape and bool((self.rows.mass == self.columns.mass).all())
        return rules._replace(is_symmetric=same and bool((self.rows.cells == self.columns.cells).all()))

    def guess(self) -> NDArray[Any]:
        """Return a potential of the columns to start from: ``-|v|² / 2``, between those of two simple cases.

        It would be 0 for a group that is only shifted, and ``-|v|²`` for cells far from all others.
        """
        norms = sum(np.einsum("ik,ik->i", panel, panel, dtype=np.float64) for panel in self.columns.cells)
        guess: NDArray[Any] = (-0.5 / self.epsilon * norms).astype(self.columns.cells.dtype)
        return guess


class Solution(NamedTuple):
    """The cost in units of the centred cells, and how the iteration ended."""

    cost: float
    n_iterations: int
    marginal_error: float


def solve_at_once(problem: Problem, rules: Rules) -> Solution:
    """Solve with the kernel in memory, in this thread."""
    if problem.epsilon == 0.0:
        return Solution(problem.mean_cost, 0, 0.0)
    factors, n, m = problem.factors(), problem.rows.size, problem.columns.size
    kernel = aligned_empty((n, m), factors.rows.dtype)
    scratch = make_scratch(factors, m)
    p, q = np.empty(n, kernel.dtype), np.full(m, -np.inf, kernel.dtype)
    start_rows(factors, 0, scratch, problem.guess(), (kernel, p, q))
    np.negative(q, out=q)
    fill_kernel(scratch, 0, (p, q), kernel)
    iterate: Iterate = make_iterate(p, q, problem.rows.mass, problem.columns.mass)
    while _iterate(iterate, problem.rules(rules), kernel) == ABSORB:
        absorb(iterate)
        remake_kernel(factors, 0, scratch, (p, q), kernel)
    return _solution(problem, iterate.numbers)


def _solution(problem: Problem, numbers: NDArray[np.float64]) -> Solution:
    dual = float(numbers[DUAL])
    cost = problem.offset + problem.epsilon * dual if np.isfinite(dual) else np.nan
    return Solution(cost, int(numbers[N_ITERATIONS]), float(numbers[ERROR]))


@jit
def _iterate(iterate, rules, kernel):  # type: ignore[no-untyped-def]
    """Iterate until the pair is done, or potentials must be absorbed; return which."""
    of_chunk = np.empty(kernel.shape[1])
    todo = CONTINUE
    while todo == CONTINUE:
        set_all(iterate.column_sums, 0.0)
        for i in range(0, kernel.shape[0], _CHUNK):
            rows = slice(i, min(i + _CHUNK, kernel.shape[0]))
            set_all(of_chunk, 0.0)
            scale_rows(kernel[rows], iterate.row_mass[rows], iterate.scaled, iterate.sums[rows], of_chunk)
            for j in range(of_chunk.size):
                iterate.column_sums[j] += of_chunk[j]
        todo = step(iterate, rules)
    return todo


def solve_by_chunks(problem: Problem, rules: Rules, resources: Resources) -> Solution:
    """Solve with all threads, and with the kernel in memory if it fits: the same bits as `solve_at_once`."""
    if problem.epsilon == 0.0:
        return Solution(problem.mean_cost, 0, 0.0)
    passes, rules = _Passes(problem, resources), problem.rules(rules)
    iterate: Iterate = passes.start(problem)
    while True:
        passes.sweep(iterate)
        todo = step(iterate, rules)
        if todo == DONE:
            return _solution(problem, iterate.numbers)
        if todo == ABSORB:
            absorb(iterate)
            passes.remake(iterate)


class _Passes:
    """The passes over a kernel, a task for each chunk of its rows."""

    def __init__(self, problem: Problem, resources: Resources) -> None:
        self._factors = problem.factors()
        n, m = problem.rows.size, problem.columns.size
        dtype = self._factors.rows.dtype
        is_kept = 2 * n * m * dtype.itemsize <= resources.memory
        self._kernel = aligned_empty((n, m), dtype) if is_kept else None
        self._chunks = [slice(i, min(i + _CHUNK, n)) for i in range(0, n, _CHUNK)]
        self._m, self._resources = m, resources

    def _run(self, task: Any) -> list[Any]:
        return run_tasks(task, self._chunks, self._resources)

    def _memory(self, chunk: slice) -> NDArray[Any]:
        """Return the chunk of the kernel, or a block to make it in."""
        if self._kernel is not None:
            return self._kernel[chunk]
        return aligned_empty((BLOCK, self._m), self._factors.rows.dtype)

    def start(self, problem: Problem) -> Iterate:
        """Make the kernel at its first potentials."""
        guess = problem.guess()
        p = np.empty(problem.rows.size, guess.dtype)

        def begin(chunk: slice) -> NDArray[Any]:
            largest = np.full(self._m, -np.inf, guess.dtype)
            scratch = make_scratch(self._factors, self._m)
            start_rows(self._factors, chunk.start, scratch, guess, (self._memory(chunk), p[chunk], largest))
            return largest

        q: NDArray[Any] = -np.max(self._run(begin), axis=0)
        if self._kernel is not None:
            self._run(partial(self._fill, self._kernel, (p, q)))
        iterate: Iterate = make_iterate(p, q, problem.rows.mass, problem.columns.mass)
        return iterate

    def _fill(self, kernel: NDArray[Any], potentials: tuple[NDArray[Any], NDArray[Any]], chunk: slice) -> None:
        fill_kernel(make_scratch(self._factors, self._m), chunk.start, potentials, kernel[chunk])

    def remake(self, iterate: Iterate) -> None:
        """Make the kernel anew at the absorbed potentials."""
        kernel = self._kernel
        if kernel is not None:

            def again(chunk: slice) -> None:
                scratch = make_scratch(self._factors, self._m)
                remake_kernel(self._factors, chunk.start, scratch, (iterate.p, iterate.q), kernel[chunk])

            self._run(again)

    def sweep(self, iterate: Iterate) -> None:
        """Set the sums over rows and columns of the scaled kernel."""

        def one(chunk: slice) -> NDArray[np.float64]:
            of_chunk = np.zeros(self._m)
            mass, sums = iterate.row_mass[chunk], iterate.sums[chunk]
            if self._kernel is not None:
                scale_rows(self._kernel[chunk], mass, iterate.scaled, sums, of_chunk)
            else:
                scratch, potentials = make_scratch(self._factors, self._m), (iterate.p, iterate.q)
                state = (self._memory(chunk), mass, iterate.scaled, sums, of_chunk)
                scale_remade_rows(self._factors, chunk.start, scratch, potentials, state)
            return of_chunk

        iterate.column_sums[:] = 0.0
        for of_chunk in self._run(one):
            iterate.column_sums[:] += of_chunk
