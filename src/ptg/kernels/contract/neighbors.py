"""Contract of the `neighbors` kernels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy as np
    import scipy.sparse as sp
    from numpy.typing import NDArray

    from ptg.kernels.contract.matrices import Blocks
    from ptg.kernels.contract.resources import Resources


class ApproximateSearch(Protocol):
    """A search that may miss neighbours."""

    def __call__(
        self,
        reference: NDArray[Any],
        query: NDArray[Any],
        k: int,
        *,
        options: Mapping[str, int],
        resources: Resources,
    ) -> NDArray[np.int64]:
        """Find about the `k` nearest reference points of every query point, computed in float32.

        Parameters
        ----------
        reference, query, k
            As in `NeighborKernels.nearest`.
        options
            Parameters of the index or of the search, by cuVS's names.
        resources
            Threads and memory.

        Returns
        -------
        (n_query, k) int64, positions in `reference`; -1 where the search found none.

        Raises
        ------
        ValueError
            The search does not take these points or options.
        """
        ...


class NeighborKernels(Protocol):
    """Signatures that every backend's `neighbors` module has."""

    @property
    def APPROXIMATE(self) -> Mapping[str, ApproximateSearch]:  # noqa: N802
        """Approximate searches by name; none on a CPU, where the exact one is as fast. They need cuVS."""
        ...

    def nearest(
        self, reference: NDArray[Any], query: NDArray[Any], k: int, *, resources: Resources
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Find the `k` nearest reference points of every query point, exactly.

        The squared distance is ``sum_d (query_d - reference_d)²`` in float64, summed from the first dimension to the
        last, whatever the dtype of the input: neighbours are those of a brute-force search, bit for bit.

        Parameters
        ----------
        reference
            (n_reference, n_dims) float32 or float64, finite.
        query
            (n_query, n_dims) of the same kind; may be the same points.
        k
            Number of neighbours, 1 <= k <= n_reference.
        resources
            Threads and memory; they do not change the result.

        Returns
        -------
        indices
            (n_query, k) int64, positions in `reference`, the nearest first. Among equal distances the lower position
            comes first, and is the one that is kept.
        squared_distances
            (n_query, k) float64.
        """
        ...

    def neighbor_signature(
        self,
        matrix: NDArray[Any] | sp.csr_matrix[Any],
        rows: NDArray[np.int64],
        neighbor_offsets: NDArray[np.int64],
        neighbors: NDArray[np.int64],
        *,
        out: NDArray[Any],
        resources: Resources,
        batch_size: int | None = None,
    ) -> None:
        """Subtract cells from the mean of their neighbours: ``log1p(mean_j expm1(x_j)) - x_i``.

        Parameters
        ----------
        matrix
            (n_cells, n_genes) log1p-transformed expression, dense or canonical CSR, float32 or float64. ``expm1`` of
            the neighbours is kept at this dtype, sums and logarithms are float64.
        rows
            (n_rows,) int64, the cells `i`.
        neighbor_offsets
            (n_rows + 1,) int64: row `r` has neighbours ``neighbors[neighbor_offsets[r]:neighbor_offsets[r + 1]]``, at
            least one.
        neighbors
            Cells `j`, int64; summed in the order given.
        out
            (n_rows, n_genes) float32 or float64 in C order, filled with the result.
        resources
            Threads and memory; they do not change the result. Beside its batches the kernel holds ``expm1`` of the
            cells that are anybody's neighbour.
        batch_size
            Rows in a batch of one thread; by default as many as a CPU's cache holds.
        """
        ...

    def signature_blocks(
        self,
        matrix: Any,
        blocks: Blocks,
        neighbor_offsets: NDArray[np.int64],
        neighbors: NDArray[np.int64],
        *,
        resources: Resources,
    ) -> Any:
        """Compute blocks of the signature of `neighbor_signature`, without the rest of it.

        Parameters
        ----------
        matrix
            As there, or as `MatrixKernels.keep` returns it.
        blocks
            Cells and genes whose signature is wanted.
        neighbor_offsets, neighbors
            As there, but for every cell of the matrix: (n_cells + 1,); cells outside the blocks may have none.
        resources
            Threads. Beside the result the kernel holds ``expm1`` of the blocks' genes in the blocks' neighbours, dense.

        Returns
        -------
        (n_values,) float64, laid out as by `MatrixKernels.read_blocks`.
        """
        ...
