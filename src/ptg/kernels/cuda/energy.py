"""Sums of cell-to-cell distances between groups, on GPUs: see `ptg.kernels.contract.energy`.

float32 cells of up to 128 columns go through tensor cores from sm_80 on (`energy_fragments`); everything else goes
through tiles of cuBLAS products (`energy_tiles`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cupy as cp
import numpy as np

from ptg.kernels.cuda.energy_fragments import fits_fragments, fragment_sums
from ptg.kernels.cuda.energy_tiles import tile_sums
from ptg.kernels.cuda.matrices import here
from ptg.kernels.cuda.memory import within_memory

if TYPE_CHECKING:
    import scipy.sparse as sp
    from numpy.typing import NDArray

    from ptg.kernels.contract.resources import Resources


@within_memory
def pair_sums(
    cells: NDArray[Any] | sp.csr_matrix[Any],
    offsets: NDArray[Any],
    left: NDArray[Any],
    right: NDArray[Any],
    *,
    weights: NDArray[Any] | None = None,
    resources: Resources,
) -> Any:
    """Sum the Euclidean distances between the cells of two groups, for many pairs: see the contract.

    The result is an array on the first of the devices.
    """
    offsets = np.asarray(offsets, dtype=np.int64)
    n_groups = len(offsets) - 1
    with cp.cuda.Device(resources.devices[0]):
        left, right = cp.asarray(left, dtype=np.int64), cp.asarray(right, dtype=np.int64)
        if offsets[-1] == 0 or not len(left):
            return cp.zeros(left.shape if weights is None else (len(weights), len(left)))
        weights = None if weights is None else here(weights, resources)
        if fits_fragments(cells, weights, resources.devices):
            return fragment_sums(cells, offsets, (left, right), weights=weights, resources=resources)
        keys, position = cp.unique(cp.minimum(left, right) * n_groups + cp.maximum(left, right), return_inverse=True)
        sums = tile_sums(cells, offsets, keys.get(), weights=weights, resources=resources)
        return sums[..., position]
