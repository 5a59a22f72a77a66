"""Do two answers agree? Each check compares arrays and reports the largest difference it saw."""

from __future__ import annotations

import anndata as ad
import numpy as np
from benchmarks.record import Agreement, Answer
from numpy.typing import NDArray
from scipy.special import gammaln

EDISTANCE_TOLERANCE = 1e-6
LOSS_TOLERANCE = 1e-3
SAME_OPTIMUM = 1e-2
SAME_GUIDE_LABELS = 0.97
SAME_CLASSES = 0.99
SCORE_CORRELATION = 0.995
LDA_CORRELATION = 0.99
LEADING = 3


def edistances_agree(data: ad.AnnData, ptg: Answer, peer: Answer) -> Agreement:
    """Compare two square matrices of energy distances.

    Both sides sum float32 distances of the size of the mean distance between cells, so that is the scale of the
    error: it is estimated from 2,000 cells against 2,000 others.
    """
    scale = _mean_cell_distance(np.asarray(data.obsm["X_pca"], dtype=np.float64))
    if ptg["distance"].shape != peer["distance"].shape:
        return Agreement(False, f"shapes {ptg['distance'].shape} and {peer['distance'].shape}")
    error = float(np.max(np.abs(ptg["distance"] - peer["distance"]))) / scale
    return Agreement(error <= EDISTANCE_TOLERANCE, f"largest difference {error:.1e} of the mean cell distance")


def _mean_cell_distance(points: NDArray[np.float64]) -> float:
    chosen = np.random.default_rng(0).permutation(len(points))[:4000]
    left, right = points[chosen[::2]], points[chosen[1::2]]
    square = (left**2).sum(1)[:, None] + (right**2).sum(1)[None] - 2.0 * left @ right.T
    return float(np.sqrt(np.maximum(square, 0.0)).mean())


def mixtures_agree(data: ad.AnnData, ptg: Answer, peer: Answer) -> Agreement:
    """Compare two fits of the guide mixture by their objective, their thresholds and their labels.

    The peer takes a fixed number of gradient steps and is not converged on every guide, so equal parameters cannot be
    asked for. Asked for is: ptg's objective is nowhere higher (by more than the peer's float32 accounts for), the
    thresholds are within one count where the peer came to the same optimum, and the labels are mostly the same.
    """
    counts = data.X.tocsc()
    gap, shift = [], []
    for guide in range(counts.shape[1]):
        observed = counts.data[counts.indptr[guide] : counts.indptr[guide + 1]].astype(np.float64)
        mine, theirs = (_loss(observed, answer["parameters"][guide]) for answer in (ptg, peer))
        if not np.isfinite(mine) or not np.isfinite(theirs) or not _inside_box(peer["parameters"][guide]):
            continue
        gap.append(theirs - mine)
        if abs(gap[-1]) <= SAME_OPTIMUM:
            shift.append(abs(ptg["threshold"][guide] - peer["threshold"][guide]))
    if not gap:
        return Agreement(False, "no guide was fitted by both")
    same_labels = float(np.mean(ptg["label"] == peer["label"]))
    worst_shift = max(shift, default=0.0)
    agrees = min(gap) >= -LOSS_TOLERANCE and worst_shift <= 1.0 and same_labels >= SAME_GUIDE_LABELS
    detail = (
        f"{len(gap)} guides compared, ptg's objective higher by at most {max(-min(gap), 0.0):.1e}; "
        f"thresholds of {len(shift)} guides at the same optimum differ by at most {worst_shift:.0f}; "
        f"{same_labels:.1%} of labels equal"
    )
    return Agreement(bool(agrees), detail)


def _loss(counts: NDArray[np.float64], parameters: NDArray[np.generic]) -> float:
    """Minus the log joint of the nonzero counts of a guide, in float64, without constants of the priors."""
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


def _inside_box(parameters: NDArray[np.generic]) -> bool:
    """Whether a fit is an ordered one in the region where the joint is bounded; outside, lower values mean nothing."""
    rate, mean, deviation, weight = (float(value) for value in parameters)
    return mean > rate and 1e-3 < weight < 1.0 - 1e-3 and 0.05 < deviation < 50.0 and 1e-4 < rate < 50.0


def classifications_agree(data: ad.AnnData, ptg: Answer, peer: Answer) -> Agreement:
    """Compare mixscape classes, mixscale scores and the LDA embedding.

    The peer's neighbours are approximate and differ in a fifth of Papalexi's cells, so the numbers are close rather
    than equal; cells of targets that could not be scored are left out of the correlation.
    """
    perturbed = np.asarray(data.obs["perturbation"].astype(str)) != "NT"
    same = float(np.mean((ptg["class"] == peer["class"])[perturbed]))
    scored = perturbed & (ptg["score"] != 0.0)
    correlation = _correlation(ptg["score"][scored], peer["score"][scored])
    lda = _canonical_correlation(*_shared_rows(ptg, peer))
    agrees = same >= SAME_CLASSES and correlation >= SCORE_CORRELATION and lda >= LDA_CORRELATION
    detail = f"{same:.2%} of classes equal; correlation of scores {correlation:.5f}, of leading LDA axes {lda:.4f}"
    return Agreement(bool(agrees), detail)


def _correlation(left: NDArray[np.generic], right: NDArray[np.generic]) -> float:
    return float(np.corrcoef(left.astype(np.float64), right.astype(np.float64))[0, 1])


def _shared_rows(ptg: Answer, peer: Answer) -> tuple[NDArray[np.generic], NDArray[np.generic]]:
    """Rows of the LDA embeddings for the cells that both embed."""
    _, mine, theirs = np.intersect1d(ptg["lda_cells"], peer["lda_cells"], return_indices=True)
    return ptg["lda"][mine], peer["lda"][theirs]


def _canonical_correlation(left: NDArray[np.generic], right: NDArray[np.generic]) -> float:
    """Correlation number `LEADING` between two embeddings, the largest first.

    Columns have no sign, columns of nearly equal separation mix, and the last ones separate hardly anything: what two
    embeddings of slightly different cells share are the directions that separate most.
    """
    if min(left.shape) < LEADING or min(right.shape) < LEADING:
        return 0.0
    bases = [np.linalg.qr(side.astype(np.float64) - side.mean(axis=0))[0] for side in (left, right)]
    return float(np.linalg.svd(bases[0].T @ bases[1], compute_uv=False)[LEADING - 1])
