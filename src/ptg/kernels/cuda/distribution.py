"""Differences of distribution functions, on GPUs: see `ptg.kernels.contract.distribution`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cupy as cp
import numpy as np

from ptg.kernels.cuda.devices import on_devices
from ptg.kernels.cuda.matrices import bring
from ptg.kernels.cuda.memory import within_memory
from ptg.kernels.cuda.pieces import share_out
from ptg.kernels.cuda.source import kernel

if TYPE_CHECKING:
    import scipy.sparse as sp
    from numpy.typing import NDArray

    from ptg.kernels.contract.resources import Resources

_THREADS = 128
_DRAWS = 32
_LARGEST_GRID = 65_535
_BYTES_PER_CELL = 48
"""Of a column: values, keys, order and what sorting takes."""


@within_memory
def ks_sums(
    cells: NDArray[Any] | sp.csr_matrix[Any],
    offsets: NDArray[Any],
    left: NDArray[Any],
    right: NDArray[Any],
    *,
    weights: NDArray[Any] | None = None,
    resources: Resources,
) -> NDArray[np.float64]:
    """Sum the largest differences of two groups' distribution functions over the columns: see the contract."""
    offsets, left, right = (np.asarray(cp.asnumpy(numbers), dtype=np.int64) for numbers in (offsets, left, right))
    draws = None if weights is None else cp.asnumpy(weights)
    sums = np.zeros((1 if draws is None else len(draws), len(left)))
    resources.progress.start(float(sums.size))

    def add_share(share: tuple[int, int]) -> None:
        columns = _Columns(cells, offsets, resources)
        pairs = slice(*share)
        for first in range(0, len(sums), _DRAWS):
            some = None if draws is None else draws[first : first + _DRAWS]
            _add_columns(columns, some, (left[pairs], right[pairs]), sums[first : first + _DRAWS, pairs], resources)
            resources.progress.advance(float((share[1] - share[0]) * (1 if some is None else len(some))))

    on_devices(add_share, share_out(np.arange(len(left) + 1), len(resources.devices)), resources.devices)
    return sums if weights is not None else sums[0]


class _Columns:
    """Columns of the cells on the current device, sorted in each group."""

    def __init__(self, cells: Any, offsets: NDArray[np.int64], resources: Resources) -> None:
        self.n_cells, self.n_columns = cells.shape
        there = bring(cells, resources)
        self._sparse = not isinstance(there, cp.ndarray)
        self._cells = there.tocsc() if self._sparse else there
        sizes = np.diff(offsets)
        self.offsets = cp.asarray(offsets)
        self._group_of = cp.asarray(np.repeat(np.arange(len(sizes)), sizes).astype(np.float64))
        self._first_of = cp.asarray(np.repeat(offsets[:-1], sizes))
        self._last_of = cp.asarray(np.repeat(offsets[1:], sizes) - 1)

    def load(self, first: int, stop: int, weights: Any) -> tuple[Any, Any]:
        """Values (n_columns, n_cells) and heights (n_draws, n_columns, n_cells) of some columns."""
        block = self._cells[:, first:stop]
        dense = (block.toarray() if self._sparse else block).astype(np.float64)
        n_draws = 1 if weights is None else len(weights)
        values = cp.empty((stop - first, self.n_cells))
        heights = cp.empty((n_draws, stop - first, self.n_cells))
        for k in range(stop - first):
            column = cp.ascontiguousarray(dense[:, k])
            order = cp.lexsort(cp.stack([column, self._group_of]))
            values[k] = column[order]
            drawn = cp.ones((1, self.n_cells)) if weights is None else weights[:, order]
            # Whole numbers: exact, so the sums of a group are differences of the sums of all.
            total = cp.concatenate([cp.zeros((n_draws, 1)), cp.cumsum(drawn, axis=1)], axis=1)
            before = total[:, self._first_of]
            heights[:, k] = (total[:, 1:] - before) / (total[:, self._last_of + 1] - before)
        return values, heights


def _add_columns(
    columns: _Columns,
    weights: NDArray[Any] | None,
    pairs: tuple[NDArray[np.int64], NDArray[np.int64]],
    sums: NDArray[np.float64],
    resources: Resources,
) -> None:
    """Add the statistics of all columns to `sums`, (n_draws, n_pairs), in order."""
    n_draws, n_pairs = sums.shape
    if not n_pairs:
        return
    left, right = (cp.asarray(groups) for groups in pairs)
    drawn = None if weights is None else cp.asarray(weights).astype(np.float64)
    per_column = 8 * n_draws * (n_pairs + 3 * columns.n_cells) + _BYTES_PER_CELL * columns.n_cells
    at_once = int(np.clip(resources.memory // max(per_column, 1), 1, _LARGEST_GRID))
    total = cp.zeros((n_draws, n_pairs))
    for first in range(0, columns.n_columns, at_once):
        stop = min(first + at_once, columns.n_columns)
        values, heights = columns.load(first, stop, drawn)
        out = cp.empty((n_draws, stop - first, n_pairs))
        kernel("distribution.cu", "ks_statistics")(
            (-(-n_pairs // _THREADS), stop - first, n_draws),
            (_THREADS,),
            (
                values,
                heights,
                columns.offsets,
                left,
                right,
                np.int64(n_pairs),
                np.int64(columns.n_cells),
                np.int32(stop - first),
                out,
            ),
        )
        for k in range(stop - first):
            total += out[:, k]
    sums[...] = total.get()
