"""Cells centred on their own group, with the masses of a draw: one side of a transport."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ptg.kernels.cpu.compilation import jit
from ptg.kernels.cpu.threads import run_tasks

if TYPE_CHECKING:
    import scipy.sparse as sp
    from numpy.typing import NDArray

    from ptg.kernels.contract.resources import Resources

_PANEL = 512
"""Columns multiplied at once, at most. Products of wider cells are added panel by panel in float64."""
_BLOCK = 4096
"""Cells made dense at once."""


class Side(NamedTuple):
    """The cells of a group that have mass in a draw, in units of `CentredCells.unit`.

    Attributes
    ----------
    cells
        (n_panels, n, n_columns of a panel): float32 or float64, centred on the group.
    mass
        (n,) float64: sums to 1.
    """

    cells: NDArray[Any]
    mass: NDArray[np.float64]

    @property
    def size(self) -> int:
        """Number of cells."""
        return len(self.mass)


class CentredCells:
    """Cells, each centred on its group and divided by a power of two, so that squares stay in range.

    Parameters
    ----------
    cells, offsets
        As in the contract.
    dtype
        What centred cells are rounded to: float32 or float64.
    resources
        All centred cells are kept where they take no more than a quarter of the memory.

    Attributes
    ----------
    unit
        The power of two.
    centres
        (n_groups, n_columns) float64: what is subtracted, in units of `unit`. Equal cells become exactly 0.
    """

    def __init__(
        self, cells: NDArray[Any] | sp.csr_matrix[Any], offsets: NDArray[Any], dtype: Any, resources: Resources
    ) -> None:
        self._cells, self._offsets, self._dtype = cells, np.asarray(offsets, dtype=np.int64), np.dtype(dtype)
        n_groups, n_columns = len(offsets) - 1, cells.shape[1]
        self._n_panels = max(1, -(-n_columns // _PANEL))
        self._width = -(-n_columns // self._n_panels)
        self._first, self._mean = np.zeros((n_groups, n_columns)), np.zeros((n_groups, n_columns))
        largest = max(run_tasks(self._find_centre, range(n_groups), resources), default=0.0)
        self.unit = float(np.ldexp(1.0, int(np.clip(np.frexp(largest)[1], -500, 500))))
        self.centres = (self._first + self._mean) / self.unit
        self._kept: list[NDArray[Any]] = []
        if 4 * cells.shape[0] * n_columns * self._dtype.itemsize <= resources.memory:
            self._kept = run_tasks(self._centred, range(n_groups), resources)

    def side(self, group: int, weights: NDArray[Any] | None) -> Side | None:
        """Return the cells of a group in a draw, None if there is none with mass."""
        cells = self._kept[group] if self._kept else self._centred(group)
        n = cells.shape[1]
        if weights is None:
            return Side(cells, np.full(n, 1.0 / n)) if n else None
        mass = np.asarray(weights[self._offsets[group] : self._offsets[group + 1]], dtype=np.float64)
        has_mass = mass > 0
        if not has_mass.any():
            return None
        return Side(cells if has_mass.all() else cells[:, has_mass], mass[has_mass] / mass.sum())

    def _blocks(self, group: int) -> Any:
        """Dense float64 cells, less the first of the group, a block at a time."""
        for start in range(self._offsets[group], self._offsets[group + 1], _BLOCK):
            block = self._cells[start : min(start + _BLOCK, self._offsets[group + 1])]
            dense = block if isinstance(block, np.ndarray) else block.toarray()
            yield start - self._offsets[group], dense.astype(np.float64) - self._first[group]

    def _find_centre(self, group: int) -> float:
        """Set the first cell and the mean of the others' differences from it; return the largest value centred."""
        start, stop = self._offsets[group], self._offsets[group + 1]
        if start == stop:
            return 0.0
        first = self._cells[start : start + 1]
        self._first[group] = first if isinstance(first, np.ndarray) else first.toarray()
        low, high = np.zeros((2, self._cells.shape[1]))
        for _, block in self._blocks(group):
            self._mean[group] += block.sum(axis=0)
            low, high = np.minimum(low, block.min(axis=0)), np.maximum(high, block.max(axis=0))
        self._mean[group] /= stop - start
        mean = self._mean[group]
        return float(max((high - mean).max(initial=0.0), (mean - low).max(initial=0.0)))

    def _centred(self, group: int) -> NDArray[Any]:
        n, n_columns = int(self._offsets[group + 1] - self._offsets[group]), self._cells.shape[1]
        cells = np.zeros((self._n_panels, n, self._width), self._dtype)
        for start, block in self._blocks(group):
            scaled = (block - self._mean[group]) / self.unit
            for panel in range(self._n_panels):
                part = scaled[:, panel * self._width : min((panel + 1) * self._width, n_columns)]
                cells[panel, start : start + len(part), : part.shape[1]] = part
        return cells


@jit
def moments(cells, mass):  # type: ignore[no-untyped-def]
    """Return the mean of the cells of a side, (n_panels * width,), and their mean squared norm."""
    n_panels, n, width = cells.shape
    mean = np.zeros(n_panels * width)
    squared = 0.0
    for panel in range(n_panels):
        part = mean[panel * width : (panel + 1) * width]
        for i in range(n):
            row, a = cells[panel, i], mass[i]
            total = 0.0
            for k in range(width):
                x = np.float64(row[k])
                part[k] += a * x
                total += x * x
            squared += a * total
    return mean, squared
