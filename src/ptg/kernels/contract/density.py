"""Contract of the `density` kernels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ptg.kernels.contract.resources import Resources

CPU_ONLY = "it sees a point per column of every group, not the cells"
"""Why there are no kernels on a GPU."""


class DensityKernels(Protocol):
    """Signatures of the `density` module."""

    def density_differences(
        self,
        points: NDArray[Any],
        offsets: NDArray[Any],
        left: NDArray[Any],
        right: NDArray[Any],
        *,
        resources: Resources,
    ) -> NDArray[Any]:
        r"""Compute the mean squared difference of two groups' densities of points in the plane, for pairs of groups.

        .. math:: f_g(t) = \frac{1}{2 \pi h^2 n} \sum_i e^{-\lVert t - p_i \rVert / h}, \quad h = n^{-1/6}

        over the n points of a group. The difference is taken at 100 x 100 grid points. On either axis, with the range
        of the two groups' points cut into 98 parts, these are the middles of the parts and one more on either side.

        Parameters
        ----------
        points
            (n_points, 2) float64, finite. Rows are sorted by group.
        offsets
            (n_groups + 1,) integers from 0 to n_points: group `g` is ``points[offsets[g]:offsets[g + 1]]``. The
            difference to a group without points is NaN.
        left, right
            (n_pairs,) group numbers, in any order; pairs may repeat.
        resources
            Temporaries are a few hundred numbers per thread.

        Returns
        -------
        (n_pairs,) float64. The bits do not depend on the other pairs or on threads.
        """
