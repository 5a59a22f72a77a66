"""Energy sums of pairs of groups that lie so close together that products lose too many digits."""

from __future__ import annotations

from typing import Any

import cupy as cp
import numpy as np

from ptg.kernels.cuda.devices import on_devices
from ptg.kernels.cuda.energy_plan import FRAGMENT, TASK, Plan
from ptg.kernels.cuda.energy_rows import NO_ARRAY, Rows
from ptg.kernels.cuda.energy_variants import DRAWS
from ptg.kernels.cuda.pieces import cut_runs, share_out
from ptg.kernels.cuda.source import kernel

_TILE = (8, 32)
"""Fragments of rows, and columns, that a block of threads holds."""

_SENSITIVE = 2.0
"""Sums above this sensitivity (`energy_common.cuh`) per distance are computed again: an error of 2e-7 in the squared
distances, relative to the norms, would be one of 4e-7 in the sum. Cells of one kind have about 0.6."""


def find_sensitive(sums: Any) -> Any:
    """Find the pairs to compute again by their distances and sensitivities, (n_pairs, 2)."""
    return cp.flatnonzero(sums[:, 1] > _SENSITIVE * sums[:, 0])


class Differences:
    """Some pairs of a plan, dealt out to devices."""

    def __init__(self, rows: list[Rows], plan: Plan, pairs: Any, *, devices: tuple[int, ...], n_at_once: int) -> None:
        """`rows` on each of the devices; `pairs` on the current one; at most `n_at_once` partial sums at a time."""
        self._rows, self._devices = rows, devices
        self._row_group, self._column_group = plan.row_group[pairs].get(), plan.column_group[pairs].get()
        n_fragments = np.diff(rows[0].layout.padded_offsets).astype(np.int64) // FRAGMENT
        of_rows, of_columns = n_fragments[self._row_group], n_fragments[self._column_group]
        self._slots = np.concatenate([[0], np.cumsum(of_rows)])
        self._tasks = np.concatenate([[0], np.cumsum(-(-of_rows // _TILE[0]))])
        work = np.concatenate([[0], np.cumsum(of_rows * of_columns)])
        self._runs = [
            [(begin + first, begin + stop) for first, stop in cut_runs(self._slots[begin : end + 1], n_at_once)]
            for begin, end in share_out(work, len(devices))
        ]

    def sums(self, weights: list[Any]) -> Any:
        """(n_pairs, 1), or with weights, halves on each of the devices, (n_pairs, `DRAWS`)."""
        shares = list(zip(self._rows, self._runs, weights, strict=True))
        parts = on_devices(
            lambda share: [self._sum_run(share[0], run, share[2]) for run in share[1]], shares, self._devices
        )
        return cp.concatenate([cp.asarray(part) for of_device in parts for part in of_device])

    def _sum_run(self, rows: Rows, run: tuple[int, int], weights: Any) -> Any:
        some, bounds = slice(*run), slice(run[0], run[1] + 1)
        slots, tasks = (cp.asarray(array[bounds] - array[run[0]]) for array in (self._slots, self._tasks))
        n_pairs, n_tasks = run[1] - run[0], int(self._tasks[run[1]] - self._tasks[run[0]])
        listed = cp.empty(n_tasks * TASK.itemsize, dtype=np.uint8)
        kernel("energy_prepare.cu", "list_tasks")(
            (-(-n_pairs // 128),),
            (128,),
            (
                cp.asarray(self._row_group[some]),
                cp.asarray(self._column_group[some]),
                slots,
                tasks,
                np.int64(n_pairs),
                rows.padded_offsets,
                np.int32(_TILE[0]),
                listed,
            ),
        )
        n_slots, n_values = int(self._slots[run[1]] - self._slots[run[0]]), 1 if weights is None else DRAWS
        partial = cp.empty((n_slots, n_values), dtype=np.float64)
        _launch(rows, listed, n_tasks, weights, partial)
        sums = cp.empty((n_pairs, n_values), dtype=np.float64)
        kernel("energy_prepare.cu", "sum_slots")(
            (-(-sums.size // 256),), (256,), (partial, slots, np.int64(n_pairs), np.int32(n_values), sums)
        )
        return sums


def _launch(rows: Rows, tasks: Any, n_tasks: int, weights: Any, partial: Any) -> None:
    n_draws, n_columns = 0 if weights is None else DRAWS, rows.cells.shape[1]
    width = -(-n_columns // 4) * 4
    width += 4 if width % 8 == 0 else 0
    function = kernel("energy_differences.cu", "difference_sums", (f"-DDRAWS={n_draws}",))
    shared = (_TILE[0] * FRAGMENT + _TILE[1]) * width * 4 + _TILE[1] * n_draws * 2
    function.max_dynamic_shared_size_bytes = shared
    function(
        (n_tasks,),
        (32 * _TILE[0],),
        (
            rows.cells,
            np.int32(n_columns),
            np.int32(width),
            rows.about,
            rows.fragment_group,
            rows.padded_offsets,
            rows.shifts,
            tasks,
            NO_ARRAY if weights is None else weights,
            partial,
        ),
        shared_mem=shared,
    )
