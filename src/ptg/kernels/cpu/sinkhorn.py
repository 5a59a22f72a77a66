"""Entropic optimal transport between groups, on a CPU: see `ptg.kernels.contract.sinkhorn`.

A pair is solved with the larger group as rows. Its kernel matrix is made once from products of centred cells and kept
while it fits; an iteration is one pass over it (`sinkhorn_sweeps`) and one accelerated step (`sinkhorn_steps`). Small
pairs are solved one per thread, large ones one after the other by all threads, in chunks of rows that never depend on
the number of threads. On a Zen 5 core a pass does 5e9 pairs of cells a second, and making the kernel 1e9.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ptg.kernels.contract.resources import NO_PROGRESS
from ptg.kernels.contract.sinkhorn import Transport
from ptg.kernels.cpu.sinkhorn_deviations import cost_deviations
from ptg.kernels.cpu.sinkhorn_groups import CentredCells, Side, moments
from ptg.kernels.cpu.sinkhorn_solve import Problem, Solution, solve_at_once, solve_by_chunks
from ptg.kernels.cpu.sinkhorn_steps import Rules
from ptg.kernels.cpu.threads import run_tasks

if TYPE_CHECKING:
    import scipy.sparse as sp
    from numpy.typing import NDArray

    from ptg.kernels.contract.resources import Resources

__all__ = ["cost_deviations", "transport_costs"]

_LARGE = 1 << 22
"""Entries from which a pair is shared out to all threads: a pass takes a millisecond then."""
_MIDDLING = 1 << 19
"""Entries from which a pair is, if it would otherwise keep the other threads waiting."""

_RANGES = {np.dtype(np.float32): (40.0, 80.0), np.dtype(np.float64): (600.0, 650.0)}
"""`Rules.absorb` and `Rules.reach`."""


class _Pair(NamedTuple):
    """One transport: where its result goes, which groups, and how many entries its kernel has."""

    draw: int
    position: int
    rows: int
    columns: int
    n_entries: int


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
    """Find the cost of the entropic optimal transport of many pairs: see the contract."""
    n_draws = 1 if weights is None else len(weights)
    shape = (n_draws, len(left))
    epsilon = np.broadcast_to(np.asarray(epsilon, dtype=np.float64), shape)
    result = Transport(np.full(shape, np.nan), np.zeros(shape, np.int64), np.full(shape, np.nan), np.zeros(shape, bool))
    dtype = np.dtype(cells.dtype)
    centred = CentredCells(cells, offsets, dtype, resources)
    rules = Rules(float(tol), int(max_iter), float(relaxation), *_RANGES[dtype])
    pairs = list(_oriented(np.diff(offsets), left, right, n_draws))

    def problem(pair: _Pair) -> Problem | None:
        of_draw = None if weights is None else weights[pair.draw]
        rows, columns = centred.side(pair.rows, of_draw), centred.side(pair.columns, of_draw)
        at = epsilon[pair.draw, pair.position]
        if rows is None or columns is None or np.isnan(at):
            return None
        mean_cost, offset = _parts_of_cost(rows, columns, centred.centres[pair.rows] - centred.centres[pair.columns])
        return Problem(rows, columns, float(at) / centred.unit**2, mean_cost, offset)

    def store(pair: _Pair, solution: Solution | None) -> None:
        if solution is not None:
            at = pair.draw, pair.position
            result.cost[at] = solution.cost * centred.unit**2
            result.n_iterations[at], result.marginal_error[at] = solution.n_iterations, solution.marginal_error
            result.converged[at] = solution.marginal_error <= tol

    large = _is_large(pairs, dtype.itemsize, resources)
    small = [pair for pair, shared in zip(pairs, large, strict=True) if not shared]

    def solve(pair: _Pair) -> Solution | None:
        posed = problem(pair)
        return None if posed is None else solve_at_once(posed, rules)

    solutions = run_tasks(solve, small, resources, work=[pair.n_entries for pair in small])
    for pair, solution in zip(small, solutions, strict=True):
        store(pair, solution)
    for pair in (pair for pair, shared in zip(pairs, large, strict=True) if shared):
        posed = problem(pair)
        resources.progress.start(pair.n_entries)
        store(
            pair,
            None if posed is None else solve_by_chunks(posed, rules, replace(resources, progress=NO_PROGRESS)),
        )
        resources.progress.advance(pair.n_entries)
    return result if weights is not None else Transport(*(field[0] for field in result))


def _oriented(sizes: NDArray[Any], left: NDArray[Any], right: NDArray[Any], n_draws: int) -> Iterator[_Pair]:
    """Make the larger group of each pair its rows, of equal ones that of lower number."""
    for draw, (position, (x, y)) in product(range(n_draws), enumerate(zip(left, right, strict=True))):
        rows, columns = sorted((int(x), int(y)), key=lambda group: (-sizes[group], group))
        yield _Pair(draw, position, rows, columns, int(sizes[x]) * int(sizes[y]))


def _is_large(pairs: list[_Pair], itemsize: int, resources: Resources) -> list[bool]:
    """Mark the pairs that all threads solve together: whose kernels are large, or would take too much memory."""
    fit = resources.memory // (2 * itemsize * resources.n_threads)
    total = sum(pair.n_entries for pair in pairs)
    return [
        pair.n_entries > min(_LARGE, fit)
        or (pair.n_entries > _MIDDLING and 2 * pair.n_entries * resources.n_threads > total)
        for pair in pairs
    ]


def _parts_of_cost(rows: Side, columns: Side, gap: NDArray[np.float64]) -> tuple[float, float]:
    """Return the mean cost ``sum(a C b)``, and the part of it that does not come from products of cells."""
    row_mean, row_squared = moments(rows.cells, rows.mass)
    column_mean, column_squared = moments(columns.cells, columns.mass)
    shift = row_mean - column_mean  # panels are padded with columns of zeros
    offset = row_squared + column_squared + float(gap @ gap) + 2.0 * float(gap @ shift[: len(gap)])
    return offset - 2.0 * float(row_mean @ column_mean), offset
