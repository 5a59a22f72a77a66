"""The genes that mixscale scores each target with: given, or found in all cells together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ptg.data import InputError, listed, warn
from ptg.mixscape.markers import find_top_markers
from ptg.mixscape.screen import FEWEST_CELLS
from ptg.mixscape.selection import Expression, MarkerRule, Markers, enough

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ptg.mixscape.screen import Screen, Split


@dataclass(frozen=True)
class MarkerSearch:
    """How markers are found where they are not given.

    Attributes
    ----------
    rule
        Thresholds.
    max_de_genes
        Markers that a target keeps.
    guides
        (n_cells,) guide of each cell, -1 for none: search guide by guide and pool. None: search by target.
    min_proportion
        Sample controls to the target's composition of splits, keeping at least this share of them. None: use all.
    seed
        Of the sample of controls.
    """

    rule: MarkerRule
    max_de_genes: int
    guides: NDArray[np.int64] | None
    min_proportion: float | None
    seed: int

    def run(self, expression: Expression, screen: Screen) -> dict[int, Markers]:
        """Find the markers of every target."""
        whole = screen.whole()
        found: dict[int, list[NDArray[np.int64]]] = {target: [] for target in whole.targets}
        reasons = {target: whole.untestable(target) for target in whole.targets}
        groups = [
            (target, cells)
            for target in whole.targets
            if not reasons[target]
            for cells in self._groups(whole.cells[target])
        ]
        for control_cells, chosen in self._comparisons(screen, whole, groups):
            for (target, _), genes in zip(chosen, self._ranked(expression, control_cells, chosen), strict=True):
                found[target].append(genes)
        return {target: self._markers(found[target], reasons[target]) for target in whole.targets}

    def _groups(self, cells: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        """Cells to compare with the controls at a time, without groups of one cell."""
        if self.guides is None:
            return [cells]
        guides = self.guides[cells]
        by_guide = [cells[guides == guide] for guide in pd.unique(guides[guides >= 0])]
        return [group for group in by_guide if len(group) >= FEWEST_CELLS]

    def _comparisons(
        self, screen: Screen, whole: Split, groups: list[tuple[int, NDArray[np.int64]]]
    ) -> Iterable[tuple[NDArray[np.int64], list[tuple[int, NDArray[np.int64]]]]]:
        """Control cells, and the groups that are compared with them."""
        if self.min_proportion is None:
            return [(whole.control_cells, groups)] if groups else []
        targets = dict.fromkeys(target for target, _ in groups)
        return [
            (self._sample(screen, whole, target), [group for group in groups if group[0] == target])
            for target in targets
        ]

    def _ranked(
        self, expression: Expression, control_cells: NDArray[np.int64], groups: list[tuple[int, NDArray[np.int64]]]
    ) -> list[NDArray[np.int64]]:
        codes = np.full(expression.matrix.shape[0], -1, dtype=np.int64)
        codes[control_cells] = 0
        for code, (_, cells) in enumerate(groups, start=1):
            codes[cells] = code
        ranked = expression.rank(codes, 0, np.arange(1, len(groups) + 1), self.rule.method)
        return find_top_markers(
            ranked,
            logfc_threshold=self.rule.logfc_threshold,
            pval_cutoff=self.rule.pval_cutoff,
            min_de_genes=1,
            max_de_genes=expression.matrix.shape[1],
        )

    def _markers(self, found: list[NDArray[np.int64]], reason: str) -> Markers:
        if not found:
            few = f"no guide with at least {FEWEST_CELLS} cells"
            return Markers(np.empty(0, dtype=np.int64), 0, reason or few)
        pooled = found[0] if len(found) == 1 else pd.unique(np.concatenate(found)).astype(np.int64)
        return enough(pooled[: self.max_de_genes], self.rule.min_de_genes)

    def _sample(self, screen: Screen, whole: Split, target: int) -> NDArray[np.int64]:
        """Draw controls so that their shares of the splits are the target's; all where that is not possible."""
        controls = whole.control_cells
        control_split = screen.split_codes[controls]
        target_split = screen.split_codes[whole.cells[target]]
        splits = pd.unique(screen.split_codes[screen.split_codes >= 0]).tolist()
        desired = _desired(splits, target_split, control_split, self.min_proportion or 0.0)
        if desired is None:
            return controls
        rng = np.random.default_rng(self.seed)
        drawn = [
            rng.choice(
                controls[control_split == split], min(number, int((control_split == split).sum())), replace=False
            )
            for split, number in desired.items()
        ]
        return np.sort(np.concatenate(drawn))


def _desired(
    splits: list[int], target_split: NDArray[np.int64], control_split: NDArray[np.int64], min_proportion: float
) -> dict[int, int] | None:
    """Count the controls to draw from each split; the one with the fewest is given up until enough are kept."""
    active = list(splits)
    while len(active) > 1:
        n_target = np.array([(target_split == split).sum() for split in active], dtype=np.float64)
        n_control = np.array([(control_split == split).sum() for split in active], dtype=np.float64)
        if not n_target.all() or not n_control.all():
            return None
        share = n_target / n_target.sum()
        total = np.floor((n_control / share).min())
        if total >= min_proportion * n_control.sum():
            return dict(zip(active, np.floor(total * share).astype(int).tolist(), strict=True))
        del active[int(np.argmin(n_control))]
    return None


def given_markers(
    by_target: Mapping[Any, Sequence[str]], screen: Screen, gene_position: dict[str, int], search: MarkerSearch
) -> dict[int, Markers]:
    """Take the caller's genes of each target, those that exist, the first `max_de_genes`."""
    if not isinstance(by_target, Mapping):
        raise InputError(
            f"de_genes_by_target is a {type(by_target).__name__}. Pass a dict from target to a list of genes."
        )
    genes = {str(target): _gene_list(target, names) for target, names in by_target.items()}
    _warn_unknown(genes, screen, gene_position)
    markers = {}
    for target in screen.whole().targets:
        names = genes.get(screen.names[target])
        if names is None:
            markers[target] = Markers(np.empty(0, dtype=np.int64), 0, "not in de_genes_by_target")
            continue
        known = [gene_position[name] for name in dict.fromkeys(names) if name in gene_position]
        positions = np.array(known, dtype=np.int64)[: search.max_de_genes]
        markers[target] = enough(positions, search.rule.min_de_genes)
    return markers


def _gene_list(target: object, names: object) -> list[str]:
    if isinstance(names, str) or not isinstance(names, Iterable):
        raise InputError(f"de_genes_by_target[{target!r}]={names!r} is not a list. Pass a list of gene names.")
    return [str(name) for name in names]


def _warn_unknown(genes: dict[str, list[str]], screen: Screen, gene_position: dict[str, int]) -> None:
    targets = [target for target in genes if target not in screen.names]
    names = dict.fromkeys(name for own in genes.values() for name in own if name not in gene_position)
    if targets or names:
        parts = [f"targets {listed(targets)}"] * bool(targets) + [f"genes {listed(list(names))}"] * bool(names)
        warn(f"de_genes_by_target: {' and '.join(parts)} not in the data, left out.")
