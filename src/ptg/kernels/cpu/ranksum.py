"""Mann-Whitney U against one control group: see `ptg.kernels.contract.ranksum`."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from ptg.kernels.contract.resources import Resources


def u_statistics(
    matrix: NDArray[Any] | sp.csr_matrix[Any],
    order: NDArray[np.int64],
    offsets: NDArray[np.int64],
    control: NDArray[np.int64],
    *,
    resources: Resources,
) -> NDArray[np.float64]:
    """Mann-Whitney U of every group against the control: see the contract."""
    columns = sp.csc_matrix(matrix) if sp.issparse(matrix) else matrix
    result = np.zeros((len(offsets) - 1, matrix.shape[1]))
    for gene in range(matrix.shape[1]):
        column = columns[:, gene]
        values = column.toarray()[:, 0] if sp.issparse(column) else column
        sorted_control = np.sort(values[control])
        x = values[order]
        twice = np.searchsorted(sorted_control, x, "left") + np.searchsorted(sorted_control, x, "right")
        sums = np.concatenate([[0], np.cumsum(twice)])
        result[:, gene] = np.diff(sums[offsets]) / 2
    return result
