"""Contract of the `resampling` kernels.

All draws are integer functions of a key and a position, made with the counter-based generator Philox4x32-10 [1]_:
the same on every backend, for every number of threads, devices or draws at once, and whichever other groups are there.

References
----------
.. [1] Salmon et al., Parallel random numbers: as easy as 1, 2, 3, 2011, doi:10.1145/2063384.2063405
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ptg.kernels.contract.resources import Resources


class ResamplingKernels(Protocol):
    """Signatures that every backend's `resampling` module has.

    ``Philox(counter, key)`` gives four 32-bit words x0 to x3. The 64-bit number of a draw at a position is
    ``x0 + 2^32 x1`` or ``x2 + 2^32 x3``, as the docstrings say, and it chooses one of n things by
    ``floor(number * n / 2^64)``. The probability of a thing differs from 1/n by less than 2^-64: a relative bias of
    less than 2^-40 for up to 16 million things.
    """

    def bootstraps(
        self, sizes: NDArray[Any], keys: NDArray[Any], first_draw: int, n_draws: int, *, resources: Resources
    ) -> NDArray[Any]:
        """Draw from every group as many of its cells as it has, with replacement.

        Parameters
        ----------
        sizes
            (n_groups,) number of cells of each group, in the order of the cells; may be 0; less than 2^32.
        keys
            (n_groups,) uint64, the key of each group.
        first_draw, n_draws
            Draws `first_draw` to ``first_draw + n_draws - 1``, all below 2^32.
        resources
            Temporaries are in proportion to the number of cells.

        Returns
        -------
        (n_draws, sum of sizes) uint16 on the device: how often each draw holds each cell. They sum to the size of each
        group; a cell that is drawn more than 65,535 times is not to be expected.

        Notes
        -----
        Draw d takes the i-th cell of a group by the number of the counter ``(d // 2, 0, i mod 2^32, i // 2^32)``, from
        the first two words if d is even, else from the last two.
        """

    def permutations(
        self,
        sizes: NDArray[Any],
        n_chosen: NDArray[Any],
        keys: NDArray[Any],
        first_draw: int,
        n_draws: int,
        *,
        resources: Resources,
    ) -> NDArray[Any]:
        """Choose a given number of cells of every pool, all subsets of that size being equally likely.

        Parameters
        ----------
        sizes
            (n_pools,) number of cells of each pool, in the order of the cells; may be 0; less than 2^32.
        n_chosen
            (n_pools,) number of cells to choose, from 0 to `sizes`.
        keys
            (n_pools,) uint64, the key of each pool.
        first_draw, n_draws
            Draws `first_draw` to ``first_draw + n_draws - 1``, all below 2^32.
        resources
            Temporaries are in proportion to the number of cells.

        Returns
        -------
        (n_draws, sum of sizes) uint16 on the device: 1 where the draw chooses the cell, else 0.

        Notes
        -----
        Floyd's algorithm on the smaller of the chosen and the other cells, k of n: step s, from 0 to k - 1, draws one
        of the cells 0 to n - k + s and marks it, or the last of these if it is marked already. Draw d takes its number
        from the counter ``(d, 1, s // 2 mod 2^32, s // 2^33)``, from the first two words if s is even, else from the
        last two. The cells that are marked are the chosen ones where k is `n_chosen`, else the others. A pool costs
        time in proportion to k, and is the work of one thread.
        """

    def accumulate(
        self, values: NDArray[Any], n_before: int, means: NDArray[Any], squares: NDArray[Any], *, resources: Resources
    ) -> None:
        """Update means and sums of squared deviations by the values of more draws, in place.

        Parameters
        ----------
        values
            (n_draws, n_pairs) float64 on the device, C-ordered.
        n_before
            Number of draws that `means` and `squares` hold already.
        means, squares
            (n_pairs,) float64 on the device: the mean of each pair, and the sum of squared deviations from it. They may
            be parts of larger arrays.
        resources
            No temporaries.

        Notes
        -----
        Welford's update, one draw after the other: the bits do not depend on how many draws come at once. NaN stays.
        """
