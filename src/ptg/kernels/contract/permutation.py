"""Contract of the `permutation` kernels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import scipy.sparse as sp
    from numpy.typing import NDArray

    from ptg.kernels.contract.resources import Resources


class PermutationKernels(Protocol):
    """Signatures that every backend's `permutation` module has."""

    def members(self, weights: NDArray[Any], n_chosen: int, *, resources: Resources) -> NDArray[Any]:
        """List the cells that each draw chooses.

        Parameters
        ----------
        weights
            (n_draws, n_cells) uint16, 0 or 1, as `ResamplingKernels.permutations` makes them; less than 2^31 cells.
        n_chosen
            How many 1 there are in every row.
        resources
            No temporaries.

        Returns
        -------
        (n_draws, n_chosen) int32 on the device, ascending in each row.
        """

    def subset_sums(
        self,
        cells: NDArray[Any] | sp.csr_matrix[Any],
        offsets: NDArray[Any],
        groups: Sequence[int],
        contrast: int,
        subsets: Sequence[NDArray[Any]],
        *,
        resources: Resources,
    ) -> NDArray[Any]:
        r"""Sum the Euclidean distances within subsets of two groups together.

        .. math:: \sum_{i \in s} \sum_{j \in s} \lVert x_i - x_j \rVert_2

        Every pair of different cells counts twice.

        Parameters
        ----------
        cells, offsets
            As in `EnergyKernels.pair_sums`.
        groups, contrast
            The n_pools groups, each of them pooled with the group `contrast`; none is the contrast itself.
        subsets
            For each group (n_draws, n_chosen) ascending integers: positions among the cells of the contrast, followed
            by those of the group. The number of draws is the same for all groups.
        resources
            Temporaries are a few blocks of 512 x 512 values per thread, and in proportion to the result times the
            number of such blocks.

        Returns
        -------
        (n_pools, n_draws) float64.

        Notes
        -----
        The distance of two cells is the same number in every subset of a call that holds both, so that equal subsets
        have equal sums, bit for bit. Accuracy is that of `EnergyKernels.pair_sums`.
        """

    def cell_sums(
        self,
        cells: NDArray[Any] | sp.csr_matrix[Any],
        offsets: NDArray[Any],
        left: NDArray[Any],
        right: NDArray[Any],
        *,
        resources: Resources,
    ) -> NDArray[Any]:
        r"""Sum the Euclidean distances of each cell of a group to all cells of another, for many pairs of groups.

        .. math:: S_i = \sum_{j \in r} \lVert x_i - x_j \rVert_2, \quad i \in l

        Parameters
        ----------
        cells, offsets
            As in `EnergyKernels.pair_sums`.
        left, right
            (n_pairs,) group numbers: whose cells, and the distances to which.
        resources
            Temporaries are a few blocks of 512 x 512 values per thread.

        Returns
        -------
        (n_sums,) float64: the cells of ``left[0]``, then those of ``left[1]``, and so on.
        """
