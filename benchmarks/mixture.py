"""The objective of the guide mixture, so that two fits can be compared by how good they are."""

from __future__ import annotations

import anndata as ad
import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

#: The box outside of which the joint is unbounded or has spikes on single counts, so that lower values mean nothing.
_RATE, _DEVIATION, _WEIGHT = (1e-4, 50.0), (0.05, 50.0), (1e-3, 1.0 - 1e-3)


def losses(data: ad.AnnData, parameters: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return minus the log joint of each guide's nonzero counts, in float64, without constants of the priors.

    Parameters
    ----------
    data
        Raw counts, cells x guides.
    parameters
        (n_guides, 4): rate of the Poisson, mean and standard deviation of the Normal, weight of the Normal. Rates below
        the box are moved to its border: a peer that lets the rate of a background of single reads go to zero is
        compared at the nearest admissible fit.
    """
    counts = data.X.tocsc()
    return np.array(
        [
            loss(counts.data[first:stop].astype(np.float64), (max(row[0], _RATE[0]), *row[1:]))
            for first, stop, row in zip(counts.indptr[:-1], counts.indptr[1:], parameters, strict=True)
        ]
    )


def loss(counts: NDArray[np.float64], parameters: tuple[float, ...]) -> float:
    """Return minus the log joint of one guide; NaN where the guide was not fitted."""
    rate, mean, deviation, weight = (float(value) for value in parameters)
    if not np.isfinite([rate, mean, deviation, weight]).all():
        return float("nan")
    y = np.log2(counts)
    background = np.log1p(-weight) + y * np.log(rate) - rate - gammaln(y + 1.0)
    signal = np.log(weight) - 0.5 * np.log(2.0 * np.pi) - np.log(deviation) - 0.5 * ((y - mean) / deviation) ** 2
    prior = (
        -0.1 * np.log1p(-weight)
        - 0.9 * np.log(weight)
        - 0.5 * ((mean - 3.0) / 2.0) ** 2
        - np.log(deviation)
        - 0.5 * (np.log(deviation) - 2.0) ** 2
        - np.log(rate)
        - 0.5 * np.log(rate) ** 2
    )
    return -float(np.logaddexp(background, signal).sum() + prior)


def comparable(parameters: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether each fit is an ordered one within the box (a rate below it apart); False for NaN."""
    rate, mean, deviation, weight = parameters.T
    inside = (rate < _RATE[1]) & (deviation > _DEVIATION[0]) & (deviation < _DEVIATION[1])
    return inside & (mean > rate) & (weight > _WEIGHT[0]) & (weight < _WEIGHT[1])
