"""Contract of the `distribution` kernels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import scipy.sparse as sp
    from numpy.typing import NDArray

    from ptg.kernels.contract.resources import Resources


class DistributionKernels(Protocol):
    """Signatures that every backend's `distribution` module has."""

    def ks_sums(
        self,
        cells: NDArray[Any] | sp.csr_matrix[Any],
        offsets: NDArray[Any],
        left: NDArray[Any],
        right: NDArray[Any],
        *,
        weights: NDArray[Any] | None = None,
        resources: Resources,
    ) -> NDArray[Any]:
        r"""Sum over the columns the largest difference of two groups' distribution functions, for pairs of groups.

        .. math:: S_{lr} = \sum_k \max_t \left| F_{lk}(t) - F_{rk}(t) \right|

        with F_lk(t) the part of group l, by weight, whose column k is at most t: the two-sided Kolmogorov-Smirnov
        statistics.

        Parameters
        ----------
        cells
            (n_cells, n_columns) float32 or float64, finite: C-ordered, or canonical CSR, of which a few columns are
            dense at a time. Rows are sorted by group.
        offsets
            (n_groups + 1,) integers from 0 to n_cells: group `g` is ``cells[offsets[g]:offsets[g + 1]]``.
        left, right
            (n_pairs,) group numbers, in any order; pairs may repeat. With a group without cells, or of weight 0, the
            sum is NaN.
        weights
            (n_draws, n_cells) non-negative numbers of any type, for instance how often a resample holds a cell; None
            means one draw of ones.
        resources
            Columns are taken in blocks whose temporaries fit in ``resources.memory``, one column at least.

        Returns
        -------
        (n_pairs,) float64, or (n_draws, n_pairs) with `weights`.

        Notes
        -----
        Each column is sorted once in every group; a pair merges the two. Columns are added in order, so the bits do not
        depend on threads, memory or the number of draws.
        """
