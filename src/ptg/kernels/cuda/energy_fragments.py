"""Energy sums on tensor cores: float32 cells in fragments of half-precision pairs (`energy_wgmma.cu`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cupy as cp
import numpy as np

from ptg.kernels.cuda.energy_plan import FRAGMENT, TILE, FragmentPlan, plan_fragments
from ptg.kernels.cuda.source import architecture_kernel, capability, kernel

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ptg.kernels.contract.resources import Resources

WIDTH = 64
"""Columns of a padded row."""

_LARGEST = 4096.0
"""Magnitude that the largest value is scaled to: the low half stays far from underflow."""

_THREADS = 256
_SHARED = 6 * 128 * 128 + 2 * 128 * 4 + 1024


def fits_fragments(cells: Any, devices: tuple[int, ...]) -> bool:
    """Tell whether `fragment_sums` takes these cells on all of these devices."""
    if not isinstance(cells, (np.ndarray, cp.ndarray)) or cells.dtype != np.float32 or cells.shape[1] > WIDTH:
        return False
    for device in devices:
        with cp.cuda.Device(device):
            if capability() != 90:
                return False
    return True


def fragment_sums(cells: Any, offsets: NDArray[np.int64], pairs: tuple[Any, Any], *, resources: Resources) -> Any:
    """Sum distances between groups ``pairs[0] <= pairs[1]``; the bits do not depend on the number of devices."""
    low, high = (pair.astype(np.int32) for pair in pairs)
    plan = plan_fragments(offsets, low, high)
    sums = cp.zeros(len(low), dtype=np.float64)
    if not len(plan.tasks):
        return sums
    work = plan.work()
    resources.progress.start(float(work.sum()))
    share = np.searchsorted(np.cumsum(work), np.linspace(0, work.sum(), len(resources.devices) + 1)[1:-1])
    bounds = [0, *share.tolist(), len(work)]
    parts = [
        _launch(cells, plan, slice(begin, end), device)
        for device, begin, end in zip(resources.devices, bounds[:-1], bounds[1:], strict=True)
    ]
    partial = parts[0][0] if len(parts) == 1 else cp.concatenate([cp.asarray(part) for part, _ in parts])
    _reduce(partial, plan, low, high, sums)
    resources.progress.advance(float(work.sum()))
    return sums / parts[0][1]


def _launch(cells: Any, plan: FragmentPlan, tasks: slice, device: int) -> tuple[Any, float]:
    """Compute some tasks on one device: their partial sums there, and the factor that distances were scaled by."""
    with cp.cuda.Device(device):
        hi, lo, norm, factor = _split(cp.asarray(cells), plan)
        some = plan.tasks[tasks].copy()
        begin = int(some["slot"][0]) if len(some) else 0
        end = int(plan.tasks["slot"][tasks.stop]) if tasks.stop < len(plan.tasks) else plan.n_partial
        some["slot"] -= begin
        partial = cp.empty(end - begin, dtype=np.float64)
        if len(some):
            steps = -(-cells.shape[1] // FRAGMENT)
            function = architecture_kernel("energy_wgmma.cu", "pair_sums", (f"-DSTEPS={steps}",), "sm_90a")
            function.max_dynamic_shared_size_bytes = _SHARED
            arguments = (
                hi,
                lo,
                norm,
                cp.asarray(plan.fragment_group),
                cp.asarray(plan.padded_offsets),
                cp.asarray(some.view(np.uint8)),
                partial,
                np.int32(plan.n_rows),
            )
            function((len(some),), (_THREADS,), arguments, shared_mem=_SHARED)
        return partial, factor


def _split(cells: Any, plan: FragmentPlan) -> tuple[Any, Any, Any, float]:
    """Split padded rows into two halves, on the current device."""
    n_columns = cells.shape[1]
    centre = cells.mean(axis=0, dtype=np.float64)
    largest = float(cp.abs(cells - centre).max())
    factor = 2.0 ** np.floor(np.log2(_LARGEST / largest)) if largest > 0 else 1.0
    hi = cp.empty((plan.n_rows, WIDTH), dtype=np.uint16)
    lo, norm = cp.empty_like(hi), cp.empty(plan.n_rows, dtype=np.float32)
    rows_at_once = _THREADS // 32
    kernel("energy_prepare.cu", "split_rows")(
        (-(-plan.n_rows // rows_at_once),),
        (_THREADS,),
        (
            cells,
            centre,
            np.float64(factor),
            cp.asarray(plan.source),
            np.int32(plan.n_rows),
            np.int32(n_columns),
            np.int32(WIDTH),
            hi,
            lo,
            norm,
        ),
    )
    return hi, lo, norm, float(factor)


def _reduce(partial: Any, plan: FragmentPlan, low: Any, high: Any, sums: Any) -> None:
    """Add the fragments of each pair; groups without cells have none."""
    kernel("energy_prepare.cu", "sum_fragments")(
        (-(-len(low) // _THREADS),),
        (_THREADS,),
        (
            partial,
            cp.asarray(plan.slots),
            cp.asarray(plan.chunk_of_group),
            cp.asarray(plan.chunk_bounds),
            cp.asarray(plan.padded_offsets),
            low,
            high,
            np.int64(len(low)),
            np.int32(plan.slots.shape[1]),
            np.int32(TILE // FRAGMENT),
            sums,
        ),
    )
