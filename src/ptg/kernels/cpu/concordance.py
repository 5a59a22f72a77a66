"""Concordant less discordant pairs of columns, on a CPU: see `ptg.kernels.contract.concordance`.

The columns are taken in the order of the left row; a Fenwick tree counts how many of those taken before are lower and
higher in the right row. Columns that are equal in the left row are counted before any of them enters the tree.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ptg.kernels.cpu.compilation import jit
from ptg.kernels.cpu.threads import run_tasks

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ptg.kernels.contract.resources import Resources

_STEPS_PER_TASK = 1 << 20


def concordance(
    values: NDArray[Any], left: NDArray[Any], right: NDArray[Any], *, resources: Resources
) -> NDArray[np.int64]:
    """Count concordant less discordant pairs of columns: see the contract."""
    values, left, right = np.asarray(values), np.asarray(left, dtype=np.int64), np.asarray(right, dtype=np.int64)
    order = np.argsort(values, axis=1, kind="stable")
    ranks = _dense_ranks(values, order)
    out = np.zeros(len(left), np.int64)
    pairs_per_task = max(1, _STEPS_PER_TASK // max(values.shape[1], 1))

    def count(first: int) -> None:
        pairs = slice(first, first + pairs_per_task)
        _count(order, ranks, left[pairs], right[pairs], out[pairs])

    run_tasks(count, range(0, len(left), pairs_per_task), resources)
    return out


def _dense_ranks(values: NDArray[Any], order: NDArray[np.int64]) -> NDArray[np.int64]:
    """Ranks from 1 on in each row; equal values have equal ranks, and no rank is left out."""
    ordered = np.take_along_axis(values, order, axis=1)
    rises = np.ones(values.shape, np.int64)
    rises[:, 1:] = ordered[:, 1:] > ordered[:, :-1]
    ranks = np.empty(values.shape, np.int64)
    np.put_along_axis(ranks, order, np.cumsum(rises, axis=1), axis=1)
    return ranks


@jit
def _count(order, ranks, left, right, out):  # type: ignore[no-untyped-def]
    n_columns = order.shape[1]
    tree = np.zeros(n_columns + 1, np.int64)
    for pair in range(left.size):
        x, y, by_x = ranks[left[pair]], ranks[right[pair]], order[left[pair]]
        tree[:] = 0
        total, first = 0, 0
        while first < n_columns:
            stop = first
            while stop < n_columns and x[by_x[stop]] == x[by_x[first]]:
                rank = y[by_x[stop]]
                lower = _up_to(tree, rank - 1)
                total += lower - (first - _up_to(tree, rank))
                stop += 1
            for k in range(first, stop):
                position = y[by_x[k]]
                while position <= n_columns:
                    tree[position] += 1
                    position += position & -position
            first = stop
        out[pair] = total


@jit
def _up_to(tree, rank):  # type: ignore[no-untyped-def]
    """Count the entries of ranks 1 to `rank`."""
    total = 0
    while rank > 0:
        total += tree[rank]
        rank -= rank & -rank
    return total
