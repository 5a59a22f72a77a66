"""Tests of every gene in every target against the control, by scanpy's names."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import scipy.sparse as sp
from scipy import stats

from ptg.data import warn
from ptg.execute import to_host

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ptg.execute import Run
    from ptg.kernels.contract.moments import GroupMoments


@dataclass(frozen=True)
class Comparison:
    """Targets and control of one matrix.

    Attributes
    ----------
    matrix
        (n_cells, n_genes) expression, as `MatrixKernels.keep` returns it.
    order, offsets
        Target `t` has cells ``order[offsets[t]:offsets[t + 1]]``.
    control
        Cells of the control.
    run
        Kernels and resources.
    """

    matrix: Any
    order: NDArray[np.int64]
    offsets: NDArray[np.int64]
    control: NDArray[np.int64]
    run: Run

    @property
    def sizes(self) -> NDArray[np.int64]:
        """Number of cells of each target (n_targets, 1)."""
        return np.diff(self.offsets)[:, None]

    def cells(self, target: int) -> NDArray[np.int64]:
        """Cells of a target."""
        return self.order[self.offsets[target] : self.offsets[target + 1]]

    def means(self, of: Callable[[Any], Any] | None = None) -> Any:
        """Mean of every gene in every target, and in the control (last); (n_targets + 1, n_genes) on the run's device.

        With `of`, of that function of the values, which must map zero to zero.
        """
        kernels, resources, arrays = self.run.kernels.moments, self.run.resources, self.run.arrays
        means = arrays.empty((len(self.offsets), self.matrix.shape[1]))
        first = 0
        for cells, offsets in self._batches():
            part = means[first : first + len(offsets) - 1]
            kernels.group_sums(_mapped(cells, of), offsets, out=part, resources=resources)
            with np.errstate(invalid="ignore"):  # a group without cells has no mean
                part /= arrays.asarray(np.diff(offsets)[:, None], dtype=np.float64)
            first += len(offsets) - 1
        return means

    def moments(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Means and variances (n - 1), laid out as `means`."""
        kernels, resources = self.run.kernels.moments, self.run.resources
        found: list[GroupMoments] = [
            kernels.group_moments(cells, offsets, resources=resources) for cells, offsets in self._batches()
        ]
        return np.concatenate([part.means for part in found]), np.concatenate([part.variances for part in found])

    def _batches(self) -> Iterator[tuple[Any, NDArray[np.int64]]]:
        """Rows of whole groups, sorted by group, as many at a time as the memory takes (at least one)."""
        order = np.concatenate([self.order, self.control])
        offsets = np.append(self.offsets, len(order))
        matrix, take_rows = self.matrix, self.run.kernels.matrices.take_rows
        stored = 2 * matrix.nnz if hasattr(matrix, "indptr") else matrix.size
        row_bytes = max(stored * matrix.dtype.itemsize // matrix.shape[0], 1)
        n_rows = self.run.resources.memory // row_bytes
        first = 0
        while first < len(offsets) - 1:
            last = max(int(np.searchsorted(offsets, offsets[first] + n_rows, side="right")) - 1, first + 1)
            part = offsets[first : last + 1]
            cells = take_rows(matrix, order[part[0] : part[-1]], resources=self.run.resources)
            yield cells, part - part[0]
            first = last


def _mapped(matrix: Any, function: Callable[[Any], Any] | None) -> Any:
    """Apply a function that maps zero to zero to every value."""
    if function is None:
        return matrix
    if isinstance(matrix, sp.csr_matrix):
        return sp.csr_matrix((function(matrix.data), matrix.indices, matrix.indptr), shape=matrix.shape)
    if hasattr(matrix, "indptr"):
        return replace(matrix, data=function(matrix.data))
    return function(matrix)


#: Scores, p-values (None if the test has none) and means, see `Comparison.means`; arrays of the host or the device.
Tested: TypeAlias = "tuple[Any, Any | None, Any]"


def _wilcoxon(comparison: Comparison) -> Tested:
    """Rank-sum test by its normal approximation, without continuity or tie correction."""
    run, arrays = comparison.run, comparison.run.arrays
    special = import_module("scipy.special" if arrays is np else "cupyx.scipy.special")
    z = run.kernels.ranksum.u_statistics(
        comparison.matrix,
        comparison.order,
        comparison.offsets,
        comparison.control,
        out=arrays.empty((len(comparison.sizes), comparison.matrix.shape[1])),
        resources=run.resources,
    )
    n, m = arrays.asarray(comparison.sizes, dtype=np.float64), float(len(comparison.control))
    with np.errstate(invalid="ignore"):
        z -= n * m / 2.0
        z /= arrays.sqrt(n * m * (n + m + 1.0) / 12.0)
    return z, 2.0 * special.ndtr(-arrays.abs(z)), comparison.means()


def _t_test(comparison: Comparison) -> Tested:
    """Welch's t-test."""
    return _welch(comparison, len(comparison.control))


def _t_test_overestimated_variance(comparison: Comparison) -> Tested:
    """Welch's t-test as if the control had no more cells than the target."""
    return _welch(comparison, comparison.sizes)


def _welch(comparison: Comparison, control_size: int | NDArray[np.int64]) -> Tested:
    means, variances = comparison.moments()
    deviations = np.sqrt(variances)
    with np.errstate(invalid="ignore", divide="ignore"):
        t, pvals = stats.ttest_ind_from_stats(
            means[:-1], deviations[:-1], comparison.sizes, means[-1], deviations[-1], control_size, equal_var=False
        )
    # Equal means and no variance at all: no difference. A group of one cell has no variance, and its t stays NaN.
    same = np.isnan(t) & ~np.isnan(variances[:-1]) & ~np.isnan(variances[-1])
    return np.where(same, 0.0, t), np.where(same, 1.0, pvals), means


def _logistic_regression(comparison: Comparison) -> Tested:
    """Coefficients of a logistic regression of target against control."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    n_targets, progress = len(comparison.sizes), comparison.run.resources.progress
    scores = np.full((n_targets, comparison.matrix.shape[1]), np.nan)
    unfinished = 0
    progress.start(n_targets)
    for target in range(n_targets):
        cells = comparison.cells(target)
        if len(cells) and len(comparison.control):
            rows = np.sort(np.concatenate([cells, comparison.control]))
            values = comparison.run.kernels.matrices.take_rows(
                comparison.matrix, rows, resources=comparison.run.resources
            )
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always", ConvergenceWarning)
                model = LogisticRegression().fit(_on_host(values), np.isin(rows, cells))
            unfinished += any(issubclass(warning.category, ConvergenceWarning) for warning in caught)
            scores[target] = model.coef_[0]
        progress.advance(1)
    if unfinished:
        warn(f"test_method='logreg': the regression did not converge for {unfinished} of {n_targets} targets.")
    return scores, None, to_host(comparison.means())


def _on_host(matrix: Any) -> Any:
    return matrix.get() if hasattr(matrix, "get") else matrix


#: Tests by scanpy's names.
METHODS: dict[str, Callable[[Comparison], Tested]] = {
    "wilcoxon": _wilcoxon,
    "t-test": _t_test,
    "t-test_overestim_var": _t_test_overestimated_variance,
    "logreg": _logistic_regression,
}
