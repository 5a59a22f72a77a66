"""Sums of cell-to-cell values between groups: what the energy distance, mean pairwise distances and MMD are made of."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np

from ptg.distance.metrics.registry import Option
from ptg.execute import to_host
from ptg.kernels.contract.kernel_sums import CellFunction

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ptg.distance.sample import Sample
    from ptg.execute import Run

_CHUNK = 1 << 17
"""Values of two groups gathered at once."""


class Pairs(NamedTuple):
    """Pairs of groups, and the draws to take them in.

    Attributes
    ----------
    left, right
        (n_pairs,) group numbers; a group may be paired with itself.
    weights
        (n_draws, n_cells), or None for one draw of ones.
    """

    left: NDArray[Any]
    right: NDArray[Any]
    weights: NDArray[Any] | None


#: Sums of a value of two cells for pairs of groups: (n_pairs,), with weights (n_draws, n_pairs).
PairSums: TypeAlias = "Callable[[Sample, Pairs, Run], Any]"


def _euclidean(sample: Sample, pairs: Pairs, run: Run) -> Any:
    return run.kernels.energy.pair_sums(
        sample.cells, sample.offsets, pairs.left, pairs.right, weights=pairs.weights, resources=run.resources
    )


def function_sums(function: CellFunction, sample: Sample, pairs: Pairs, run: Run) -> Any:
    """Sum a function of two cells for each pair of groups."""
    return run.kernels.kernel_sums.kernel_sums(
        sample.cells,
        sample.offsets,
        pairs.left,
        pairs.right,
        function=function,
        weights=pairs.weights,
        resources=run.resources,
    )


def _squared(sample: Sample, pairs: Pairs, run: Run) -> Any:
    """From means and variances: sum |x - y|² = n m |mean difference|² + m SS_x + n SS_y, in which nothing cancels."""
    moments = run.kernels.moments.group_moments(
        sample.cells, sample.offsets, weights=pairs.weights, resources=run.resources
    )
    sizes = np.asarray(sample.sizes, dtype=np.float64)
    spread = (moments.variances * (sizes - 1)[:, None]).sum(axis=-1)
    spread[..., sizes < 2] = 0.0  # no variance, and no distance within

    def of_pairs(x: NDArray[Any], y: NDArray[Any]) -> Any:
        difference = np.square(moments.means[..., x, :] - moments.means[..., y, :]).sum(axis=-1)
        return sizes[x] * sizes[y] * difference + sizes[y] * spread[..., x] + sizes[x] * spread[..., y]

    return gather(of_pairs, pairs, moments.means)


def _angular(center: bool, sample: Sample, pairs: Pairs, run: Run) -> Any:
    """From sums of unit vectors: sum of 1 - cos = n m - <sum x/|x|, sum y/|y|>.

    NaN for a group with a cell that has no direction.
    """
    vectors, offset, has_direction = _unit_rows(sample.cells, run.arrays, center=center)
    weights, resources = pairs.weights, run.resources
    sums = run.kernels.moments.group_sums(vectors, sample.offsets, weights=weights, resources=resources)
    if offset is not None:
        sums = sums - run.kernels.moments.group_sums(offset, sample.offsets, weights=weights, resources=resources)
    sums[..., ~_all_in_group(has_direction, sample), :] = np.nan
    sizes = np.asarray(sample.sizes, dtype=np.float64)

    def of_pairs(x: NDArray[Any], y: NDArray[Any]) -> Any:
        return sizes[x] * sizes[y] - (sums[..., x, :] * sums[..., y, :]).sum(axis=-1)

    return gather(of_pairs, pairs, sums)


def _all_in_group(flags: Any, sample: Sample) -> NDArray[np.bool_]:
    return np.logical_and.reduceat(to_host(flags), sample.offsets[:-1])


def gather(of_pairs: Callable[[Any, Any], Any], pairs: Pairs, statistics: NDArray[Any]) -> NDArray[np.float64]:
    """Call `of_pairs` on a chunk of pairs at a time; the statistics are (..., n_groups, n_columns)."""
    left, right = to_host(pairs.left), to_host(pairs.right)
    at_once = max(1, _CHUNK * statistics.shape[-2] // max(statistics.size, 1))
    sums = np.empty((*statistics.shape[:-2], len(left)))
    for start in range(0, len(left), at_once):
        some = slice(start, start + at_once)
        sums[..., some] = of_pairs(left[some], right[some])
    return sums


def _unit_rows(cells: Any, arrays: Any, *, center: bool) -> tuple[Any, Any, Any]:
    """Divide each row by its norm, after subtracting its mean if `center`.

    Returns
    -------
    The rows; (n_cells, 1) what is still to be subtracted from every column of each (None if nothing), so that sparse
    rows stay sparse; (n_cells,) whether the row has a direction, that is a norm above 0. Rows without are zeros.
    """
    if hasattr(cells, "indptr"):
        return _unit_sparse(cells, arrays, center=center)
    rows = cells.astype(np.float64)
    if center:
        constant = rows.max(axis=1) == rows.min(axis=1)
        rows -= rows.mean(axis=1, keepdims=True)
        rows[constant] = 0.0
    largest = arrays.abs(rows).max(axis=1, keepdims=True)
    rows /= arrays.where(largest > 0, largest, 1.0)  # so that no square overflows
    norms = arrays.sqrt(arrays.square(rows).sum(axis=1, keepdims=True))
    rows /= arrays.where(norms > 0, norms, 1.0)
    return rows, None, norms[:, 0] > 0


def _unit_sparse(cells: Any, arrays: Any, *, center: bool) -> tuple[Any, Any, Any]:
    data = cells.data.astype(np.float64)
    row_of = arrays.searchsorted(cells.indptr, arrays.arange(len(data)), side="right") - 1
    n_rows, n_columns = cells.shape
    means = arrays.bincount(row_of, weights=data, minlength=n_rows) / n_columns if center else arrays.zeros(n_rows)
    n_stored = arrays.diff(cells.indptr)
    squares = arrays.bincount(row_of, weights=arrays.square(data - means[row_of]), minlength=n_rows)
    norms = arrays.sqrt(squares + (n_columns - n_stored) * arrays.square(means))
    scale = arrays.where(norms > 0, 1.0 / arrays.where(norms > 0, norms, 1.0), 0.0)
    rows = type(cells)((data * scale[row_of], cells.indices, cells.indptr), shape=cells.shape)
    offset = (means * scale)[:, None] if center else None
    return rows, offset, norms > 0


_SUMS: dict[str, PairSums] = {
    "euclidean": _euclidean,
    "sqeuclidean": _squared,
    "cityblock": partial(function_sums, CellFunction("cityblock")),
    "chebyshev": partial(function_sums, CellFunction("chebyshev")),
    "cosine": partial(_angular, False),
    "correlation": partial(_angular, True),
}
_ALIASES = {"l2": "euclidean", "l1": "cityblock", "manhattan": "cityblock"}

CELL_WISE_METRIC = Option(
    "cell_wise_metric",
    "euclidean",
    (*_SUMS, *_ALIASES),
    "distance between two cells, as scipy.spatial.distance defines it",
)


def cell_wise_sums(name: str) -> PairSums:
    """Return the sums of one of the accepted cell-wise metrics."""
    return _SUMS[_ALIASES.get(name, name)]


def without_direction(name: str, sample: Sample, run: Run) -> NDArray[np.bool_]:
    """Mark the groups with a cell that the cell-wise metric is not defined for: zero, or constant with correlation."""
    if name not in {"cosine", "correlation"}:
        return np.zeros(len(sample.names), dtype=bool)
    _, _, has_direction = _unit_rows(sample.cells, run.arrays, center=name == "correlation")
    return ~_all_in_group(has_direction, sample)


def between_and_within(
    sums_of: PairSums, sample: Sample, pairs: Pairs, run: Run
) -> tuple[Any, Any, NDArray[Any], tuple[Any, Any]]:
    """Sum between the two groups of each pair, and within every group that takes part, in one call.

    Returns
    -------
    Sums between, (..., n_pairs); sums within, (..., n_involved); (n_involved,) these groups; where among them each pair
    finds its left and its right group. Arrays of the run's device.
    """
    arrays = run.arrays
    left, right = arrays.asarray(pairs.left), arrays.asarray(pairs.right)
    involved = arrays.zeros(len(sample.names), dtype=bool)
    involved[left] = involved[right] = True
    groups, position = arrays.flatnonzero(involved), arrays.cumsum(involved) - 1
    asked = Pairs(arrays.concatenate([left, groups]), arrays.concatenate([right, groups]), pairs.weights)
    sums = arrays.asarray(sums_of(sample, asked, run))
    n_pairs = len(left)
    return sums[..., :n_pairs], sums[..., n_pairs:], groups, (position[left], position[right])
