"""Contract of the `ranksum` kernels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy as np
    import scipy.sparse as sp
    from numpy.typing import NDArray

    from ptg.kernels.contract.resources import Resources


class RankSumKernels(Protocol):
    """Signatures that every backend's `ranksum` module has."""

    def u_statistics(
        self,
        matrix: NDArray[Any] | sp.csr_matrix[Any],
        order: NDArray[np.int64],
        offsets: NDArray[np.int64],
        control: NDArray[np.int64],
        *,
        out: Any = None,
        resources: Resources,
    ) -> NDArray[np.float64]:
        """Mann-Whitney U of every group against the control, for every gene.

        ``U[t, g] = sum over cells i of group t: #{control cells < x_ig} + #{control cells == x_ig} / 2``

        U is a multiple of 1/2 and exact; ties, zeros above all, need no approximation. It is symmetric about
        ``n_t * n_control / 2``, its mean under the null hypothesis. The group's rank sum is ``U + n_t (n_t + 1) / 2``.

        Parameters
        ----------
        matrix
            (n_cells, n_genes), dense or canonical CSR, float32 or float64, finite; values of either sign, and zeros
            may be stored.
        order, offsets
            Cells of group `t` are ``order[offsets[t]:offsets[t + 1]]``, int64; an empty group has U = 0. Groups may
            share cells with each other and with the control.
        control
            Cells of the control group, int64; may be empty (U = 0).
        out
            (n_groups, n_genes) float64 in C order to fill and return, of the host or the backend's device; None makes
            one on the host.
        resources
            Threads and memory; they do not change the result.

        Returns
        -------
        (n_groups, n_genes) float64.
        """
        ...
