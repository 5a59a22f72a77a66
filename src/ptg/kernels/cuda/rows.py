"""Rows of dense and CSR matrices on a device, all at once or piece by piece."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import cupy as cp
import numpy as np

from ptg.kernels.cuda.pieces import cut_runs
from ptg.kernels.cuda.source import type_options
from ptg.kernels.cuda.transfer import to_device

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from ptg.kernels.contract.resources import Resources

_NO_ARRAY = np.uint64(0)


def is_on_host(matrix: Any) -> bool:
    """Tell whether a dense or CSR matrix is NumPy's or SciPy's."""
    return not isinstance(getattr(matrix, "indptr", matrix), cp.ndarray)


class DeviceRows(NamedTuple):
    """Neighbouring rows on the current device.

    Attributes
    ----------
    options
        Compiler options of a kernel that reads them.
    arguments
        Its ``ROWS_PARAMETERS`` (`rows.cuh`).
    """

    options: tuple[str, ...]
    arguments: tuple[Any, ...]


class RowReader:
    """Brings rows of a dense or canonical CSR matrix to the current device.

    Attributes
    ----------
    starts
        (n_rows + 1,) int64: the first entry of each row; every value of a dense matrix is one.
    """

    def __init__(self, matrix: Any, resources: Resources) -> None:
        self._matrix, self._resources = matrix, resources
        self.is_dense = isinstance(matrix, (np.ndarray, cp.ndarray))
        self.n_rows, self.n_columns = matrix.shape
        self.dtype = np.dtype(matrix.dtype)
        if self.is_dense:
            self.starts: NDArray[np.int64] = np.arange(self.n_rows + 1, dtype=np.int64) * self.n_columns
        else:
            self.starts = cp.asnumpy(matrix.indptr).astype(np.int64)

    @property
    def options(self) -> tuple[str, ...]:
        """Compiler options of kernels that read these rows."""
        if self.is_dense:
            return ("-DDENSE", *type_options(Value=self.dtype))
        return type_options(Value=self.dtype, Index=self._matrix.indices.dtype)

    @property
    def entries_per_row(self) -> float:
        """Mean number of entries of a row."""
        return int(self.starts[-1]) / max(int(self.n_rows), 1)

    @property
    def entries_at_once(self) -> int:
        """As many entries as memory holds, at least one; all of a matrix on a device, which is there already."""
        n_entries = max(int(self.starts[-1]), 1)
        if not is_on_host(self._matrix):
            return n_entries
        entry: int = self.dtype.itemsize + (0 if self.is_dense else self._matrix.indices.dtype.itemsize)
        return min(n_entries, max(self._resources.memory // entry, 1))

    def load(self, first: int, last: int) -> DeviceRows:
        """Copy rows `first` to ``last - 1``, or point to where they are."""
        bounds = (np.int64(first), np.int64(last), np.int32(self.n_columns))
        if self.is_dense:
            values = to_device(self._matrix[first:last], self._resources)
            return DeviceRows(self.options, (_NO_ARRAY, _NO_ARRAY, values, *bounds))
        entries = slice(int(self.starts[first]), int(self.starts[last]))
        indices = to_device(self._matrix.indices[entries], self._resources)
        values = to_device(self._matrix.data[entries], self._resources)
        starts = cp.asarray(self.starts[first : last + 1])
        return DeviceRows(self.options, (starts, indices, values, *bounds))


class RowPieces:
    """Iterate over rows in pieces: yields (first, stop, rows); a single piece stays on the device.

    Parameters
    ----------
    reader
        Where the rows come from.
    bounds
        Row numbers, ascending: a piece has the rows from ``bounds[first]`` to ``bounds[stop] - 1``.
    entries
        A piece has at most so many, unless it is from one bound to the next.
    """

    def __init__(self, reader: RowReader, bounds: NDArray[np.int64], entries: int) -> None:
        self.reader, self._bounds = reader, bounds
        self._runs = cut_runs(reader.starts[bounds], entries)
        self._kept: DeviceRows | None = None

    def n_entries(self, first: int, stop: int) -> int:
        """Return the number of entries of a piece."""
        return int(self.reader.starts[self._bounds[stop]] - self.reader.starts[self._bounds[first]])

    def __iter__(self) -> Iterator[tuple[int, int, DeviceRows]]:
        for first, stop in self._runs:
            rows = self._kept or self.reader.load(int(self._bounds[first]), int(self._bounds[stop]))
            if len(self._runs) == 1:
                self._kept = rows
            yield first, stop, rows
