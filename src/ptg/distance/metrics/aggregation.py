"""The profile of a group of cells: their mean, or what another function makes of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from ptg.data import InputError, check_choice, dense_rows
from ptg.execute import to_host

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ptg.distance.sample import Sample
    from ptg.execute import Run

    Floats: TypeAlias = NDArray[np.float64]

Aggregation: TypeAlias = Callable[..., Any]

_NAMED: dict[str, Aggregation] = {
    "mean": np.mean,
    "median": np.median,
    "min": np.min,
    "max": np.max,
    "sum": np.sum,
}


def check_aggregation(argument: str, value: object) -> Aggregation:
    """Accept one of a few names, or a function of an array and an axis."""
    if callable(value):
        return value
    if not isinstance(value, str):
        raise InputError(f"{argument}={value!r} is not accepted. Pass a function such as numpy.mean, or its name.")
    return _NAMED[check_choice(argument, value, list(_NAMED))]


def aggregate(function: Aggregation, sample: Sample, run: Run, weights: NDArray[Any] | None) -> Floats:
    """Compute the profile of every group in every draw: (n_draws, n_groups, n_columns), one draw without weights."""
    if function is np.mean:
        sums: Floats = run.kernels.moments.group_sums(
            sample.cells, sample.offsets, weights=weights, resources=run.resources
        )
        sums = sums if weights is not None else sums[None]
        sums /= sample.sizes[:, None]
        return sums
    n_draws, n_columns = 1 if weights is None else len(weights), sample.cells.shape[1]
    profiles = np.empty((n_draws, len(sample.names), n_columns))
    cells: Any = to_host(sample.cells)
    weights = None if weights is None else to_host(weights)
    for group, bounds in enumerate(pairwise(sample.offsets)):
        rows = slice(*(int(bound) for bound in bounds))
        for columns in _column_blocks(rows, n_columns, run.resources.memory):
            block = dense_rows(cells[rows, columns], slice(None)).astype(np.float64)
            for draw in range(n_draws):
                drawn = block if weights is None else np.repeat(block, weights[draw, rows], axis=0)
                profiles[draw, group, columns] = _apply(function, drawn)
    return profiles


def _column_blocks(rows: slice, n_columns: int, memory: int) -> Iterator[slice]:
    """Cut the columns so that a dense block of the rows, and a few copies, fit in memory."""
    at_once = max(1, memory // (32 * (rows.stop - rows.start)))
    for start in range(0, n_columns, at_once):
        yield slice(start, min(start + at_once, n_columns))


def _apply(function: Aggregation, cells: Floats) -> Floats:
    profile = np.asarray(function(cells, axis=0))
    if profile.shape != cells.shape[1:] or profile.dtype.kind not in "fiub":
        raise InputError(
            f"agg_fct made an array of shape {profile.shape} and type {profile.dtype} from cells of shape "
            f"{cells.shape}. Pass a function that, with axis=0, returns one number per column."
        )
    return profile.astype(np.float64)
