"""Many subsets of the cells of some blocks, and sums of a tile's values within each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ptg.kernels.cpu.compilation import jit
from ptg.kernels.cpu.products import aligned_empty
from ptg.kernels.cpu.subset_panels import COLUMNS, WORD, add_masked, fill_masks

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

_FEW = 12
"""Where less than one in so many cells is chosen, single values are picked; otherwise whole rows are added."""


class Subsets(Protocol):
    """Subsets of as many cells each."""

    def add(self, tile: NDArray[Any], row_block: int, column_block: int, out: NDArray[np.float64]) -> None:
        """Add to ``out[draw]`` a tile's values of a subset's cells in two blocks; in one block, of each pair once."""


def subsets_of(subsets: NDArray[Any], sizes: Sequence[int]) -> Subsets:
    """Prepare subsets, (n_draws, n_chosen) ascending cell numbers, of the cells of blocks of these sizes."""
    starts = np.cumsum([0, *sizes])
    subsets = np.ascontiguousarray(subsets, dtype=np.int32)
    return (_Lists if subsets.shape[1] * _FEW < starts[-1] else _Masks).of(subsets, starts)


@dataclass(frozen=True)
class _Masks:
    """Subsets as bit masks.

    Attributes
    ----------
    masks
        (n_words, n_draws) uint64.
    words
        (n_blocks + 1,) int64: the first word of each block.
    """

    masks: NDArray[np.uint64]
    words: NDArray[np.int64]

    @classmethod
    def of(cls, subsets: NDArray[np.int32], starts: NDArray[np.int64]) -> _Masks:
        words = np.cumsum([0, *-(-np.diff(starts) // WORD)])
        masks = np.empty((words[-1], len(subsets)), dtype=np.uint64)
        fill_masks(subsets, starts, masks)
        return cls(masks, words)

    def add(self, tile: NDArray[Any], row_block: int, column_block: int, out: NDArray[np.float64]) -> None:
        masks = self._of_block(row_block), self._of_block(column_block)
        add_masked(tile, masks, row_block == column_block, aligned_empty((WORD, COLUMNS), np.dtype(np.float64)), out)

    def _of_block(self, block: int) -> NDArray[np.uint64]:
        return self.masks[self.words[block] : self.words[block + 1]]


@dataclass(frozen=True)
class _Lists:
    """Subsets as lists of their cells.

    Attributes
    ----------
    subsets
        (n_draws, n_chosen) int32 cell numbers.
    starts
        (n_blocks + 1,) int64: the first cell of each block.
    bounds
        (n_draws, n_blocks + 1) int64: where the members of each block begin in a subset.
    """

    subsets: NDArray[np.int32]
    starts: NDArray[np.int64]
    bounds: NDArray[np.int64]

    @classmethod
    def of(cls, subsets: NDArray[np.int32], starts: NDArray[np.int64]) -> _Lists:
        bounds = np.empty((len(subsets), len(starts)), dtype=np.int64)
        _find_bounds(subsets, starts, bounds)
        return cls(subsets, starts, bounds)

    def add(self, tile: NDArray[Any], row_block: int, column_block: int, out: NDArray[np.float64]) -> None:
        _add_picked(tile, (self.subsets, self.starts, self.bounds), row_block, column_block, out)


@jit
def _find_bounds(subsets, starts, out):  # type: ignore[no-untyped-def]
    for draw in range(subsets.shape[0]):
        position = 0
        for block in range(starts.size):
            while position < subsets.shape[1] and subsets[draw, position] < starts[block]:
                position += 1
            out[draw, block] = position


@jit
def _add_picked(tile, lists, row_block, column_block, out):  # type: ignore[no-untyped-def]
    subsets, starts, bounds = lists
    factor = 0.5 if row_block == column_block else 1.0
    first_row, first_column = starts[row_block], starts[column_block]
    for draw in range(subsets.shape[0]):
        cells, of_block = subsets[draw], bounds[draw]
        start, stop = of_block[row_block], of_block[row_block + 1]
        columns = range(of_block[column_block], of_block[column_block + 1])
        whole = stop - (stop - start) % 4
        t0, t1, t2, t3 = 0.0, 0.0, 0.0, 0.0
        for p in range(start, whole, 4):  # four sums: additions need not wait for each other
            r0, r1 = tile[cells[p] - first_row], tile[cells[p + 1] - first_row]
            r2, r3 = tile[cells[p + 2] - first_row], tile[cells[p + 3] - first_row]
            for q in columns:
                column = cells[q] - first_column
                t0 += r0[column]
                t1 += r1[column]
                t2 += r2[column]
                t3 += r3[column]
        for p in range(whole, stop):
            row = tile[cells[p] - first_row]
            for q in columns:
                t0 += row[cells[q] - first_column]
        out[draw] += factor * ((t0 + t1) + (t2 + t3))
