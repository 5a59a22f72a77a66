"""Contract of the `kernel_sums` kernels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    import scipy.sparse as sp
    from numpy.typing import NDArray

    from ptg.kernels.contract.resources import Resources


class CellFunction(NamedTuple):
    """A symmetric function of two cells, x and y.

    Attributes
    ----------
    name
        ``"cityblock"``: sum of |x_k - y_k|. ``"chebyshev"``: the largest |x_k - y_k|. ``"rbf"``:
        exp(-gamma |x - y|²). ``"poly"``: (gamma x.y)^degree.
    gamma
        Any positive number.
    degree
        A whole number of at least 1.
    """

    name: str
    gamma: float = 1.0
    degree: int = 2


class KernelSumKernels(Protocol):
    """Signatures that every backend's `kernel_sums` module has."""

    def kernel_sums(
        self,
        cells: NDArray[Any] | sp.csr_matrix[Any],
        offsets: NDArray[Any],
        left: NDArray[Any],
        right: NDArray[Any],
        *,
        function: CellFunction,
        weights: NDArray[Any] | None = None,
        resources: Resources,
    ) -> NDArray[Any]:
        r"""Sum a function of two cells over the cells of two groups, for many pairs of groups.

        .. math:: S_{lr} = \sum_{i \in l} \sum_{j \in r} w_i w_j f(x_i, x_j)

        For ``left[p] == right[p]`` both i and j run over the whole group, a cell with itself included.

        Parameters
        ----------
        cells, offsets, left, right, weights
            As `energy.pair_sums` takes them.
        function
            What to sum. Computed in float64 whatever the type of the cells, from differences of the cells (products for
            ``"poly"``): equal cells are at distance exactly 0.
        resources
            As in `energy.pair_sums`.

        Returns
        -------
        (n_pairs,) float64, or (n_draws, n_pairs) with `weights`.

        Notes
        -----
        The sums do not depend on which other pairs are asked for, on threads or on memory. With weights, the bits of a
        draw may depend on its position modulo 32 among the draws, so split draws at multiples of 32.
        """
