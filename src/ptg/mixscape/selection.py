"""The marker genes that each target is looked at with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from ptg.data import check_choice, check_integer, check_number
from ptg.execute import array_module, to_host
from ptg.mixscape.gene_tests import Comparison
from ptg.mixscape.markers import METHODS, RankedGenes, by_target, find_markers, rank_genes

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ptg.execute import Run
    from ptg.mixscape.screen import Split

_MIN_SHARE = 0.1
"""Seurat's `min.pct`: share of cells with the gene, in the target or in the control."""


@dataclass(frozen=True)
class MarkerRule:
    """Checked arguments of the search for markers."""

    method: str
    min_de_genes: int
    logfc_threshold: float
    pval_cutoff: float


def check_marker_rule(
    *, test_method: object, min_de_genes: object, logfc_threshold: object, pval_cutoff: object
) -> MarkerRule:
    """Check the arguments that mixscape, mixscale and lda share."""
    return MarkerRule(
        check_choice("test_method", test_method, list(METHODS)),
        check_integer("min_de_genes", min_de_genes, minimum=1),
        check_number("logfc_threshold", logfc_threshold, minimum=0.0),
        check_number("pval_cutoff", pval_cutoff, minimum=0.0, maximum=1.0),
    )


@dataclass(frozen=True)
class Markers:
    """Markers of one target in one split.

    Attributes
    ----------
    genes
        Their positions, int64; empty where the target cannot be used.
    n_found
        How many genes passed the thresholds, however few.
    reason
        Why the target cannot be used; empty if it can.
    """

    genes: NDArray[np.int64]
    n_found: int
    reason: str


@dataclass(frozen=True)
class Expression:
    """What markers are searched in.

    Attributes
    ----------
    matrix
        (n_cells, n_genes) log1p-transformed expression, as `MatrixKernels.keep` returns it.
    log_base
        Base of its logarithm; None is e.
    run
        Kernels and resources.
    """

    matrix: Any
    log_base: float | None
    run: Run

    def rank(
        self, codes: NDArray[np.int64], control: int, targets: list[int] | NDArray[np.int64], method: str
    ) -> RankedGenes:
        """Compare targets with the control, see `rank_genes`."""
        return rank_genes(self.matrix, codes, control, targets, method=method, log_base=self.log_base, run=self.run)


#: Markers among the ranked genes of some targets of a split.
Selection = Callable[[Expression, RankedGenes, "Split", list[int], MarkerRule], "list[NDArray[np.int64]]"]


def select_as_pertpy(
    expression: Expression, ranked: RankedGenes, split: Split, targets: list[int], rule: MarkerRule
) -> list[NDArray[np.int64]]:
    """Select by scanpy's log fold change and adjusted p-value, in the order of the genes."""
    del expression, split, targets
    found = find_markers(ranked, logfc_threshold=rule.logfc_threshold, pval_cutoff=rule.pval_cutoff, min_de_genes=1)
    return [np.sort(genes) for genes in found]


@dataclass(frozen=True)
class SelectAsSeurat:
    """Select as Seurat's FindMarkers does, in the order of the genes.

    The fold change is ``log2((mean + 1) / (mean of the control + 1))``, a tenth of the cells of either side must
    express the gene, and p-values are adjusted by Bonferroni over all genes.

    Attributes
    ----------
    of_counts
        Means are of the de-logarithmised expression, as for data that Seurat's NormalizeData made; else of the values
        as they are, which is what Seurat does with data of unknown origin.
    """

    of_counts: bool = True

    def __call__(
        self, expression: Expression, ranked: RankedGenes, split: Split, targets: list[int], rule: MarkerRule
    ) -> list[NDArray[np.int64]]:
        """Select the markers of each target."""
        cells = [split.cells[target] for target in targets]
        offsets = np.cumsum([0, *map(len, cells)], dtype=np.int64)
        run = expression.run
        comparison = Comparison(expression.matrix, np.concatenate(cells), offsets, split.control_cells, run)
        # To three digits, as in Seurat.
        shares = np.round(to_host(comparison.means(lambda values: (values > 0).astype(np.float32))), 3)
        means = to_host(comparison.means(partial(self._levels, expression.log_base)))
        change = np.log2((means[:-1] + 1.0) / (means[-1] + 1.0))
        keep = (np.abs(change) >= rule.logfc_threshold) & (np.maximum(shares[:-1], shares[-1]) >= _MIN_SHARE)
        if ranked.pvals is not None:
            keep &= to_host(ranked.pvals * ranked.pvals.shape[1] < rule.pval_cutoff)
        rows, genes = np.nonzero(keep)
        return by_target(genes, rows, len(targets))

    def _levels(self, log_base: float | None, values: Any) -> Any:
        """Expression on the scale of which means are taken, in float64."""
        logs = values.astype(np.float64)
        if log_base is not None:
            logs *= np.log(log_base)
        return array_module(logs).expm1(logs) if self.of_counts else logs


def split_markers(
    expression: Expression, split: Split, control: int, rule: MarkerRule, select: Selection
) -> dict[int, Markers]:
    """Find the markers of every target of a split."""
    reasons = {target: split.untestable(target) for target in split.targets}
    tested = [target for target in split.targets if not reasons[target]]
    found = {target: Markers(np.empty(0, dtype=np.int64), 0, reason) for target, reason in reasons.items()}
    if tested:
        ranked = expression.rank(split.codes, control, tested, rule.method)
        for target, genes in zip(tested, select(expression, ranked, split, tested, rule), strict=True):
            found[target] = enough(genes, rule.min_de_genes)
    return found


def enough(genes: NDArray[np.int64], min_de_genes: int) -> Markers:
    """Take the genes as markers, or none where they are fewer than `min_de_genes`."""
    if len(genes) >= min_de_genes:
        return Markers(genes, len(genes), "")
    count = f"{len(genes)} marker gene{'' if len(genes) == 1 else 's'}"
    return Markers(genes[:0], len(genes), f"{count}, fewer than min_de_genes={min_de_genes}")
