"""Genes that differ between each target and the control, ranked as scanpy ranks them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ptg.data import check_choice, groups_from_codes
from ptg.execute import array_module, to_host
from ptg.mixscape.gene_tests import METHODS, Comparison

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ptg.execute import Run

__all__ = ["METHODS", "RankedGenes", "RankedTarget", "by_target", "find_markers", "find_top_markers", "rank_genes"]

_BLOCK_VALUES = 1 << 23
"""Genes of targets that are looked at together."""


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
        Two-sided p-values and their Benjamini-Hochberg adjustment over all genes; NaN where there is none.
    """

    order: NDArray[np.int64]
    scores: NDArray[np.float64]
    logfoldchanges: NDArray[np.float64]
    pvals: NDArray[np.float64]
    pvals_adj: NDArray[np.float64]


@dataclass(frozen=True)
class RankedGenes:
    """Ranked genes of many targets: a sequence of `RankedTarget`, each made when it is asked for.

    Attributes
    ----------
    scores, pvals, logfoldchanges
        (n_targets, n_genes) float64 of the host or the device, genes in the order of the data. `pvals` is None where
        the method has none; genes are then ranked by the size of their score, whatever its sign.
    """

    scores: Any
    pvals: Any | None
    logfoldchanges: Any

    def __len__(self) -> int:
        return len(self.scores)

    def __iter__(self) -> Iterator[RankedTarget]:
        return (self[target] for target in range(len(self)))

    def __getitem__(self, target: int) -> RankedTarget:
        scores, changes = to_host(self.scores[target]), to_host(self.logfoldchanges[target])
        if self.pvals is None:
            order = _descending(np.abs(scores))
            none = np.full(len(order), np.nan)
            return RankedTarget(order, scores[order], changes[order], none, none)
        order, pvals = _descending(scores), to_host(self.pvals[target])
        adjusted = _benjamini_hochberg(pvals)
        return RankedTarget(order, scores[order], changes[order], pvals[order], adjusted[order])


def _descending(scores: NDArray[np.float64]) -> NDArray[np.int64]:
    """Order by falling score. The two steps are scanpy's, so that genes with equal scores come in its order too."""
    partition = np.argpartition(scores, -len(scores))
    return partition[np.argsort(scores[partition])[::-1]]


def _benjamini_hochberg(pvals: NDArray[np.float64]) -> NDArray[np.float64]:
    """Adjust p-values by the step-up procedure; a missing one counts as 1 among the others and stays missing."""
    missing = np.isnan(pvals)
    filled = np.where(missing, 1.0, pvals)
    order = np.argsort(filled)
    n = len(pvals)
    raised = filled[order] / (np.arange(1, n + 1) / n)
    adjusted = np.empty(n)
    adjusted[order] = np.minimum(np.minimum.accumulate(raised[::-1])[::-1], 1.0)
    return np.where(missing, np.nan, adjusted)


def rank_genes(
    matrix: Any,
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
        (n_cells, n_genes) log1p-transformed expression, as `MatrixKernels.keep` takes or returns it.
    codes
        (n_cells,) group of each cell, -1 for none.
    control
        The code of the control group.
    targets
        The codes to compare with it, each once, in the order of the result.
    method
        ``"wilcoxon"`` (z of the rank sum, no continuity or tie correction), ``"t-test"`` (Welch),
        ``"t-test_overestim_var"`` (Welch with the target's size for both groups) or ``"logreg"`` (coefficients of a
        logistic regression of target against control on all genes, with scikit-learn's defaults; no p-values).
    log_base
        Base of the logarithm in `matrix` (``uns["log1p"]["base"]``); None is e.
    run
        Kernels and resources.

    Raises
    ------
    InputError
        The method is not one of the four.

    Notes
    -----
    Log fold changes are ``log2((expm1(m) + 1e-9) / (expm1(m_control) + 1e-9))`` of the mean logs m. A target or control
    without cells has NaN throughout, one of a single cell NaN scores in the t-tests.
    """
    check_choice("test_method", method, list(METHODS))
    wanted = np.asarray(targets, dtype=np.int64)
    position = np.full(max(int(codes.max(initial=0)), int(wanted.max(initial=0))) + 2, -1, dtype=np.int64)
    position[wanted] = np.arange(len(wanted))  # the last entry serves code -1
    groups = groups_from_codes(position[codes], wanted.tolist())
    comparison = Comparison(matrix, groups.order, groups.offsets, np.flatnonzero(codes == control), run)
    scores, pvals, means = METHODS[method](comparison)
    return RankedGenes(scores, pvals, _log_fold_changes(means, log_base))


def _log_fold_changes(means: Any, log_base: float | None) -> Any:
    """Compare each row of mean logs with the last one, the control's."""
    arrays = array_module(means)
    with np.errstate(all="ignore"):  # levels beyond floating point, as of raw counts, have no fold change: NaN
        levels = arrays.expm1(means if log_base is None else means * np.log(log_base)) + 1e-9
        return arrays.log2(levels[:-1] / levels[-1])


def find_markers(
    ranked: RankedGenes, *, logfc_threshold: float, pval_cutoff: float, min_de_genes: int
) -> list[NDArray[np.int64]]:
    """Select each target's markers, by falling score; those with equal scores in the order of the genes.

    A marker has ``|logfoldchange| >= logfc_threshold`` and, where the method has p-values, ``pval_adj < pval_cutoff``.

    Returns
    -------
    One array of gene positions per target; empty where fewer than `min_de_genes` are markers.
    """
    selected = _select(ranked, logfc_threshold, pval_cutoff)
    order = np.lexsort((-selected.scores, selected.targets))
    return [_at_least(genes, min_de_genes) for genes in by_target(selected.genes[order], selected.targets, len(ranked))]


def find_top_markers(
    ranked: RankedGenes, *, logfc_threshold: float, pval_cutoff: float, min_de_genes: int, max_de_genes: int
) -> list[NDArray[np.int64]]:
    """Select markers as `find_markers` does, order them by p-value, then as there, and keep `max_de_genes`."""
    selected = _select(ranked, logfc_threshold, pval_cutoff)
    order = np.lexsort((-selected.scores, selected.pvals, selected.targets))
    genes_by_target = by_target(selected.genes[order], selected.targets, len(ranked))
    return [_at_least(genes[:max_de_genes], min_de_genes) for genes in genes_by_target]


class _Selected(NamedTuple):
    """Markers of all targets, target after target, genes ascending: (n_markers in all,) on the host.

    `scores` are what genes are ranked by; `pvals` are 0 where there are none.
    """

    targets: NDArray[np.int64]
    genes: NDArray[np.int64]
    scores: NDArray[np.float64]
    pvals: NDArray[np.float64]


def _select(ranked: RankedGenes, logfc_threshold: float, pval_cutoff: float) -> _Selected:
    arrays = array_module(ranked.scores)
    size = max(_BLOCK_VALUES // max(ranked.scores.shape[1], 1), 1)
    parts = []
    for start in range(0, len(ranked), size):
        some = slice(start, start + size)
        scores = ranked.scores[some]
        pvals = None if ranked.pvals is None else ranked.pvals[some]
        keep = arrays.abs(ranked.logfoldchanges[some]) >= logfc_threshold
        if pvals is not None:
            keep &= _significant(pvals, pval_cutoff)
        targets, genes = arrays.nonzero(keep)
        rank_by = arrays.abs(scores[keep]) if pvals is None else scores[keep]
        chosen = arrays.zeros_like(rank_by) if pvals is None else pvals[keep]
        parts.append([to_host(array) for array in (targets + start, genes, rank_by, chosen)])
    empty = [np.empty(0, dtype=np.int64)] * 2 + [np.empty(0)] * 2
    return _Selected(*(np.concatenate(column) for column in zip(empty, *parts, strict=True)))


def _significant(pvals: Any, cutoff: float) -> Any:
    """Where `_benjamini_hochberg` of each row is below the cutoff.

    The adjusted value of the k-th smallest is the least of ``p_j / (j / n)`` over j >= k: it is below the cutoff up to
    the last j for which that is.
    """
    arrays = array_module(pvals)
    missing = arrays.isnan(pvals)
    filled = arrays.where(missing, 1.0, pvals)
    ordered = arrays.sort(filled, axis=1)
    n = pvals.shape[1]
    below = arrays.minimum(ordered / (arrays.arange(1, n + 1) / n), 1.0) < cutoff
    largest = arrays.where(below, ordered, -1.0).max(axis=1)
    return (filled <= largest[:, None]) & ~missing


def by_target(genes: NDArray[np.int64], targets: NDArray[np.int64], n_targets: int) -> list[NDArray[np.int64]]:
    """Cut genes, target after target, into one array for each target."""
    return np.split(genes, np.cumsum(np.bincount(targets, minlength=n_targets))[:-1])


def _at_least(genes: NDArray[np.int64], minimum: int) -> NDArray[np.int64]:
    return genes if len(genes) >= minimum else genes[:0]
