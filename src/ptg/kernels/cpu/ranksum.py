"""Mann-Whitney U against one control group: see `ptg.kernels.contract.ranksum`.

Per block of genes, the nonzero values of controls and of targets are brought together gene by gene. The control's are
sorted, and each target value finds its place among them through a table of equal-width buckets: two or three memory
accesses, all in the first-level cache, whatever the number of controls. Zeros, stored or not, all have the same place.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from ptg.kernels.contract.resources import Resources
from ptg.kernels.cpu.compilation import jit
from ptg.kernels.cpu.threads import run_tasks

_COUNTED_ROWS = 16_384
"""Rows in a task of the counting pass."""


def u_statistics(
    matrix: NDArray[Any] | sp.csr_matrix[Any],
    order: NDArray[np.int64],
    offsets: NDArray[np.int64],
    control: NDArray[np.int64],
    *,
    out: Any = None,
    resources: Resources,
) -> NDArray[np.float64]:
    """Mann-Whitney U of every group against the control: see the contract."""
    result: NDArray[np.float64] = np.empty((len(offsets) - 1, matrix.shape[1])) if out is None else out
    targets = _NonzeroColumns(matrix, order, offsets, resources)
    controls = _NonzeroColumns(matrix, control, np.array([0, len(control)]), resources)
    blocks = _blocks(targets.n_stored + controls.n_stored, len(result), matrix.dtype.itemsize, resources)

    def place(block: tuple[int, int]) -> None:
        negative, positive = controls.counts[:, block[0] : block[1]]
        below_zero = 2 * negative + (len(control) - negative - positive)  # twice the place of a zero
        twice = np.diff(offsets)[:, None] * below_zero
        starts, ranked, _ = controls.gather(block)
        for gene in range(len(starts) - 1):
            ranked[starts[gene] : starts[gene + 1]].sort()
        buckets = _Buckets(np.zeros(len(starts)), np.zeros(len(starts)), np.empty(len(ranked) + len(starts), np.int32))
        _fill_buckets(starts, ranked, buckets)
        _place(targets.gather(block), (starts, ranked, buckets), (len(control), below_zero), twice)
        np.divide(twice, 2, out=result[:, block[0] : block[1]])

    run_tasks(place, blocks, resources, work=[float(last - first) for first, last in blocks])
    return result


def _blocks(stored: NDArray[np.int64], n_groups: int, itemsize: int, resources: Resources) -> list[tuple[int, int]]:
    """Cut the genes into blocks whose temporaries are bounded, at least two per thread."""
    cost = np.cumsum(stored * (itemsize + 8) + 16 * n_groups + 64)
    budget = min(resources.memory // resources.n_threads, int(cost[-1]) // (2 * resources.n_threads) + 1)
    blocks, first, spent = [], 0, 0
    while first < len(cost):
        last = max(int(np.searchsorted(cost, spent + budget, side="right")), first + 1)
        blocks.append((first, last))
        first, spent = last, int(cost[last - 1])
    return blocks


class _NonzeroColumns:
    """Nonzero values of some rows of a matrix, gene by gene.

    Attributes
    ----------
    counts
        (2, n_genes) int64: values below and above zero.
    """

    def __init__(
        self,
        matrix: NDArray[Any] | sp.csr_matrix[Any],
        rows: NDArray[np.int64],
        offsets: NDArray[np.int64],
        resources: Resources,
    ) -> None:
        self._rows, self._offsets, self._dtype = rows, offsets, matrix.dtype
        count: Callable[..., None]
        if isinstance(matrix, np.ndarray):
            count, self._collect = partial(_count_dense, matrix), partial(_collect_dense, matrix)
        else:
            csr = (matrix.indptr, matrix.indices, matrix.data)
            count, self._collect = partial(_count_sparse, csr), partial(_collect_sparse, csr)

        def count_part(start: int) -> NDArray[np.int64]:
            counts = np.zeros((2, matrix.shape[1]), dtype=np.int64)
            count(rows[start : start + _COUNTED_ROWS], counts)
            return counts

        counts = run_tasks(count_part, range(0, len(rows), _COUNTED_ROWS), resources)
        self.counts = sum(counts, np.zeros((2, matrix.shape[1]), dtype=np.int64))

    @property
    def n_stored(self) -> NDArray[np.int64]:
        """Number of nonzero values of each gene."""
        return np.asarray(self.counts.sum(axis=0))

    def gather(self, block: tuple[int, int]) -> tuple[NDArray[np.int64], NDArray[Any], NDArray[np.int32]]:
        """Return starts (n_genes + 1,), values and their groups, for the genes of a block."""
        starts = np.concatenate([[0], np.cumsum(self.n_stored[block[0] : block[1]])])
        values = np.empty(starts[-1], dtype=self._dtype)
        groups = np.empty(starts[-1], dtype=np.int32)
        self._collect(self._rows, self._offsets, block, (starts[:-1].copy(), values, groups))
        return starts, values, groups


class _Buckets(NamedTuple):
    """Where to look for a value among the sorted controls of a gene.

    Gene `g` with `n` controls from ``starts[g]`` on has buckets ``0 <= b <= n``. Its controls `k` with
    ``(x_k - lowest) * per_unit < b`` are those before ``first[starts[g] + g + b]`` (counted from ``starts[g]``). The
    expression never falls as x rises, in floating point too, so a value and its equals are in one bucket.

    Attributes
    ----------
    lowest, per_unit
        One per gene; ``per_unit`` is 0 where all controls are in bucket 0.
    first
        int32, flat.
    """

    lowest: NDArray[np.float64]
    per_unit: NDArray[np.float64]
    first: NDArray[np.int32]


@jit
def _count_dense(matrix, rows, counts):  # type: ignore[no-untyped-def]
    for row in rows:
        for gene in range(matrix.shape[1]):
            counts[0, gene] += matrix[row, gene] < 0
            counts[1, gene] += matrix[row, gene] > 0


@jit
def _count_sparse(csr, rows, counts):  # type: ignore[no-untyped-def]
    indptr, indices, data = csr
    for row in rows:
        for entry in range(indptr[row], indptr[row + 1]):
            counts[0, indices[entry]] += data[entry] < 0
            counts[1, indices[entry]] += data[entry] > 0


@jit
def _collect_dense(matrix, rows, offsets, block, collected):  # type: ignore[no-untyped-def]
    position, values, groups = collected
    for group in range(len(offsets) - 1):
        for cell in range(offsets[group], offsets[group + 1]):
            for gene in range(block[0], block[1]):
                x = matrix[rows[cell], gene]
                if x != 0:
                    at = position[gene - block[0]]
                    values[at] = x
                    groups[at] = group
                    position[gene - block[0]] = at + 1


@jit
def _collect_sparse(csr, rows, offsets, block, collected):  # type: ignore[no-untyped-def]
    indptr, indices, data = csr
    position, values, groups = collected
    for group in range(len(offsets) - 1):
        for cell in range(offsets[group], offsets[group + 1]):
            entry, end = indptr[rows[cell]], indptr[rows[cell] + 1]
            if block[0] > 0:
                entry = _lower_bound(indices, entry, end, block[0])
            while entry < end and indices[entry] < block[1]:
                if data[entry] != 0:
                    at = position[indices[entry] - block[0]]
                    values[at] = data[entry]
                    groups[at] = group
                    position[indices[entry] - block[0]] = at + 1
                entry += 1


@jit
def _lower_bound(ascending, start, end, x):  # type: ignore[no-untyped-def]
    """Return the first position in ascending[start:end] that is not below x, else `end`."""
    while start < end:
        middle = (start + end) >> 1
        if ascending[middle] < x:
            start = middle + 1
        else:
            end = middle
    return start


@jit
def _upper_bound(ascending, start, end, x):  # type: ignore[no-untyped-def]
    """Return the first position in ascending[start:end] that is above x, else `end`."""
    while start < end:
        middle = (start + end) >> 1
        if ascending[middle] <= x:
            start = middle + 1
        else:
            end = middle
    return start


@jit
def _fill_buckets(starts, ranked, buckets):  # type: ignore[no-untyped-def]
    for gene in range(len(starts) - 1):
        start, n = starts[gene], starts[gene + 1] - starts[gene]
        base = start + gene
        filled = 0
        if n > 0:
            lowest = np.float64(ranked[start])
            per_unit = (n - 1) / (ranked[start + n - 1] - lowest)
            if not np.isfinite(per_unit):  # one value only, or a range beyond floating point
                per_unit = 0.0
            buckets.lowest[gene] = lowest
            buckets.per_unit[gene] = per_unit
            for k in range(n):
                bucket = np.int64((ranked[start + k] - lowest) * per_unit) if per_unit > 0 else 0
                while filled <= bucket:
                    buckets.first[base + filled] = k
                    filled += 1
        while filled <= n:
            buckets.first[base + filled] = n
            filled += 1


@jit
def _place(targets, controls, zeros, twice):  # type: ignore[no-untyped-def]
    """Add to `twice`, which holds the place of a zero for every cell, what each value has beyond that."""
    target_starts, values, groups = targets
    starts, ranked, buckets = controls
    n_control, below_zero = zeros
    for gene in range(len(starts) - 1):
        start, n = starts[gene], starts[gene + 1] - starts[gene]
        n_zero = n_control - n
        lowest, per_unit = buckets.lowest[gene], buckets.per_unit[gene]
        for target in range(target_starts[gene], target_starts[gene + 1]):
            x = values[target]
            low, high = start, start + n
            if per_unit > 0:
                scaled = (x - lowest) * per_unit
                if scaled < 0:
                    high = low
                elif scaled >= n:
                    low = high
                else:
                    bucket = start + gene + np.int64(scaled)
                    low, high = start + buckets.first[bucket], start + buckets.first[bucket + 1]
            place = _lower_bound(ranked, low, high, x)
            rank = 2 * (place - start)
            if place < high and ranked[place] == x:
                rank += _upper_bound(ranked, place, high, x) - place
            if x > 0:
                rank += 2 * n_zero
            twice[groups[target], gene] += rank - below_zero[gene]
