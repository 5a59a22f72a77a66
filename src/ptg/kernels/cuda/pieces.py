"""Cut work into runs and shares. NumPy only."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def cut_runs(cumulative: NDArray[Any], limit: int) -> list[tuple[int, int]]:
    """Cut items into runs (first, stop) that cost at most `limit`, or are one item that costs more.

    Parameters
    ----------
    cumulative
        (n_items + 1,) ascending: item `i` costs ``cumulative[i + 1] - cumulative[i]``.
    limit
        As much as a run may cost.
    """
    runs = []
    first, n_items = 0, len(cumulative) - 1
    while first < n_items:
        stop = int(np.searchsorted(cumulative, cumulative[first] + limit, side="right")) - 1
        stop = min(max(stop, first + 1), n_items)
        runs.append((first, stop))
        first = stop
    return runs


def share_out(cumulative: NDArray[Any], n_shares: int) -> list[tuple[int, int]]:
    """Cut items into `n_shares` neighbouring runs (first, stop) that cost about the same; some may be empty."""
    marks = cumulative[0] + (cumulative[-1] - cumulative[0]) * np.arange(1, n_shares) / n_shares
    bounds = [0, *np.searchsorted(cumulative, marks).tolist(), len(cumulative) - 1]
    return list(pairwise(bounds))
