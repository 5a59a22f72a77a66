"""Neighbouring rows of a matrix on a device, made dense block by block."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import cupy as cp

from ptg.kernels.cuda.rows import DeviceRows
from ptg.kernels.cuda.source import kernel

_BLOCK_VALUES = 1 << 24
"""Values of a block: its size depends on the number of columns alone, and with it the bits of sums over blocks."""


class Part:
    """Rows `first` to ``stop - 1`` of a dense or CSR matrix."""

    def __init__(self, rows: DeviceRows, first: int, stop: int, n_columns: int) -> None:
        self.n = stop - first
        self._rows, self._first, self._n_columns = rows, first, n_columns

    def blocks(self) -> Iterator[Any]:
        """Rows as dense float64, a block at a time."""
        at_once = max(_BLOCK_VALUES // max(self._n_columns, 1), 1)
        for start in range(0, self.n, at_once):
            wanted = cp.arange(self._first + start, self._first + min(start + at_once, self.n))
            block = cp.zeros((len(wanted), self._n_columns))
            fill_rows(self._rows, wanted, cp.arange(len(wanted)), block)
            yield block


def fill_rows(rows: DeviceRows, wanted: Any, places: Any, out: Any) -> None:
    """Write rows `wanted` to ``out[places]`` as float64; `out` must be zero there."""
    if len(wanted) and out.size:
        arguments = (*rows.arguments, wanted, places, out)
        kernel("principal_axes.cu", "fill_rows", rows.options)((len(wanted),), (256,), arguments)
