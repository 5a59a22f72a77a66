"""Do two answers agree? Each check compares arrays and reports the largest difference it saw."""

from __future__ import annotations

import numpy as np
from benchmarks.record import Agreement, Answer
from numpy.typing import NDArray

EDISTANCE_TOLERANCE = 1e-6
WASSERSTEIN_TOLERANCE = 1e-3
WASSERSTEIN_TOLERANCE_CPU = 2e-5
METRICS_TOLERANCE = 1e-5
SIGNIFICANT = 0.05
STANDARD_ERRORS = 5.0
LOSS_TOLERANCE = 1e-3
SAME_OPTIMUM = 1e-2
SAME_GUIDE_LABELS = 0.97
SAME_CLASSES = 0.99
SCORE_CORRELATION = 0.995
SCORE_CORRELATION_GPU = 0.95
LDA_CORRELATION = 0.99
LEADING = 3
LDA_MEAN_CORRELATION = 0.95


def edistances_agree(ptg: Answer, peer: Answer) -> Agreement:
    """Compare energy distances.

    A peer sums float32 distances of the size of the mean distance between cells, so that is the scale of the error.
    """
    if ptg["distance"].shape != peer["distance"].shape:
        return Agreement(False, f"shapes {ptg['distance'].shape} and {peer['distance'].shape}")
    error = float(np.max(np.abs(ptg["distance"] - peer["distance"])) / ptg["scale"][0])
    return Agreement(error <= EDISTANCE_TOLERANCE, f"largest difference {error:.1e} of the mean cell distance")


def bootstraps_agree(ptg: Answer, peer: Answer) -> Agreement:
    """Compare means over resamples, which both sides draw for themselves: each mean has its Monte Carlo error.

    The error is taken from ptg's variances: the peer's pairwise ones leave covariances out.
    """
    if ptg["distance"].shape != peer["distance"].shape:
        return Agreement(False, f"shapes {ptg['distance'].shape} and {peer['distance'].shape}")
    standard_error = np.sqrt(2.0 * ptg["variance"] / ptg["n_draws"])
    # A group's distance to itself has no error at all.
    rounding = EDISTANCE_TOLERANCE * ptg["scale"][0]
    errors = np.abs(ptg["distance"] - peer["distance"]) / np.maximum(standard_error, rounding)
    worst = float(np.max(errors))
    return Agreement(
        worst <= STANDARD_ERRORS, f"means over resamples differ by at most {worst:.1f} of their standard errors"
    )


def distance_tests_agree(ptg: Answer, peer: Answer) -> Agreement:
    """Compare permutation tests whose permutations each side draws for itself.

    The distances must be equal, the p-values within the Monte Carlo error of their difference. One count of
    permutations is allowed besides: ptg's p-value is (1 + count) / (1 + permutations), the peer's
    max(count, 1) / permutations. Significance may differ only where the p-value is within its error of the threshold.
    """
    distances = edistances_agree(ptg, peer)
    if ptg["pvalue"].shape != peer["pvalue"].shape:
        return Agreement(False, f"shapes {ptg['pvalue'].shape} and {peer['pvalue'].shape}")
    one = 1.0 / float(ptg["n_permutations"][0])
    mine, theirs = ptg["pvalue"].astype(np.float64), peer["pvalue"].astype(np.float64)
    mean = (mine + theirs) / 2.0
    standard_error = np.maximum(np.sqrt(2.0 * mean * (1.0 - mean) * one), one)
    shift = np.abs(mine - theirs)
    worst = float(np.max(np.maximum(shift - one, 0.0) / standard_error))
    clear = np.abs(mean - SIGNIFICANT) > STANDARD_ERRORS * standard_error
    differ = ptg["significant"].astype(bool) != peer["significant"].astype(bool)
    return Agreement(
        distances.agrees and worst <= STANDARD_ERRORS and not bool((differ & clear).any()),
        f"{distances.detail}; p-values of {len(shift)} groups differ by at most {float(np.max(shift)):.2g}, "
        f"{worst:.1f} standard errors; significance differs in {int(differ.sum())}",
    )


def metrics_agree(ptg: Answer, peer: Answer, *, tolerance: float) -> Agreement:
    """Compare tables of several metrics, each relative to itself; distances of groups to themselves are left out."""
    if {name: table.shape for name, table in ptg.items()} != {name: table.shape for name, table in peer.items()}:
        return Agreement(False, f"metrics or shapes differ: {', '.join(ptg)} and {', '.join(peer)}")
    errors = {
        name: _largest_relative_difference(table, peer[name], np.eye(len(table), dtype=bool))
        for name, table in ptg.items()
    }
    worst = max(errors, key=lambda name: np.nan_to_num(errors[name], nan=np.inf))
    return Agreement(errors[worst] <= tolerance, f"largest relative difference {errors[worst]:.1e}, of {worst}")


def wassersteins_agree(ptg: Answer, peer: Answer) -> Agreement:
    """Compare transport costs relative to themselves; those of groups with themselves are left out."""
    if ptg["distance"].shape != peer["distance"].shape:
        return Agreement(False, f"shapes {ptg['distance'].shape} and {peer['distance'].shape}")
    error = _largest_relative_difference(ptg["distance"], peer["distance"], ptg["itself"])
    return Agreement(error <= WASSERSTEIN_TOLERANCE, f"largest relative difference {error:.1e}")


def _largest_relative_difference(
    mine: NDArray[np.generic], theirs: NDArray[np.generic], itself: NDArray[np.generic]
) -> float:
    expected, others = mine.astype(np.float64), ~itself.astype(bool)
    return float(np.max(np.abs(expected - theirs.astype(np.float64))[others] / np.abs(expected)[others]))


def mixtures_agree(ptg: Answer, peer: Answer) -> Agreement:
    """Compare two fits of the guide mixture by their objective, their thresholds and their labels.

    The peer takes a fixed number of gradient steps and is not converged on every guide, so equal parameters cannot be
    asked for. Asked for is: ptg's objective is nowhere higher (by more than the peer's float32 accounts for), the
    thresholds are within one count where the peer came to the same optimum, and the labels are mostly the same.
    """
    objective = objectives_agree(ptg, peer)
    compared, gap = _gaps(ptg, peer)
    same_optimum = compared & (np.abs(gap) <= SAME_OPTIMUM)
    shift = np.abs(ptg["threshold"] - peer["threshold"])[same_optimum]
    worst_shift = float(np.max(shift, initial=0.0))
    same_labels = float(np.mean(ptg["label"] == peer["label"]))
    return Agreement(
        objective.agrees and worst_shift <= 1.0 and same_labels >= SAME_GUIDE_LABELS,
        f"{objective.detail}; thresholds of {len(shift)} guides at the same optimum differ by at most "
        f"{worst_shift:.0f}; {same_labels:.1%} of labels equal",
    )


def objectives_agree(ptg: Answer, peer: Answer) -> Agreement:
    """Compare two fits of the guide mixture by their objective alone, for a peer that aims at another optimum."""
    compared, gap = _gaps(ptg, peer)
    if not compared.any():
        return Agreement(False, "no guide was fitted by both")
    higher = max(-float(np.min(gap[compared])), 0.0)
    return Agreement(
        higher <= LOSS_TOLERANCE,
        f"{int(compared.sum())} guides compared, ptg's objective higher by at most {higher:.1e} and lower by "
        f"{float(np.median(gap[compared])):.2g} in the median",
    )


def _gaps(ptg: Answer, peer: Answer) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Return which guides can be compared, and by how much the peer's objective is higher."""
    gap = (peer["loss"] - ptg["loss"]).astype(np.float64)
    return np.isfinite(gap) & peer["comparable"].astype(bool), gap


def classifications_agree(ptg: Answer, peer: Answer) -> Agreement:
    """Compare mixscape classes, mixscale scores and the LDA embedding.

    The peer's neighbours are approximate and differ in a fifth of Papalexi's cells, so the numbers are close rather
    than equal.
    """
    same = _same_classes(ptg, peer)
    correlation = _score_correlation(ptg, peer)
    lda = _canonical_correlations(*_shared_rows(ptg, peer))
    leading = float(lda[LEADING - 1]) if len(lda) >= LEADING else 0.0
    agrees = same >= SAME_CLASSES and correlation >= SCORE_CORRELATION and leading >= LDA_CORRELATION
    detail = f"{same:.2%} of classes equal; correlation of scores {correlation:.5f}, of leading LDA axes {leading:.4f}"
    return Agreement(bool(agrees), detail)


def classes_agree(ptg: Answer, peer: Answer) -> Agreement:
    """Compare the mixscape classes of the cells that are not controls."""
    same = _same_classes(ptg, peer)
    return Agreement(same >= SAME_CLASSES, f"{same:.2%} of classes of perturbed cells equal")


def scores_agree(ptg: Answer, peer: Answer) -> Agreement:
    """Compare mixscale scores by their correlation."""
    correlation = _score_correlation(ptg, peer)
    return Agreement(correlation >= SCORE_CORRELATION_GPU, f"correlation of scores {correlation:.5f}")


def embeddings_agree(ptg: Answer, peer: Answer) -> Agreement:
    """Compare the subspaces of two LDA embeddings of the same cells.

    Principal axes of nearly equal variance mix in the rounding of either side, the last ones of each target with those
    that are left out, so that it is the mean of all correlations that is asked for.
    """
    if ptg["lda"].shape != peer["lda"].shape:
        return Agreement(False, f"shapes {ptg['lda'].shape} and {peer['lda'].shape}")
    correlations = _canonical_correlations(ptg["lda"], peer["lda"])
    detail = (
        f"canonical correlations of the {len(correlations)} axes: mean {correlations.mean():.4f}, "
        f"smallest {correlations.min():.4f}"
    )
    return Agreement(bool(correlations.mean() >= LDA_MEAN_CORRELATION), detail)


def _same_classes(ptg: Answer, peer: Answer) -> float:
    perturbed = ptg["perturbed"].astype(bool)
    return float(np.mean((ptg["class"] == peer["class"])[perturbed]))


def _score_correlation(ptg: Answer, peer: Answer) -> float:
    """Correlation over the cells of targets that could be scored."""
    scored = ptg["perturbed"].astype(bool) & (ptg["score"] != 0.0)
    sides = [answer["score"][scored].astype(np.float64) for answer in (ptg, peer)]
    return float(np.corrcoef(*sides)[0, 1])


def _shared_rows(ptg: Answer, peer: Answer) -> tuple[NDArray[np.generic], NDArray[np.generic]]:
    """Rows of the LDA embeddings for the cells that both embed."""
    _, mine, theirs = np.intersect1d(ptg["lda_cells"], peer["lda_cells"], return_indices=True)
    return ptg["lda"][mine], peer["lda"][theirs]


def _canonical_correlations(left: NDArray[np.generic], right: NDArray[np.generic]) -> NDArray[np.float64]:
    """Correlations between two embeddings, the largest first.

    Columns have no sign, columns of nearly equal separation mix, and the last ones separate hardly anything: what two
    embeddings of slightly different cells share are the directions that separate most.
    """
    bases = [np.linalg.qr(side.astype(np.float64) - side.mean(axis=0))[0] for side in (left, right)]
    return np.linalg.svd(bases[0].T @ bases[1], compute_uv=False)
