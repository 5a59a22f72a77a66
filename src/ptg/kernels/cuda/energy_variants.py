"""Which kernel computes the energy sums on tensor cores, and what shape it has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cupy as cp

from ptg.kernels.cuda.energy_plan import FRAGMENT
from ptg.kernels.cuda.source import architecture_kernel, capability, kernel

WIDEST = 128
"""Columns of a cell: more do not fit beside each other in shared memory."""

DRAWS = 128
"""Draws multiplied at once, always as many (padded with zeros): a draw's bits do not depend on their number."""

_NARROW = 64
"""Up to as many columns leave room for more rows and columns at once."""

_SHARED = 227 << 10
"""Bytes of shared memory that a block has on Hopper cards."""

_LEAST_SHARED = 99 << 10
"""Bytes of shared memory that a block has on every card from sm_80 on."""


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


def row_bytes(n_columns: int) -> int:
    """Bytes of a row on one side of the product."""
    eights, rest = chunks_of(n_columns)
    return (2 * eights + rest) * 16


def wgmma_variant(n_columns: int) -> Variant:
    """Kernel for Hopper cards; narrow cells leave room for more rows and deeper stages."""
    eights, rest = chunks_of(n_columns)
    row, columns = row_bytes(n_columns), 128
    warpgroups = 4 if n_columns <= _NARROW else 2

    def shared(n_stages: int) -> int:
        ended = 4 * warpgroups * (columns // FRAGMENT) * 32 * 8
        return 64 * warpgroups * row + n_stages * columns * row + ended + 8 * (2 * n_stages + 1)

    stages = next(n for n in (4, 3, 2) if n == 2 or shared(n) <= _SHARED)
    macros = {"EIGHTS": eights, "REST": rest, "WARPGROUPS": warpgroups, "STAGES": stages}
    return Variant("energy_wgmma.cu", tuple(macros.items()), 64 * warpgroups, 128 * warpgroups + 32, shared(stages))


def mma_variant(n_columns: int, *, draws: int = 0) -> Variant:
    """Kernel for cards from sm_80 on, and for resampling weights on all."""
    eights, rest = chunks_of(n_columns)
    columns = 64 if n_columns <= _NARROW else 32
    fragments = 2 if n_columns <= _NARROW and not draws else 1

    def shared(n_stages: int) -> int:
        # Four chunks are read at once: some bytes past the last.
        return n_stages * columns * (row_bytes(n_columns) + 2 * draws) + 512

    stages = 3 if shared(3) <= _LEAST_SHARED else 2
    macros = {
        "EIGHTS": eights,
        "REST": rest,
        "WARP_FRAGMENTS": fragments,
        "COLUMNS": columns,
        "STAGES": stages,
        "BLOCKS": fragments,  # fewer rows at a time need more registers for something else
        "DRAWS": draws,
    }
    return Variant("energy_mma.cu", tuple(macros.items()), 128 * fragments, 256, shared(stages))


def choose(n_columns: int, devices: tuple[int, ...], *, weighted: bool) -> Variant:
    """Choose the kernel for all devices: sums of different kernels differ in their last bits."""
    if weighted:
        return mma_variant(n_columns, draws=DRAWS)
    hopper = True
    for device in devices:
        with cp.cuda.Device(device):
            hopper = hopper and capability() == 90
    return wgmma_variant(n_columns) if hopper else mma_variant(n_columns)
