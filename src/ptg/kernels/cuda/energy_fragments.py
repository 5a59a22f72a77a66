"""Energy sums on tensor cores: float32 cells as pairs of halves.

`energy_wgmma.cu` is for Hopper cards, `energy_mma.cu` for all from sm_80 on and for resampling weights. Each takes a
plan of (tile of rows, run of groups of columns) and leaves one partial sum per 16 rows and group of columns; these are
added in fixed order. Sums that rounding has changed too much are computed again (`energy_differences`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cupy as cp
import numpy as np

from ptg.kernels.cuda.devices import on_devices
from ptg.kernels.cuda.energy_differences import Differences, find_sensitive
from ptg.kernels.cuda.energy_plan import FRAGMENT, Batch, Layout, Plan
from ptg.kernels.cuda.energy_rows import Rows
from ptg.kernels.cuda.energy_variants import DRAWS, WIDEST, Variant, choose
from ptg.kernels.cuda.memory import with_fitting_size
from ptg.kernels.cuda.source import capability, kernel
from ptg.kernels.cuda.transfer import to_device

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ptg.kernels.contract.resources import Resources

_LARGEST_WEIGHT = 2048
"""Whole numbers up to this are halves."""


def fits_fragments(cells: Any, weights: Any, devices: tuple[int, ...]) -> bool:
    """Tell whether `fragment_sums` takes these cells and weights on all of these devices."""
    if not isinstance(cells, (np.ndarray, cp.ndarray)) or cells.dtype != np.float32:
        return False
    if not 0 < cells.shape[1] <= WIDEST:
        return False
    for device in devices:
        with cp.cuda.Device(device):
            if capability() < 80:
                return False
    return weights is None or (weights.dtype.kind in "bui" and (weights.dtype.itemsize == 1 or _small(weights)))


def _small(weights: Any) -> bool:
    return not weights.size or int(weights.max()) <= _LARGEST_WEIGHT


def fragment_sums(
    cells: Any,
    offsets: NDArray[np.int64],
    pairs: tuple[Any, Any],
    *,
    weights: Any = None,
    resources: Resources,
    variant: Variant | None = None,
) -> Any:
    """Sum distances for pairs of groups, int64 arrays on the current device.

    The result is on that device; its bits do not depend on the number of devices or on memory.
    """
    n_values = 2 if weights is None else 2 + DRAWS
    chosen = variant or choose(cells.shape[1], resources.devices, weighted=weights is not None)
    return with_fitting_size(
        lambda n_partial: _Sums(cells, offsets, pairs, chosen, (n_partial, resources)).sums(weights),
        max(resources.memory // 4 // (8 * n_values), 1),
        smallest=1 << 16,
        what="partial sums at a time",
    )


class _Sums:
    """The batches of a plan on some devices, and their sums on the first of them."""

    def __init__(
        self,
        cells: Any,
        offsets: NDArray[np.int64],
        pairs: tuple[Any, Any],
        variant: Variant,
        limits: tuple[int, Resources],
    ) -> None:
        self._n_at_once, self._resources = limits
        self._devices = self._resources.devices
        self._variant = variant
        layout = Layout.of_groups(offsets)
        self._plan = Plan.of_pairs(
            layout, *pairs, tile_rows=variant.tile_rows, n_at_once=self._n_at_once, n_devices=len(self._devices)
        )
        self._rows = on_devices(
            lambda _: Rows(cells, layout, self._resources), [None] * len(self._devices), self._devices
        )
        self._n_pairs = len(pairs[0])

    def sums(self, weights: Any) -> Any:
        """(n_pairs,) or, with weights, (n_draws, n_pairs)."""
        n_passes = 1 if weights is None else -(-len(weights) // DRAWS)
        self._resources.progress.start(float(self._plan.work.sum()) * n_passes)
        if weights is None:
            return self._of_draws(None)[:, 0] / self._rows[0].factor
        out = cp.empty((len(weights), self._n_pairs), dtype=np.float64)
        for start in range(0, len(weights), DRAWS):
            some = out[start : start + DRAWS]
            sums = self._of_draws(weights[start : start + DRAWS])
            kernel("energy_prepare.cu", "finish_weighted")(
                (-(-some.size // 256),),
                (256,),
                (sums, self._rows[0].about, np.int64(self._n_pairs), np.int32(DRAWS), np.int32(len(some)), some),
            )
        return out

    def _of_draws(self, weights: Any) -> Any:
        """Scaled sums: (n_pairs, 2), the distances first, or (n_pairs, `DRAWS`) for at most `DRAWS` draws."""
        halves: list[Any] = [None] * len(self._devices)
        sums = [cp.zeros((self._n_pairs, 2), dtype=np.float64)]
        if weights is not None:
            halves = on_devices(
                lambda rows: rows.split_weights(to_device(weights, self._resources)), self._rows, self._devices
            )
            sums.append(cp.zeros((self._n_pairs, DRAWS), dtype=np.float64))
        self._add_batches(halves, sums)
        sensitive = find_sensitive(sums[0])
        if len(sensitive):
            again = Differences(
                self._rows, self._plan, sensitive, devices=self._devices, n_at_once=self._n_at_once
            ).sums(halves)
            sums[-1][sensitive, : again.shape[1]] = again
        return sums[-1]

    def _add_batches(self, weights: list[Any], sums: list[Any]) -> None:
        """Compute the batches, as many at a time as there are devices, and add them in their order."""
        n_devices = len(self._devices)
        for start in range(0, len(self._plan.batches), n_devices):
            some = self._plan.batches[start : start + n_devices]
            shares = list(zip(self._rows, some, weights, strict=False))
            partials = on_devices(
                lambda share: share[0].launch(self._variant, *share[1:]), shares, self._devices[: len(some)]
            )
            for batch, parts in zip(some, partials, strict=True):
                for part, total in zip(parts, sums, strict=False):
                    add_batch(self._plan, self._rows[0].padded_offsets, batch, cp.asarray(part), total)
            self._resources.progress.advance(float(self._plan.work[start : start + n_devices].sum()))


def add_batch(plan: Plan, padded_offsets: Any, batch: Batch, partial: Any, sums: Any) -> None:
    """Add the partial sums of a batch to the sums of their pairs, (n_pairs, n_values)."""
    fragments = plan.tile_rows // FRAGMENT
    kernel("energy_prepare.cu", "sum_fragments")(
        (-(-sums.size // 256),),
        (256,),
        (
            partial,
            plan.slots,
            plan.first,
            plan.stop,
            plan.chunk_of_group,
            padded_offsets,
            plan.row_group,
            plan.column_group,
            np.int64(len(plan.row_group)),
            np.int32(plan.slots.shape[1]),
            np.int32(fragments),
            np.int32(batch.tiles[0] * fragments),
            np.int32(batch.tiles[1] * fragments),
            np.int32(sums.shape[1]),
            sums,
        ),
    )
