"""Standard deviations of costs from moments of the groups: no pass over the costs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cupy as cp
import numpy as np

from ptg.kernels.cuda.sinkhorn_cells import (
    PANEL,
    CentredCells,
    Constants,
    Panel,
    Sets,
    constants,
    pair_means,
    set_means,
)
from ptg.kernels.cuda.source import kernel

if TYPE_CHECKING:
    from numpy.typing import NDArray

# A variance is nothing but rounding below these parts of its scales.
_OF_TRACES = 1e-14
_OF_MEAN_SQUARED = 1e-30


def deviations(cells: CentredCells, sets: Sets, pairs: NDArray[np.int32]) -> NDArray[np.float64]:
    """Compute the standard deviation of the costs of pairs of sets without empty ones, (n_pairs, 2)."""
    n_sets = len(sets.bounds) - 1
    on_device = cp.asarray(pairs)
    trace, norm_mean, norm_variance = (cp.empty(n_sets) for _ in range(3))
    found, variances = cp.empty((len(pairs), 2)), cp.empty(len(pairs))
    find = kernel("sinkhorn_deviations.cu", "norm_moments")
    find((n_sets,), (256,), (sets.offsets, sets.place_cell, sets.mass, cells.norms, norm_mean, norm_variance))
    for number, left in enumerate(cells.panels()):
        left_mean = set_means(left, sets, trace, joins=number > 0)
        pair_means(left, left_mean, on_device, found, joins=number > 0)
        with_norms = _norm_covariances(left, left_mean, sets, cells.norms, norm_mean)
        for other, right in enumerate(cells.panels()):
            if other < number:
                continue
            right_mean = left_mean if other == number else set_means(right, sets, cp.empty(n_sets), joins=False)
            covariance = _covariances(left, left_mean, right, right_mean, sets)
            kernel("sinkhorn_deviations.cu", "pair_variances")(
                (len(pairs),),
                (128,),
                (
                    on_device,
                    np.int32(cells.n_groups),
                    np.int32(left.stride),
                    left.centres,
                    left_mean,
                    np.int32(right.stride),
                    right.centres,
                    right_mean,
                    covariance,
                    with_norms,
                    np.int32(other == number),
                    np.int32(number > 0 or other > 0),
                    variances,
                ),
            )
    of_norms = cp.asnumpy(norm_variance)[pairs]
    variance = cp.asnumpy(variances) + (of_norms[:, 0] + of_norms[:, 1])
    return np.sqrt(_above_rounding(variance, constants(trace, found, pairs)))


def _above_rounding(variance: NDArray[np.float64], scale: Constants) -> NDArray[np.float64]:
    """0 where a variance is but the rounding of its parts."""
    rounding = np.maximum(_OF_TRACES * scale.traces[0] * scale.traces[1], _OF_MEAN_SQUARED * scale.mean_cost**2)
    return np.where(variance <= rounding, 0.0, variance)


def _norm_covariances(panel: Panel, mean: Any, sets: Sets, norms: Any, norm_mean: Any) -> Any:
    """Covariance of cells and their squared norms, (n_sets, stride)."""
    out = cp.empty(mean.shape)
    arguments = (sets.offsets, sets.place_cell, sets.mass, panel.cells, np.int32(panel.stride), mean, norms, norm_mean)
    kernel("sinkhorn_deviations.cu", "norm_covariances")((len(mean),), (PANEL, 4), (*arguments, out))
    return out


def _covariances(left: Panel, left_mean: Any, right: Panel, right_mean: Any, sets: Sets) -> Any:
    """Covariance of the columns of two panels, (n_sets, PANEL, PANEL)."""
    n_sets = len(sets.bounds) - 1
    out = cp.empty((n_sets, PANEL, PANEL))
    kernel("sinkhorn_deviations.cu", "covariances")(
        (n_sets,),
        (256,),
        (
            sets.offsets,
            sets.place_cell,
            sets.mass,
            left.cells,
            np.int32(left.stride),
            left_mean,
            right.cells,
            np.int32(right.stride),
            right_mean,
            out,
        ),
    )
    return out
