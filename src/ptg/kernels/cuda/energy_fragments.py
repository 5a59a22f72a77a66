"""Energy sums on tensor cores: float32 cells in fragments of half-precision pairs (`energy_wgmma.cu`, `energy_mma.cu`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cupy as cp
import numpy as np

from ptg.kernels.cuda.devices import on_devices
from ptg.kernels.cuda.energy_plan import FRAGMENT, Batch, Layout, Plan
from ptg.kernels.cuda.source import architecture_kernel, capability, kernel, type_options
from ptg.kernels.cuda.transfer import to_device

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ptg.kernels.contract.resources import Resources

_WIDEST = 128
"""Columns of a cell: more do not fit beside each other in shared memory."""

_LARGEST_WEIGHT = 2048
"""Whole numbers up to this are halves."""

_DRAWS = 128
"""Draws multiplied at once, always as many (padded with zeros): a draw's bits do not depend on their number."""

_NO_ARRAY = np.uint64(0)


@dataclass(frozen=True)
class Variant:
    """A compiled kernel: its source, what its macros are, and the shape that they give it."""

    name: str
    macros: tuple[tuple[str, int], ...]
    tile_rows: int
    threads: int
    shared: int

    def function(self) -> Any:
        """Kernel for the current device."""
        options = tuple(f"-D{name}={value}" for name, value in self.macros)
        if self.name == "energy_wgmma.cu":
            function = architecture_kernel(self.name, "pair_sums", options, "sm_90a")
        else:
            function = kernel(self.name, "pair_sums", options)
        function.max_dynamic_shared_size_bytes = self.shared
        return function


def chunks_of(n_columns: int) -> tuple[int, int]:
    """Split a row into whole chunks of 8 columns, and chunks for the rest and the norms (`energy_common.cuh`)."""
    eights = n_columns // 8
    rest = -(-(3 * (n_columns - 8 * eights) + 6) // 8)
    return eights, rest + (eights + rest) % 2


def _row_bytes(n_columns: int) -> int:
    eights, rest = chunks_of(n_columns)
    return (2 * eights + rest) * 16


def wgmma_variant(
    n_columns: int, *, warpgroups: int = 0, columns: int = 128, stages: int = 0, order: int = 1
) -> Variant:
    """Kernel for Hopper cards; narrow cells leave room for more rows and deeper stages."""
    eights, rest = chunks_of(n_columns)
    row = _row_bytes(n_columns)
    warpgroups = warpgroups or (4 if n_columns <= 64 else 2)

    def shared(n_stages: int) -> int:
        ended = 4 * warpgroups * (columns // FRAGMENT) * 32 * 8
        return 64 * warpgroups * row + n_stages * columns * row + ended + 8 * (2 * n_stages + 1)

    stages = stages or next(n for n in (4, 3, 2) if n == 2 or shared(n) <= 227 << 10)
    macros = {"EIGHTS": eights, "REST": rest, "WARPGROUPS": warpgroups, "COLUMNS": columns, "STAGES": stages}
    return Variant(
        "energy_wgmma.cu",
        (*macros.items(), ("ORDER", order)),
        64 * warpgroups,
        128 * warpgroups + 32,
        shared(stages),
    )


def mma_variant(n_columns: int, *, draws: int = 0, fragments: int = 0, blocks: int = 0, stages: int = 0) -> Variant:
    """Kernel for cards from sm_80 on, and for resampling weights on all."""
    eights, rest = chunks_of(n_columns)
    row = _row_bytes(n_columns)
    columns = 64 if n_columns <= 64 else 32
    narrow = n_columns <= 64 and not draws
    fragments = fragments or (2 if narrow else 1)
    stages = stages or (3 if narrow else 2)
    macros = {
        "EIGHTS": eights,
        "REST": rest,
        "WARP_FRAGMENTS": fragments,
        "COLUMNS": columns,
        "STAGES": stages,
        "BLOCKS": blocks or (2 if narrow else 1),
        "DRAWS": draws,
    }
    # Four chunks are read at once: some bytes past the last.
    shared = stages * columns * (row + 2 * draws) + 512
    return Variant("energy_mma.cu", tuple(macros.items()), 128 * fragments, 256, shared)


def fits_fragments(cells: Any, weights: Any, devices: tuple[int, ...]) -> bool:
    """Tell whether `fragment_sums` takes these cells and weights on all of these devices."""
    if not isinstance(cells, (np.ndarray, cp.ndarray)) or cells.dtype != np.float32:
        return False
    if not 0 < cells.shape[1] <= _WIDEST:
        return False
    for device in devices:
        with cp.cuda.Device(device):
            if capability() < 80:
                return False
    return weights is None or (weights.dtype.kind in "bu" and (weights.dtype.itemsize == 1 or _small(weights)))


def _small(weights: Any) -> bool:
    return not weights.size or int(weights.max()) <= _LARGEST_WEIGHT


class _Cells:
    """Split rows on the current device, and what the kernels need to know of them."""

    def __init__(self, cells: Any, layout: Layout, resources: Resources) -> None:
        self.cells = to_device(cells, resources)
        self.layout = layout
        n_cells, n_columns = cells.shape
        eights, rest = chunks_of(n_columns)
        self._options = (f"-DEIGHTS={eights}", f"-DREST={rest}")
        self.padded_offsets, self.shifts = cp.asarray(layout.padded_offsets), cp.asarray(layout.shifts)
        self.about = cp.empty(24, dtype=np.uint8)
        centre = self._describe(n_cells, n_columns)
        row_bytes = _row_bytes(n_columns)
        self.left, self.right = (cp.empty(layout.n_rows * row_bytes, dtype=np.uint8) for _ in range(2))
        self.norms = cp.empty(layout.n_rows, dtype=np.float32)
        self.fragment_group = cp.empty(layout.n_rows // FRAGMENT, dtype=np.int32)
        self.info = cp.empty(layout.n_rows // 128 * 16, dtype=np.uint8)
        n_blocks = layout.n_rows // 8
        kernel("energy_prepare.cu", "split_rows", self._options)(
            (-(-n_blocks // 4),),
            (128,),
            (
                self.cells,
                centre,
                self.about,
                *self._groups,
                np.int32(n_blocks),
                np.int32(n_columns),
                self.left,
                self.right,
                self.norms,
                self.fragment_group,
            ),
            shared_mem=4 * 2 * 8 * row_bytes,
        )
        n_infos = layout.n_rows // 128
        kernel("energy_prepare.cu", "describe_rows", self._options)(
            (-(-n_infos // 128),),
            (128,),
            (self.norms, self.fragment_group, *self._groups, np.int32(n_infos), self.info),
        )

    @property
    def _groups(self) -> tuple[Any, Any, np.int32]:
        return self.padded_offsets, self.shifts, np.int32(self.layout.n_groups)

    def _describe(self, n_cells: int, n_columns: int) -> Any:
        """Fill `about`; return the centre."""
        n_parts = min(256, -(-n_cells // 64))
        parts, centre = cp.empty((n_parts, 4, n_columns), dtype=np.float64), cp.empty(n_columns, dtype=np.float64)
        size = (np.int64(n_cells), np.int32(n_columns))
        kernel("energy_prepare.cu", "sum_columns", self._options)(
            (n_parts,), (256,), (self.cells, *size, parts), shared_mem=4 * 256 * 8
        )
        kernel("energy_prepare.cu", "describe_cells", self._options)(
            (1,), (_WIDEST,), (self.cells, parts, np.int32(n_parts), *size, centre, self.about)
        )
        return centre

    def launch(self, variant: Variant, batch: Batch, weights: Any = None) -> Any:
        """Compute the partial sums of a batch, for `_DRAWS` draws if there are weights."""
        n_at_once = 1 if weights is None else _DRAWS
        partial = cp.empty(batch.n_partial * n_at_once, dtype=np.float64)
        if len(batch.tasks):
            arguments = (
                self.left,
                self.right,
                self.info,
                self.norms,
                self.fragment_group,
                self.padded_offsets,
                self.shifts,
                cp.asarray(batch.tasks.view(np.uint8)),
                self.cells,
                np.int32(self.cells.shape[1]),
                self.about,
                partial,
            )
            if variant.name == "energy_mma.cu":
                arguments += (_NO_ARRAY if weights is None else weights,)
            variant.function()((len(batch.tasks),), (variant.threads,), arguments, shared_mem=variant.shared)
        return partial

    def split_weights(self, weights: Any) -> tuple[Any, Any]:
        """Lay out at most `_DRAWS` weight vectors as halves; return them and the sums (n_groups, _DRAWS)."""
        halves = cp.empty(self.layout.n_rows * _DRAWS * 2, dtype=np.uint8)
        sums = cp.empty((self.layout.n_groups, _DRAWS), dtype=np.float64)
        options = (*self._options, *type_options(Weight=weights.dtype))
        size = (np.int64(weights.shape[1]), np.int32(len(weights)), np.int32(_DRAWS))
        n_blocks = self.layout.n_rows // 8
        kernel("energy_prepare.cu", "split_weights", options)(
            (-(-n_blocks // 128), _DRAWS),
            (128,),
            (weights, *size, self.fragment_group, *self._groups, np.int32(n_blocks), halves),
        )
        kernel("energy_prepare.cu", "sum_weights", options)(
            (-(-self.layout.n_groups // 4), _DRAWS), (128,), (weights, *size, *self._groups, sums)
        )
        return halves, sums


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
    layout = Layout.of_groups(offsets)
    n_at_once = 1 if weights is None else _DRAWS
    variant = variant or _choose(cells.shape[1], weights is not None, resources.devices)
    plan = Plan.of_pairs(
        layout,
        *pairs,
        tile_rows=variant.tile_rows,
        n_at_once=resources.memory // 4 // (8 * n_at_once),
        n_devices=len(resources.devices),
    )
    n_passes = 1 if weights is None else -(-len(weights) // _DRAWS)
    resources.progress.start(float(plan.work.sum()) * n_passes)
    split = on_devices(lambda _: _Cells(cells, layout, resources), [None] * len(resources.devices), resources.devices)
    if weights is None:
        sums = cp.zeros(len(pairs[0]), dtype=np.float64)
        _add_batches(plan, split, variant, [None] * len(split), sums, resources)
        return sums / split[0].about[:8].view(np.float64)
    out = cp.empty((len(weights), len(pairs[0])), dtype=np.float64)
    for start in range(0, len(weights), _DRAWS):
        some = weights[start : start + _DRAWS]
        halves = on_devices(
            lambda device_cells, some=some: device_cells.split_weights(to_device(some, resources)),
            split,
            resources.devices,
        )
        sums = cp.zeros((len(pairs[0]), _DRAWS), dtype=np.float64)
        _add_batches(plan, split, variant, [h for h, _ in halves], sums, resources)
        _finish(plan, split[0], sums, halves[0][1], out[start : start + _DRAWS])
    return out


def _choose(n_columns: int, weighted: bool, devices: tuple[int, ...]) -> Variant:
    """Choose the kernel for all devices: sums of different kernels differ in their last bits."""
    hopper = True
    for device in devices:
        with cp.cuda.Device(device):
            hopper = hopper and capability() == 90
    if weighted:
        return mma_variant(n_columns, draws=_DRAWS)
    return wgmma_variant(n_columns) if hopper else mma_variant(n_columns)


def _add_batches(
    plan: Plan, split: list[_Cells], variant: Variant, weights: list[Any], sums: Any, resources: Resources
) -> None:
    """Compute the batches, as many at a time as there are devices, and add them in their order."""
    n_devices = len(split)
    for start in range(0, len(plan.batches), n_devices):
        some = plan.batches[start : start + n_devices]
        partials = on_devices(
            lambda share: share[0].launch(variant, *share[1:]),
            [(split[k], batch, weights[k]) for k, batch in enumerate(some)],
            resources.devices[: len(some)],
        )
        for batch, partial in zip(some, partials, strict=True):
            _add(plan, split[0], batch, cp.asarray(partial), sums)
        resources.progress.advance(float(plan.work[start : start + n_devices].sum()))


def _add(plan: Plan, cells: _Cells, batch: Batch, partial: Any, sums: Any) -> None:
    """Add the fragments of a batch to the sums of their pairs."""
    fragments = plan.tile_rows // FRAGMENT
    arguments = (
        partial,
        plan.slots,
        plan.first,
        plan.stop,
        plan.chunk_of_group,
        cells.padded_offsets,
        plan.row_group,
        plan.column_group,
        np.int64(len(plan.row_group)),
        np.int32(plan.slots.shape[1]),
        np.int32(fragments),
        np.int32(batch.tiles[0] * fragments),
        np.int32(batch.tiles[1] * fragments),
    )
    if sums.ndim == 1:
        kernel("energy_prepare.cu", "sum_fragments")((-(-sums.size // 256),), (256,), (*arguments, sums))
    else:
        arguments = (*arguments, np.int32(sums.shape[1]), sums)
        kernel("energy_prepare.cu", "sum_weighted_fragments")((-(-sums.size // 256),), (256,), arguments)


def _finish(plan: Plan, cells: _Cells, sums: Any, group_weights: Any, out: Any) -> None:
    """Fill (n_draws, n_pairs) with the sums of weighted distances."""
    kernel("energy_prepare.cu", "finish_weighted")(
        (-(-out.size // 256),),
        (256,),
        (
            sums,
            group_weights,
            plan.row_group,
            plan.column_group,
            cells.about,
            np.int64(sums.shape[0]),
            np.int32(sums.shape[1]),
            np.int32(len(out)),
            out,
        ),
    )
