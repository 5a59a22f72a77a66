"""Sums of cell-to-cell distances between groups, on GPUs: see `ptg.kernels.contract.energy`.

float32 cells of up to 64 columns go through tensor cores of Hopper cards (`energy_fragments`); everything else goes
through tiles of cuBLAS products (`energy_tiles`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ptg.kernels.cuda.energy_fragments import fits_fragments, fragment_sums
from ptg.kernels.cuda.energy_tiles import tile_sums

if TYPE_CHECKING:
    import scipy.sparse as sp
    from numpy.typing import NDArray

    from ptg.kernels.contract.resources import Resources


def pair_sums(
    cells: NDArray[Any] | sp.csr_matrix[Any],
    offsets: NDArray[Any],
    left: NDArray[Any],
    right: NDArray[Any],
    *,
    weights: NDArray[Any] | None = None,
    resources: Resources,
) -> NDArray[Any]:
    """Sum the Euclidean distances between the cells of two groups, for many pairs: see the contract."""
    offsets = np.asarray(offsets, dtype=np.int64)
    n_groups = len(offsets) - 1
    low, high = np.minimum(left, right).astype(np.int64), np.maximum(left, right).astype(np.int64)
    keys = low * n_groups + high
    position = None
    if len(keys) > 1 and not (keys[1:] > keys[:-1]).all():
        keys, position = np.unique(keys, return_inverse=True)
    pairs = (keys // n_groups, keys % n_groups)
    if weights is None and fits_fragments(cells, resources.devices):
        sums = fragment_sums(cells, offsets, pairs, resources=resources)
    else:
        sums = tile_sums(cells, offsets, pairs, weights=weights, resources=resources)
    return sums if position is None else sums[..., position]
