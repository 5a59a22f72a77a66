"""Contract of the `negative_binomial` kernels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    import scipy.sparse as sp
    from numpy.typing import NDArray

    from ptg.kernels.contract.resources import Resources

CPU_ONLY = "the loops of a fit have no common length, and the work is small"
"""Why there are no kernels on a GPU."""


class LogLikelihoods(NamedTuple):
    """Log-likelihoods of one group's counts under the fit of another, summed over the columns.

    Attributes
    ----------
    sums
        (n_pairs,) float64: over the columns that count, the mean log-likelihood of a cell.
    n_columns
        (n_pairs,) int64: how many columns count.
    """

    sums: NDArray[Any]
    n_columns: NDArray[Any]


class NegativeBinomialKernels(Protocol):
    """Signatures of the `negative_binomial` module."""

    def log_likelihoods(
        self,
        counts: NDArray[Any] | sp.csr_matrix[Any],
        offsets: NDArray[Any],
        left: NDArray[Any],
        right: NDArray[Any],
        *,
        weights: NDArray[Any] | None = None,
        resources: Resources,
    ) -> LogLikelihoods:
        """Fit a negative binomial to every column of the left group, and take the log-likelihood of the right one.

        Parameters
        ----------
        counts
            (n_cells, n_columns) non-negative whole numbers, float32 or float64: C-ordered, or canonical CSR. Rows are
            sorted by group.
        offsets
            (n_groups + 1,) integers from 0 to n_cells: group `g` is ``counts[offsets[g]:offsets[g + 1]]``, not empty.
        left, right
            (n_pairs,) group numbers, in any order; pairs may repeat.
        weights
            (n_cells,) non-negative: how often each cell counts. None means once.
        resources
            Temporaries are in proportion to the input and to blocks of columns times groups times distinct counts.

        Returns
        -------
        LogLikelihoods.

        Notes
        -----
        The fit is by maximum likelihood: mean m = mean count, size r at the root of its score::

            sum_i [psi(x_i + r) - psi(r)] = n log(1 + m / r)

        which exists where the population variance exceeds the mean. Other columns do not count, but for columns without
        any count in the left group: those count 0 where the right group's mean is below 10. With the fit::

            log p(y) = sum_{k < y} log((r + k) / (r + m)) - r log(1 + m / r) + y log m - log y!

        The bits do not depend on the other pairs, on threads or on memory.
        """
