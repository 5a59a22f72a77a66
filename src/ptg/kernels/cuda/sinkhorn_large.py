"""Solve one pair whose exponents do not fit in memory, or whose rows do not fit in registers: band by band of rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import cupy as cp
import numpy as np

from ptg.kernels.cuda.sinkhorn_batch import (
    Blocks,
    Inputs,
    Iterates,
    make_blocks,
    make_exponents,
    product_blocks,
    step_threads,
    sweep,
    to_bytes,
)
from ptg.kernels.cuda.sinkhorn_plan import SHAPES, place
from ptg.kernels.cuda.source import kernel

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

_SEGMENT = 128
"""Bands begin at multiples of it: a multiple of the rows of a block of threads in every pass."""

_BAND = 1 << 24
"""Exponents of a band that is made anew in every iteration: about what stays in the cache."""


class _Band(NamedTuple):
    """Some rows of a pair, as a task of their own."""

    first: int
    n_rows: int
    task: Any
    blocks: Blocks


class _Bands:
    """The exponents of a pair, in bands of rows that are kept or made when they are wanted."""

    def __init__(self, task: NDArray[Any], inputs: Inputs, memory: int, rows_of_block: int) -> None:
        n, ld = int(task["n"]), int(task["ld"])
        fit = memory // 2 // (ld * inputs.cells.dtype.itemsize)
        self._is_kept = fit >= n
        self.n_rows = n if self._is_kept else max(min(fit, _BAND // ld) // _SEGMENT * _SEGMENT, _SEGMENT)
        self._inputs = inputs
        self._exponents = cp.empty(self.n_rows * ld, dtype=inputs.cells.dtype)
        self._bands = []
        for first in range(0, n, self.n_rows):
            part = task.reshape(1).copy()
            part["n"] = min(self.n_rows, n - first)
            part["rows"] += first
            part["partial"] += first // rows_of_block * ld
            part["dual"] += first // rows_of_block
            self._bands.append(_Band(first, int(part["n"][0]), to_bytes(part), product_blocks(part)))
        if self._is_kept:
            self._make(self._bands[0])

    def _make(self, band: _Band) -> None:
        make_exponents(band.task, band.blocks, self._inputs, self._exponents)

    def visit(self, function: Callable[[_Band, Any], None]) -> None:
        """Call ``function(band, exponents)`` for every band."""
        for band in self._bands:
            if not self._is_kept:
                self._make(band)
            function(band, self._exponents)


def solve_large(task: NDArray[Any], shape: int, inputs: Inputs, memory: int) -> NDArray[Any]:
    """Solve one task; return its last state."""
    placed = place(task.reshape(1))
    iterates = Iterates(placed, inputs)
    make_pass = _wide_pass if shape == len(SHAPES[inputs.cells.dtype]) else _tall_pass
    run_pass = make_pass(placed[0], shape, iterates, memory)
    numbers = cp.zeros(1, dtype=np.int32)
    threads = int(step_threads(placed["m"])[0])
    run_pass(True)
    iterates.step(numbers, threads, first=True)
    while not iterates.is_done().all():
        run_pass(False)
        iterates.step(numbers, threads, first=False)
    return iterates.read_states()


def _tall_pass(task: NDArray[Any], number: int, iterates: Iterates, memory: int) -> Callable[[bool], None]:
    """Rows fit in registers: the passes of `solve_wave`, with the same bits."""
    shape = SHAPES[iterates.inputs.cells.dtype][number]
    bands = _Bands(task, iterates.inputs, memory, shape.band)
    only = np.zeros(1, dtype=np.int64)

    def run_pass(first: bool) -> None:
        def pass_over(band: _Band, exponents: Any) -> None:
            blocks = make_blocks(only, np.array([-(-band.n_rows // shape.band)]))
            sweep(shape, band.task, blocks, iterates, exponents, first=first)

        bands.visit(pass_over)

    return run_pass


def _wide_pass(task: NDArray[Any], _: int, iterates: Iterates, memory: int) -> Callable[[bool], None]:
    """Two readings of each band, one for rows and one for columns."""
    inputs, ld = iterates.inputs, int(task["ld"])
    bands = _Bands(task, inputs, memory, 1)
    top, weight = cp.empty(bands.n_rows, dtype=inputs.cells.dtype), cp.empty(bands.n_rows)
    partial = cp.empty(-(-bands.n_rows // _SEGMENT) * ld)
    by_row, by_column, join = (
        kernel("sinkhorn_bands.cu", name, inputs.options) for name in ("band_rows", "band_columns", "band_join")
    )
    shift, of_all = iterates.shift, (iterates.tasks, iterates.states)
    of_rows = (inputs.sets.mass, shift, iterates.scale, top, weight, iterates.dual, iterates.phi)
    blocks = -(-ld // 256)

    def run_pass(first: bool) -> None:
        flag = np.int32(first)

        def pass_over(band: _Band, exponents: Any) -> None:
            n_rows, n_segments = np.int32(band.n_rows), -(-band.n_rows // _SEGMENT)
            by_row((band.n_rows,), (256,), (*of_all, exponents, np.int64(band.first), *of_rows, flag))
            arguments = (*of_all, exponents, n_rows, shift, top, weight, partial, flag)
            by_column((blocks, n_segments), (256,), arguments)
            begins = np.int32(band.first == 0)
            join((blocks,), (256,), (*of_all, partial, np.int32(n_segments), begins, flag, iterates.partial))

        bands.visit(pass_over)

    return run_pass
