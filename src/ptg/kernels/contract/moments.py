"""Contract of the `moments` kernels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    import scipy.sparse as sp
    from numpy.typing import NDArray

    from ptg.kernels.contract.resources import Resources


class GroupMoments(NamedTuple):
    """Means and variances of every column in every group.

    Attributes
    ----------
    means
        (n_groups, n_columns) float64, or (n_draws, n_groups, n_columns) with weights; NaN for an empty group.
    variances
        In the same shape, with n - 1 in the denominator; NaN for a group of less than two cells.
    """

    means: NDArray[Any]
    variances: NDArray[Any]


class MomentKernels(Protocol):
    """Signatures that every backend's `moments` module has."""

    def group_sums(
        self,
        cells: NDArray[Any] | sp.csr_matrix[Any],
        offsets: NDArray[Any],
        *,
        weights: NDArray[Any] | None = None,
        out: Any = None,
        resources: Resources,
    ) -> NDArray[Any]:
        """Sum every column over the cells of each group.

        Parameters
        ----------
        cells
            (n_cells, n_columns) float32 or float64: C-ordered, or canonical CSR, with sorted columns and none twice in
            a row (never densified; explicit zeros do no harm). Rows are sorted by group.
        offsets
            (n_groups + 1,) integers from 0 to n_cells: group `g` is ``cells[offsets[g]:offsets[g + 1]]``. The sums of
            an empty group are 0.
        weights
            (n_draws, n_cells) non-negative numbers of any type; None means one draw of ones.
        out
            Float64 array in C order to fill and return, of the host or the backend's device; None makes one on the
            host.
        resources
            Temporaries are in proportion to the result.

        Returns
        -------
        (n_groups, n_columns) float64, or (n_draws, n_groups, n_columns) with `weights`. Each draw has the bits it
        would have alone.
        """

    def group_moments(
        self,
        cells: NDArray[Any] | sp.csr_matrix[Any],
        offsets: NDArray[Any],
        *,
        weights: NDArray[Any] | None = None,
        resources: Resources,
    ) -> GroupMoments:
        """Compute mean and variance of every column in each group.

        Parameters
        ----------
        cells, offsets
            As in `group_sums`.
        weights
            (n_draws, n_cells) non-negative numbers of any type: how often a draw holds each cell. The size n of a group
            is then the sum of its weights.
        resources
            Temporaries are in proportion to the result.

        Returns
        -------
        GroupMoments: means and variances (n - 1), each (n_groups, n_columns) float64, with weights
        (n_draws, n_groups, n_columns). Each draw has the bits it would have alone.

        Notes
        -----
        Two passes: the variance is the sum of squared deviations from the mean of the first pass, so it neither
        cancels for data far from zero nor turns negative. In CSR the zeros that are not stored enter as their number
        times the squared mean.
        """
