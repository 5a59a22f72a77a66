"""Contract of the `concordance` kernels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ptg.kernels.contract.resources import Resources


class ConcordanceKernels(Protocol):
    """Signatures that every backend's `concordance` module has."""

    def concordance(
        self, values: NDArray[Any], left: NDArray[Any], right: NDArray[Any], *, resources: Resources
    ) -> NDArray[Any]:
        r"""Count, for pairs of rows, the pairs of columns that both order alike, less those they order unlike.

        .. math:: C_{lr} = \sum_{i < j} \mathrm{sign}(x_{li} - x_{lj}) \, \mathrm{sign}(x_{ri} - x_{rj})

        Parameters
        ----------
        values
            (n_rows, n_columns) float64 without NaN. Equal values in a row count as neither.
        left, right
            (n_pairs,) row numbers, in any order; pairs may repeat, and a row may be paired with itself.
        resources
            Temporaries are in proportion to `values` and to the result.

        Returns
        -------
        (n_pairs,) int64, exact, in the memory of the host.

        Notes
        -----
        On a CPU a pair takes O(n_columns log n_columns) steps, on a GPU O(n_columns²), which is faster there for as
        many columns as there are genes.
        """
