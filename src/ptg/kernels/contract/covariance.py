"""Contract of the `covariance` kernels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import scipy.sparse as sp
    from numpy.typing import NDArray

    from ptg.kernels.contract.resources import Resources

ROWS_AT_ONCE = 4096
"""Rows of a group that are dense at once, whatever the memory: the bits depend on it."""

SINGULAR = 16.0
"""Times d times the rounding unit: a correlation matrix of d columns is singular with an eigenvalue below it."""

CONSTANT = 2.0**-50
"""A column is constant whose standard deviation is at most this part of its mean."""


class CovarianceKernels(Protocol):
    """Signatures that every backend's `covariance` module has."""

    def mahalanobis(
        self,
        cells: NDArray[Any] | sp.csr_matrix[Any],
        offsets: NDArray[Any],
        profiles: NDArray[Any],
        left: NDArray[Any],
        right: NDArray[Any],
        *,
        weights: NDArray[Any] | None = None,
        resources: Resources,
    ) -> NDArray[Any]:
        r"""Compute the distance of two profiles in units of the left group's covariance, for pairs of groups.

        .. math:: \sqrt{(p_l - p_r)^T S_l^{-1} (p_l - p_r)}

        Parameters
        ----------
        cells
            (n_cells, n_columns) float32 or float64, finite: C-ordered, or canonical CSR, of which some rows are dense
            at a time. Rows are sorted by group.
        offsets
            (n_groups + 1,) integers from 0 to n_cells: group `g` is ``cells[offsets[g]:offsets[g + 1]]``.
        profiles
            (n_groups, n_columns) float64.
        left, right
            (n_pairs,) group numbers, in any order; pairs may repeat.
        weights
            (n_cells,) non-negative: how often each cell counts. None means once.
        resources
            Temporaries are 4,096 dense rows and a few matrices of columns x columns, per thread.

        Returns
        -------
        (n_pairs,) float64, in the memory of the host. NaN where the covariance is singular: with at most as many cells
        as columns, with a constant column, or with columns that depend on each other linearly.

        Notes
        -----
        S is the covariance with n - 1 in the denominator, from deviations from the group's mean. It is scaled to a
        correlation matrix and decomposed into eigenvectors once for each left group.
        """
