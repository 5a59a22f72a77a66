"""Marker columns of targets on the current device (`perturbation_common.cuh`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import cupy as cp
import numpy as np

from ptg.kernels.contract.projection import TargetColumns
from ptg.kernels.cuda.devices import on_devices
from ptg.kernels.cuda.memory import with_fitting_size
from ptg.kernels.cuda.pieces import cut_runs, share_out
from ptg.kernels.cuda.source import kernel
from ptg.kernels.cuda.transfer import to_device

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ptg.kernels.contract.resources import Resources

_THREADS = 512
"""Threads that work on a target."""

_MARKER_BYTES = 48
_MOMENT_BYTES = 24
_LARGEST_GRID = 512
"""Blocks that sort scores at the same time: enough for any device."""

_SMALLEST_RUN = 1 << 20
"""Bytes."""


class Batch:
    """A batch as it came, with its small arrays on the host.

    Attributes
    ----------
    n_sample
        Controls to return per target.
    cost
        (n_targets + 1,) cumulative work of the targets.
    """

    def __init__(self, columns: TargetColumns, n_sample: int, resources: Resources) -> None:
        self.control, self.values = columns.control, columns.values
        small = (columns.columns, columns.marker_offsets, columns.value_offsets, columns.cell_offsets)
        self.columns, self.marker_offsets, self.value_offsets, self.cell_offsets = (
            cp.asnumpy(array).astype(np.int64) for array in small
        )
        self.controls_before = columns.controls_before
        self.n_targets, self.n_control = len(self.cell_offsets) - 1, columns.control.shape[1]
        self.n_cells = int(self.cell_offsets[-1])
        self.n_sample = min(n_sample, self.n_control)
        self.resources = resources
        work = np.diff(self.marker_offsets) * (np.diff(self.cell_offsets) + self.n_control) + 1.0
        self.cost = np.concatenate([[0.0], np.cumsum(work)])

    def bytes_before(self) -> NDArray[np.int64]:
        """(n_targets + 1,) device memory of the targets before each."""
        per_target = (
            8 * np.diff(self.value_offsets)
            + (_MARKER_BYTES + _MOMENT_BYTES + 32) * np.diff(self.marker_offsets)
            + 16 * (self.n_control + np.diff(self.cell_offsets))
            + 48 * np.diff(self.cell_offsets)
            + 24 * self.n_sample
        )
        return np.concatenate([[0], np.cumsum(per_target)])

    def each_run(self, compute: Callable[[TargetRun], None], *, scale: bool, clip: float) -> None:
        """Call `compute` for neighbouring targets that fit on a device together, on all devices."""
        resources = self.resources
        resources.progress.start(float(self.cost[-1]))
        held = self.bytes_before()

        def compute_share(share: tuple[int, int]) -> None:
            first, stop = share
            if first == stop:
                return
            controls = Controls(self)

            def compute_runs(limit: int) -> None:
                for begin, end in cut_runs(held[first : stop + 1], limit):
                    compute(TargetRun(self, controls, first + begin, first + end, scale=scale, clip=clip))
                    resources.progress.advance(float(self.cost[first + end] - self.cost[first + begin]))

            limit = max(resources.memory // 2, _SMALLEST_RUN)
            with_fitting_size(compute_runs, limit, smallest=_SMALLEST_RUN, what="bytes of targets at once")

        on_devices(compute_share, share_out(self.cost, len(resources.devices)), resources.devices)


class Controls:
    """The controls' values and the moments of their genes, on the current device."""

    def __init__(self, batch: Batch) -> None:
        self.values = to_device(batch.control, batch.resources).astype(np.float64, copy=False)
        n_columns, n_control = batch.control.shape
        starts = np.arange(n_columns, dtype=np.int64) * n_control
        self.moments = _row_moments(self.values, starts, np.full(n_columns, n_control))


def _row_moments(values: Any, starts: NDArray[np.int64], lengths: NDArray[Any]) -> Any:
    moments = cp.empty((len(starts), 3), dtype=np.float64)
    if len(starts):
        longest = int(lengths.max())
        kernel("perturbation_scores.cu", "row_moments")(
            (len(starts),),
            (256 if longest > 256 else 64,),
            (values, cp.asarray(starts), cp.asarray(lengths.astype(np.int32)), moments),
        )
    return moments


class TargetRun:
    """Targets `first` to ``stop - 1`` on the current device, their markers standardised.

    Attributes
    ----------
    cells
        Their cells in the batch.
    arguments
        ``BATCH_PARAMETERS`` of a kernel.
    order
        The targets, those with the most work first: a block takes a target, and none should begin late.
    x_offsets
        Where each target's scores begin in an array of all: those of the controls, then those of its cells.
    n_scores
        Length of that array.
    """

    def __init__(self, batch: Batch, controls: Controls, first: int, stop: int, *, scale: bool, clip: float) -> None:
        self.batch, self.first, self.stop = batch, first, stop
        self.targets = slice(first, stop)
        self.cells = slice(int(batch.cell_offsets[first]), int(batch.cell_offsets[stop]))
        work = np.diff(batch.cost[first : stop + 1])
        self.order = cp.asarray(np.argsort(-work, kind="stable").astype(np.int32))
        sizes = np.diff(batch.cell_offsets[first : stop + 1]) + batch.n_control
        offsets = np.concatenate([[0], np.cumsum(sizes)])
        self.n_scores = int(offsets[-1])
        self.x_offsets = cp.asarray(offsets[:-1])
        self.arguments = self._arguments(controls)
        self._standardise(controls, scale=scale, clip=clip)

    def _arguments(self, controls: Controls) -> tuple[Any, ...]:
        batch, window = self.batch, slice(self.first, self.stop + 1)
        markers = batch.marker_offsets[window]
        values = batch.value_offsets[window]
        self._n_markers = int(markers[-1] - markers[0])
        self._values = to_device(batch.values[values[0] : values[-1]], batch.resources).astype(np.float64, copy=False)
        return (
            controls.values,
            np.int32(batch.n_control),
            cp.asarray(batch.columns[markers[0] : markers[-1]]),
            cp.asarray(markers - markers[0]),
            self._values,
            cp.asarray(values - values[0]),
            cp.asarray(batch.cell_offsets[window] - batch.cell_offsets[self.first]),
            cp.empty((self._n_markers, _MARKER_BYTES // 8), dtype=np.float64),
        )

    def _standardise(self, controls: Controls, *, scale: bool, clip: float) -> None:
        if not self._n_markers:
            return
        batch, window = self.batch, slice(self.first, self.stop + 1)
        n_markers, n_cells = np.diff(batch.marker_offsets[window]), np.diff(batch.cell_offsets[window])
        target_of = np.repeat(np.arange(len(n_markers)), n_markers)
        number = np.arange(self._n_markers) - np.repeat(np.cumsum(n_markers) - n_markers, n_markers)
        starts = (batch.value_offsets[window][:-1] - batch.value_offsets[self.first])[target_of]
        moments = _row_moments(self._values, starts + number * n_cells[target_of], n_cells[target_of])
        kernel("perturbation_scores.cu", "standardise")(
            (self._n_markers,),
            (128,),
            (
                *self.arguments,
                controls.moments,
                moments,
                cp.asarray(target_of.astype(np.int32)),
                np.int32(scale),
                np.float64(clip),
            ),
        )

    def run(self, file: str, function: str, arguments: tuple[Any, ...]) -> None:
        """Launch a kernel with a block of threads for each target."""
        kernel(file, function)((self.stop - self.first,), (_THREADS,), (*self.arguments, self.order, *arguments))

    def sample(self, x: Any, missing: Any) -> tuple[Any, Any]:
        """Return positions, ascending, of controls at evenly spaced ranks, and their scores; (n_targets, n_sample)."""
        batch = self.batch
        n_targets, n_ranks, n_control = self.stop - self.first, batch.n_sample, batch.n_control
        positions = cp.empty((n_targets, n_ranks), dtype=np.int64)
        if not n_ranks:
            return positions, cp.empty((n_targets, 0))
        ranks = np.linspace(0, n_control - 1, n_ranks).round().astype(np.int64)
        n_blocks = min(n_targets, _LARGEST_GRID, max(batch.resources.memory // 4 // (24 * n_control), 1))
        kernel("perturbation_scores.cu", "rank_controls")(
            (n_blocks,),
            (_THREADS,),
            (
                x,
                self.x_offsets,
                missing,
                np.int32(n_targets),
                np.int32(n_control),
                cp.asarray(ranks),
                np.int32(n_ranks),
                cp.empty((n_blocks, 2, n_control), dtype=np.float64),
                cp.empty((n_blocks, 2, n_control), dtype=np.int32),
                positions,
            ),
        )
        positions = cp.sort(positions, axis=1)
        scores = x[self.x_offsets[:, None] + cp.maximum(positions, 0)]
        return positions, cp.where(positions < 0, np.nan, scores)
