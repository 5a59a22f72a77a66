"""Genes that differ between each target and the control, ranked as scanpy ranks them."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import special, stats

from ptg.data import Matrix, check_choice, groups_from_codes

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ptg.execute import Run


@dataclass(frozen=True)
class RankedTarget:
    """All genes of one target, ranked by score; every array has shape (n_genes,), in the order of the ranking.

    Attributes
    ----------
    order
        Positions of the genes, int64.
    scores
        z (Wilcoxon), t, or the coefficient of the logistic regression.
    logfoldchanges
        log2 fold change of the de-logarithmised mean logs, target over control.
    pvals, pvals_adj
        Two-sided p-values and their Benjamini-Hochberg adjustment over all genes; NaN where the method has none.
    """

    order: NDArray[np.int64]
    scores: NDArray[np.float64]
    logfoldchanges: NDArray[np.float64]
    pvals: NDArray[np.float64]
    pvals_adj: NDArray[np.float64]


@dataclass(frozen=True)
class RankedGenes:
    """Ranked genes of many targets: a sequence of `RankedTarget`, each made from the scores when it is asked for.

    Attributes
    ----------
    scores, pvals, logfoldchanges
        (n_targets, n_genes) float64, genes in the order of the data; `pvals` is None where the method has none.
    """

    scores: NDArray[np.float64]
    pvals: NDArray[np.float64] | None
    logfoldchanges: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.scores)

    def __iter__(self) -> Iterator[RankedTarget]:
        return (self[target] for target in range(len(self)))

    def __getitem__(self, target: int) -> RankedTarget:
        scores = self.scores[target]
        order = _descending(scores)
        if self.pvals is None:
            pvals = adjusted = np.full(len(order), np.nan)
        else:
            pvals = self.pvals[target]
            adjusted = benjamini_hochberg(pvals)[order]
            pvals = pvals[order]
        return RankedTarget(order, scores[order], self.logfoldchanges[target][order], pvals, adjusted)


def _descending(scores: NDArray[np.float64]) -> NDArray[np.int64]:
    """Order by falling score. The two steps are scanpy's, so that genes with equal scores come in its order too."""
    partition = np.argpartition(scores, -len(scores))
    return partition[np.argsort(scores[partition])[::-1]]


def benjamini_hochberg(pvals: NDArray[np.float64]) -> NDArray[np.float64]:
    """Adjust p-values (NaN counts as 1) by the step-up procedure of Benjamini and Hochberg."""
    pvals = np.where(np.isnan(pvals), 1.0, pvals)
    order = np.argsort(pvals)
    n = len(pvals)
    raised = pvals[order] / (np.arange(1, n + 1) / n)
    adjusted = np.empty(n)
    adjusted[order] = np.minimum(np.minimum.accumulate(raised[::-1])[::-1], 1.0)
    return adjusted


def rank_genes(
    matrix: Matrix,
    codes: NDArray[np.int64],
    control: int,
    targets: Sequence[int] | NDArray[np.int64],
    *,
    method: str = "wilcoxon",
    log_base: float | None = None,
    run: Run,
) -> RankedGenes:
    """Compare every target with the control, gene by gene, as ``scanpy.tl.rank_genes_groups`` does.

    Parameters
    ----------
    matrix
        (n_cells, n_genes) log1p-transformed expression.
    codes
        (n_cells,) group of each cell, -1 for none.
    control
        The code of the control group.
    targets
        The codes to compare with it, in the order of the result.
    method
        ``"wilcoxon"`` (z of the rank sum, no continuity or tie correction), ``"t-test"`` (Welch),
        ``"t-test_overestim_var"`` (Welch with the target's size for both groups) or ``"logreg"`` (coefficient of a
        logistic regression of target against control on all genes; no p-values).
    log_base
        Base of the logarithm in `matrix` (``uns["log1p"]["base"]``); None is e.
    run
        Kernels and resources.

    Raises
    ------
    InputError
        The method is not one of the four.
    """
    check_choice("test_method", method, list(METHODS))
    wanted = np.asarray(targets, dtype=np.int64)
    position = np.full(int(max(codes.max(initial=0), wanted.max(initial=0), control)) + 2, -1, dtype=np.int64)
    position[wanted] = np.arange(len(wanted))
    groups = groups_from_codes(position[codes], wanted.tolist())
    comparison = _Comparison(matrix, groups.order, groups.offsets, np.flatnonzero(codes == control), run)
    scores, pvals = METHODS[method](comparison)
    return RankedGenes(scores, pvals, comparison.log_fold_changes(log_base))


def find_markers(
    ranked: RankedGenes, *, logfc_threshold: float, pval_cutoff: float, min_de_genes: int
) -> list[NDArray[np.int64]]:
    """Select each target's markers, in ranked order.

    A marker has ``|logfoldchange| >= logfc_threshold`` and, where the method has p-values, ``pval_adj < pval_cutoff``.

    Returns
    -------
    One array of gene positions per target; empty where fewer than `min_de_genes` are markers.
    """
    return [_at_least(record.order[_selected(record, logfc_threshold, pval_cutoff)], min_de_genes) for record in ranked]


def find_top_markers(
    ranked: RankedGenes, *, logfc_threshold: float, pval_cutoff: float, min_de_genes: int, max_de_genes: int
) -> list[NDArray[np.int64]]:
    """Select markers as `find_markers` does, order them by p-value (stable) and keep the first `max_de_genes`."""
    markers = []
    for record in ranked:
        keep = _selected(record, logfc_threshold, pval_cutoff)
        order = record.order[keep][np.argsort(record.pvals[keep], kind="stable")]
        markers.append(_at_least(order[:max_de_genes], min_de_genes))
    return markers


def _selected(record: RankedTarget, logfc_threshold: float, pval_cutoff: float) -> NDArray[np.bool_]:
    significant = np.isnan(record.pvals_adj) | (record.pvals_adj < pval_cutoff)
    return (np.abs(record.logfoldchanges) >= logfc_threshold) & significant


def _at_least(genes: NDArray[np.int64], minimum: int) -> NDArray[np.int64]:
    return genes if len(genes) >= minimum else genes[:0]


@dataclass(frozen=True)
class _Comparison:
    """Targets (`order`, `offsets`) and control of one matrix."""

    matrix: Matrix
    order: NDArray[np.int64]
    offsets: NDArray[np.int64]
    control: NDArray[np.int64]
    run: Run

    @property
    def sizes(self) -> NDArray[np.int64]:
        return np.diff(self.offsets)

    def cells(self, target: int) -> NDArray[np.int64]:
        return self.order[self.offsets[target] : self.offsets[target + 1]]

    def moments(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Means and variances (n - 1), (n_targets + 1, n_genes); the control comes last."""
        means, variances = [], []
        for cells in [*(self.cells(target) for target in range(len(self.sizes))), self.control]:
            block = self.matrix[cells]
            dense = np.asarray(block if isinstance(block, np.ndarray) else block.toarray(), dtype=np.float64)
            means.append(dense.mean(axis=0))
            variances.append(dense.var(axis=0, ddof=1))
        return np.stack(means), np.stack(variances)

    def log_fold_changes(self, log_base: float | None) -> NDArray[np.float64]:
        means = self.moments()[0] * (1.0 if log_base is None else math.log(log_base))
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.log2((np.expm1(means[:-1]) + 1e-9) / (np.expm1(means[-1]) + 1e-9))


Scores = tuple["NDArray[np.float64]", "NDArray[np.float64] | None"]


def _wilcoxon(comparison: _Comparison) -> Scores:
    u = comparison.run.kernels.ranksum.u_statistics(
        comparison.matrix, comparison.order, comparison.offsets, comparison.control, resources=comparison.run.resources
    )
    n, m = comparison.sizes.astype(np.float64)[:, None], float(len(comparison.control))
    with np.errstate(invalid="ignore"):
        z = (u - n * m / 2) / np.sqrt(n * m * (n + m + 1) / 12.0)
    return z, 2 * special.ndtr(-np.abs(z))


def _t_test(comparison: _Comparison, *, target_sizes: bool = False) -> Scores:
    means, variances = comparison.moments()
    n = comparison.sizes[:, None]
    with np.errstate(invalid="ignore", divide="ignore"):
        t, pvals = stats.ttest_ind_from_stats(
            means[:-1],
            np.sqrt(variances[:-1]),
            n,
            means[-1],
            np.sqrt(variances[-1]),
            n if target_sizes else len(comparison.control),
            equal_var=False,
        )
    same = np.isnan(t) & np.isfinite(variances[:-1])  # equal means without variance: no difference
    return np.where(same, 0.0, t), np.where(same, 1.0, pvals)


def _t_test_overestimated_variance(comparison: _Comparison) -> Scores:
    return _t_test(comparison, target_sizes=True)


def _logistic_regression(comparison: _Comparison) -> Scores:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    scores = np.empty((len(comparison.sizes), comparison.matrix.shape[1]))
    for target in range(len(scores)):
        rows = np.sort(np.concatenate([comparison.cells(target), comparison.control]))
        is_target = np.isin(rows, comparison.cells(target))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            scores[target] = LogisticRegression().fit(comparison.matrix[rows], is_target).coef_[0]
    return scores, None


#: Tests by scanpy's names: scores and p-values of all targets.
METHODS: dict[str, Callable[[_Comparison], Any]] = {
    "wilcoxon": _wilcoxon,
    "t-test": _t_test,
    "t-test_overestim_var": _t_test_overestimated_variance,
    "logreg": _logistic_regression,
}
