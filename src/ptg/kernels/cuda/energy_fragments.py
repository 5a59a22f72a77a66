"""Energy sums on tensor cores: float32 cells as pairs of halves.

`energy_common.cuh` says how rows are laid out. `energy_wgmma.cu` is for Hopper cards, `energy_mma.cu` for all from
sm_80 on and for resampling weights. Each takes a plan of (tile of rows, run of groups of columns) and leaves one
partial sum per 16 rows and group of columns; these are added in fixed order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cupy as cp
import numpy as np

from ptg.kernels.cuda.devices import on_devices
from ptg.kernels.cuda.energy_plan import FRAGMENT, Batch, Layout, Plan
from ptg.kernels.cuda.memory import with_fitting_size
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
    return weights is None or (weights.dtype.kind in "bui" and (weights.dtype.itemsize == 1 or _small(weights)))


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
            arguments: tuple[Any, ...] = (
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
    n_together = 1 if weights is None else _DRAWS
    chosen = variant or _choose(cells.shape[1], weights is not None, resources.devices)
    return with_fitting_size(
        lambda n_partial: _Sums(cells, offsets, pairs, chosen, (n_partial, resources)).sums(weights),
        max(resources.memory // 4 // (8 * n_together), 1),
        smallest=1 << 16,
        what="partial sums at a time",
    )


def _choose(n_columns: int, weighted: bool, devices: tuple[int, ...]) -> Variant:
    """Choose the kernel for all devices: sums of different kernels differ in their last bits."""
    hopper = True
    for device in devices:
        with cp.cuda.Device(device):
            hopper = hopper and capability() == 90
    if weighted:
        return mma_variant(n_columns, draws=_DRAWS)
    return wgmma_variant(n_columns) if hopper else mma_variant(n_columns)


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
        n_partial, self._resources = limits
        self._devices = self._resources.devices
        self._variant = variant
        layout = Layout.of_groups(offsets)
        self._plan = Plan.of_pairs(
            layout, *pairs, tile_rows=variant.tile_rows, n_at_once=n_partial, n_devices=len(self._devices)
        )
        self._cells = on_devices(
            lambda _: _Cells(cells, layout, self._resources), [None] * len(self._devices), self._devices
        )
        self._n_pairs = len(pairs[0])

    def sums(self, weights: Any) -> Any:
        """(n_pairs,) or, with weights, (n_draws, n_pairs)."""
        n_passes = 1 if weights is None else -(-len(weights) // _DRAWS)
        self._resources.progress.start(float(self._plan.work.sum()) * n_passes)
        if weights is None:
            sums = cp.zeros(self._n_pairs, dtype=np.float64)
            self._add_batches([None] * len(self._devices), sums)
            return sums / self._cells[0].about[:8].view(np.float64)
        out = cp.empty((len(weights), self._n_pairs), dtype=np.float64)
        for start in range(0, len(weights), _DRAWS):
            self._fill_weighted(weights[start : start + _DRAWS], out[start : start + _DRAWS])
        return out

    def _fill_weighted(self, weights: Any, out: Any) -> None:
        """Fill (n_draws, n_pairs) for at most `_DRAWS` draws."""
        halves = on_devices(
            lambda cells: cells.split_weights(to_device(weights, self._resources)), self._cells, self._devices
        )
        sums = cp.zeros((self._n_pairs, _DRAWS), dtype=np.float64)
        self._add_batches([half for half, _ in halves], sums)
        kernel("energy_prepare.cu", "finish_weighted")(
            (-(-out.size // 256),),
            (256,),
            (
                sums,
                halves[0][1],
                self._plan.row_group,
                self._plan.column_group,
                self._cells[0].about,
                np.int64(self._n_pairs),
                np.int32(_DRAWS),
                np.int32(len(out)),
                out,
            ),
        )

    def _add_batches(self, weights: list[Any], sums: Any) -> None:
        """Compute the batches, as many at a time as there are devices, and add them in their order."""
        n_devices = len(self._devices)
        for start in range(0, len(self._plan.batches), n_devices):
            some = self._plan.batches[start : start + n_devices]
            shares = list(zip(self._cells, some, weights, strict=False))
            partials = on_devices(
                lambda share: share[0].launch(self._variant, *share[1:]), shares, self._devices[: len(some)]
            )
            for batch, partial in zip(some, partials, strict=True):
                add_batch(self._plan, self._cells[0].padded_offsets, batch, cp.asarray(partial), sums)
            self._resources.progress.advance(float(self._plan.work[start : start + n_devices].sum()))


def add_batch(plan: Plan, padded_offsets: Any, batch: Batch, partial: Any, sums: Any) -> None:
    """Add the partial sums of a batch to the sums of their pairs, (n_pairs,) or (n_pairs, n_draws)."""
    fragments = plan.tile_rows // FRAGMENT
    arguments: tuple[Any, ...] = (
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
    )
    name = "sum_fragments"
    if sums.ndim == 2:
        name, arguments = "sum_weighted_fragments", (*arguments, np.int32(sums.shape[1]))
    kernel("energy_prepare.cu", name)((-(-sums.size // 256),), (256,), (*arguments, sums))
