"""Contract of the `energy` kernels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import scipy.sparse as sp
    from numpy.typing import NDArray

    from ptg.kernels.contract.resources import Resources


class EnergyKernels(Protocol):
    """Signatures that every backend's `energy` module has."""

    def pair_sums(
        self,
        cells: NDArray[Any] | sp.csr_matrix[Any],
        offsets: NDArray[Any],
        left: NDArray[Any],
        right: NDArray[Any],
        *,
        weights: NDArray[Any] | None = None,
        resources: Resources,
    ) -> NDArray[Any]:
        r"""Sum the Euclidean distances between the cells of two groups, for many pairs of groups.

        .. math:: S_{lr} = \sum_{i \in l} \sum_{j \in r} w_i w_j \lVert x_i - x_j \rVert_2

        For ``left[p] == right[p]`` both i and j run over the whole group: every pair of different cells counts twice,
        and a cell's distance to itself is exactly 0. Cells with equal values are at distance exactly 0 too.

        Parameters
        ----------
        cells
            (n_cells, n_columns) float32 or float64, finite: C-ordered, or canonical CSR. Rows are sorted by group.
        offsets
            (n_groups + 1,) integers from 0 to n_cells: group `g` is ``cells[offsets[g]:offsets[g + 1]]``. Groups may
            be empty: their sums are 0.
        left, right
            (n_pairs,) group numbers, in any order; pairs may repeat.
        weights
            (n_draws, n_cells) non-negative numbers of any type, for instance how often a resample holds a cell; None
            means one draw of ones. The distances of a tile are computed once for all draws.
        resources
            Temporaries are a few blocks of 512 x 512 values per thread, and in proportion to the result; on a CPU also
            two dense copies of cells with few columns, where that leaves a third of the memory.

        Returns
        -------
        (n_pairs,) float64, or (n_draws, n_pairs) with `weights`.

        Notes
        -----
        Every sum has a relative error of at most 1e-6 for float32 cells (1e-10 for float64), however close the cells of
        its groups are to each other and far from the others: where a matrix product would lose the digits, distances
        come from differences. Sums are float64. Only distances below 1e-20 of the largest value may vanish. The sums do
        not depend on which other pairs are asked for, on threads or on memory. With weights, the bits of a draw may
        depend on its position modulo 32 among the draws, so split draws at multiples of 32.
        """
