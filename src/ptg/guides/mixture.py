"""From counts to the mixture of every guide, its threshold and the cells above it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ptg.data import listed, warn
from ptg.kernels.contract.mixture import FitStatus

if TYPE_CHECKING:
    import scipy.sparse as sp
    from numpy.typing import NDArray

    from ptg.execute import Run
    from ptg.kernels.contract.mixture import Assignments

_REASONS = {
    FitStatus.FITTED: "",
    FitStatus.TOO_FEW_CELLS: "fewer than 2 cells with a count",
    FitStatus.COUNTS_BELOW_TWO: "maximum count below 2",
    FitStatus.NO_MAXIMUM: "no interior maximum: signal and background cannot be told apart",
    FitStatus.NOT_CONVERGED: "not converged within max_iter steps",
}


def fit_guides(
    run: Run, counts: sp.csr_matrix[Any], *, max_iter: int, tol: float, posterior_threshold: float
) -> tuple[Assignments, dict[str, NDArray[Any]]]:
    """Fit every guide; return the guides of each cell, and the columns for `adata.var`."""
    kernels = run.kernels.mixture
    histograms = kernels.count_histograms(counts.indices, counts.data, counts.shape[1], resources=run.resources)
    fit = kernels.fit_mixture(histograms, max_iter=max_iter, tol=tol, resources=run.resources)
    thresholds = kernels.mixture_thresholds(
        fit, histograms.max_counts, posterior_threshold=posterior_threshold, resources=run.resources
    )
    assignments = kernels.assign_above(counts.indptr, counts.indices, counts.data, thresholds, resources=run.resources)
    reasons = np.array([_REASONS[status] for status in FitStatus], dtype=object)
    return assignments, {
        "poisson_rate": fit.poisson_rate,
        "gaussian_mean": fit.normal_mean,
        "gaussian_std": fit.normal_std,
        "mix_probs_0": 1.0 - fit.normal_weight,
        "mix_probs_1": fit.normal_weight,
        "threshold": thresholds,
        "final_loss": fit.loss,
        "converged": fit.status == FitStatus.FITTED,
        "n_iterations": fit.n_iterations,
        "not_fitted_reason": reasons[fit.status],
    }


def warn_of_unfitted(names: NDArray[Any], reasons: NDArray[Any]) -> None:
    """Give one warning with the guides that were not fitted, by reason."""
    unfitted = reasons != ""
    if not unfitted.any():
        return
    by_reason = [
        f"{reason} ({int((reasons == reason).sum())}): {listed(names[reasons == reason].tolist())}"
        for reason in _REASONS.values()
        if reason and (reasons == reason).any()
    ]
    warn(
        f"{int(unfitted.sum())} of {len(names)} guides were not fitted and are assigned to no cell. "
        + "; ".join(by_reason)
    )
