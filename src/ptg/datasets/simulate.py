"""A simulated pooled screen whose truth is known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import scipy.sparse as sp

from ptg.data import InputError, check_integer, check_number, entry_point

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

CONTROL = "NT"
_TOO_SMALL = 4
"""Cells of the target that is too small to test."""
_EFFECTS = {"strongest": 1.6, "weakest": 0.35}
"""Standard deviation of the log fold changes of a target's genes."""
_DISPERSION = 0.15
"""Overdispersion of a gene's counts: variance = mean + 0.15 mean^2."""


@dataclass(frozen=True)
class _Plan:
    """How many cells of which kind to draw; see `simulate_screen`."""

    n_cells: int
    n_replicates: int
    control_fraction: float
    escape_fraction: float
    doublet_fraction: float
    no_guide_fraction: float

    def __post_init__(self) -> None:
        check_integer("n_cells", self.n_cells, minimum=50)
        check_integer("n_replicates", self.n_replicates, minimum=1)
        for name in ("control_fraction", "escape_fraction", "doublet_fraction", "no_guide_fraction"):
            check_number(name, getattr(self, name), minimum=0.0, maximum=1.0)


@dataclass(frozen=True)
class _Cells:
    """What each cell truly is."""

    guide: NDArray[np.int64]
    second_guide: NDArray[np.int64]  # -1 where the cell is no doublet
    captured: NDArray[np.bool_]  # whether the guide was read at all
    replicate: NDArray[np.int64]
    acts: NDArray[np.bool_]  # whether the guide did its work


@entry_point
def simulate_screen(
    n_cells: int = 6000,
    n_genes: int = 500,
    n_targets: int = 12,
    guides_per_target: int = 3,
    *,
    n_replicates: int = 3,
    control_fraction: float = 0.15,
    escape_fraction: float = 0.25,
    doublet_fraction: float = 0.04,
    no_guide_fraction: float = 0.05,
    counts_per_cell: float = 3000.0,
    seed: int = 0,
) -> tuple[AnnData, AnnData]:
    """Draw a pooled CRISPR screen: expression and guide counts of the same cells.

    Parameters
    ----------
    n_cells, n_genes
        Cells and genes of the expression matrix.
    n_targets
        Targets besides the control. Their effects fall evenly from strong to weak; with at least four targets, one in
        six (at least one) has no effect, and the last has too few cells to be tested.
    guides_per_target
        Guides of each target; the control has twice as many.
    n_replicates
        Replicates; each shifts the expression of every gene a little.
    control_fraction
        Share of the cells with a control guide.
    escape_fraction
        Share of a target's cells that its guide leaves unperturbed, on average.
    doublet_fraction
        Share of cells with two guides and the expression of two cells.
    no_guide_fraction
        Share of cells whose guide was not read, so that only ambient guide reads are left.
    counts_per_cell
        Median number of RNA counts in a cell.
    seed
        Seed of the random generator; the same seed gives the same screen.

    Returns
    -------
    rna
        Raw counts, CSR float32, cells x genes. ``obs``: ``perturbation`` (the true target, control "NT"; missing for
        doublets of two targets), ``guide`` (the true guides, "+" between two), ``replicate``, ``truly_perturbed``,
        ``n_counts``. ``uns["simulated_targets"]``: effect and cells of each target.
    guides
        Guide counts, CSR float32, cells x guides. ``obs`` is as in `rna`; ``var["target"]`` is what each guide targets.

    Raises
    ------
    InputError
        A number is out of range, or there are too few cells for the targets.

    Examples
    --------
    >>> rna, guides = simulate_screen(n_cells=400, n_genes=50, n_targets=4)
    >>> rna.shape, guides.shape
    ((400, 50), (400, 18))
    """
    from anndata import AnnData

    plan = _Plan(n_cells, n_replicates, control_fraction, escape_fraction, doublet_fraction, no_guide_fraction)
    n_genes = check_integer("n_genes", n_genes, minimum=20)
    n_targets = check_integer("n_targets", n_targets, minimum=1)
    guides_per_target = check_integer("guides_per_target", guides_per_target, minimum=1)
    counts_per_cell = check_number("counts_per_cell", counts_per_cell, minimum=0.0, open_ends=True)
    seed = check_integer("seed", seed, minimum=0)
    if n_cells < 12 * (n_targets + 1):
        raise InputError(f"n_cells={n_cells} is too few for {n_targets} targets. Pass at least {12 * (n_targets + 1)}.")

    rng = np.random.default_rng(seed)
    library = _guide_library(n_targets, guides_per_target)
    targets = _design_targets(n_targets)
    cells = _draw_cells(rng, plan, targets, library)
    rates = _expression_rates(rng, n_genes, targets, cells, library)
    depth = counts_per_cell * rng.lognormal(0.0, 0.35, n_cells) * np.where(cells.second_guide >= 0, 1.6, 1.0)
    mean = rates * (depth / rates.sum(axis=1))[:, np.newaxis]
    counts = rng.poisson(rng.gamma(1.0 / _DISPERSION, _DISPERSION * mean))
    umis = _guide_umis(rng, cells, len(library))

    obs = _describe_cells(cells, library)
    names = [f"gene{i + 1:0{len(str(n_genes))}d}" for i in range(n_genes)]
    expression = sp.csr_matrix(counts.astype(np.float32))
    table = targets.assign(n_cells=obs["perturbation"].value_counts().reindex(targets.index).to_numpy())
    rna = AnnData(
        expression,
        obs=obs.assign(n_counts=counts.sum(axis=1)),
        var=pd.DataFrame(index=names),
        uns={"simulated_targets": table},
    )
    return rna, AnnData(umis, obs=obs.copy(), var=library)


def _guide_library(n_targets: int, guides_per_target: int) -> pd.DataFrame:
    """One row per guide: its target. Controls come first."""
    width = len(str(n_targets))
    names = [f"target{t + 1:0{width}d}" for t in range(n_targets)]
    sizes = [2 * guides_per_target] + [guides_per_target] * n_targets
    rows = [(f"{name}g{g + 1}", name) for name, size in zip([CONTROL, *names], sizes, strict=True) for g in range(size)]
    return pd.DataFrame({"target": [target for _, target in rows]}, index=[guide for guide, _ in rows])


def _design_targets(n_targets: int) -> pd.DataFrame:
    """One row per target: strength of its effect and whether it is too small to test."""
    width = len(str(n_targets))
    names = [f"target{t + 1:0{width}d}" for t in range(n_targets)]
    small = 1 if n_targets >= 4 else 0
    without = max(n_targets // 6, 1) if n_targets >= 4 else 0
    acting = n_targets - small - without
    strength = np.concatenate(
        [np.geomspace(_EFFECTS["strongest"], _EFFECTS["weakest"], acting), np.zeros(without), np.ones(small)]
    )
    too_small = np.arange(n_targets) >= n_targets - small
    return pd.DataFrame({"effect": strength, "too_small": too_small}, index=pd.Index(names, name="target"))


def _draw_cells(rng: np.random.Generator, plan: _Plan, targets: pd.DataFrame, library: pd.DataFrame) -> _Cells:
    """Give each cell a target, a guide of it, a replicate and a fate."""
    n_cells, n_targets = plan.n_cells, len(targets)
    weight = rng.lognormal(0.0, 0.3, n_targets) * ~targets["too_small"].to_numpy()
    label = 1 + rng.choice(n_targets, n_cells, p=weight / weight.sum())
    label[rng.random(n_cells) < plan.control_fraction] = 0
    if targets["too_small"].any():
        label[rng.choice(n_cells, _TOO_SMALL, replace=False)] = n_targets
    guides_of = [np.flatnonzero(library["target"] == name) for name in [CONTROL, *targets.index]]
    guide = np.array(
        [guides_of[t][k % len(guides_of[t])] for t, k in zip(label, rng.permutation(n_cells), strict=True)]
    )
    regular = label < n_targets if targets["too_small"].any() else np.ones(n_cells, bool)
    doublet = regular & (rng.random(n_cells) < plan.doublet_fraction)
    captured = ~regular | doublet | (rng.random(n_cells) >= plan.no_guide_fraction)
    partner = rng.choice(guide[regular], n_cells)
    # Every target has its own share of escaping cells, around the one asked for.
    escape = np.clip(plan.escape_fraction * rng.uniform(0.4, 1.6, n_targets + 1), 0.0, 1.0)
    effect = np.concatenate([[0.0], targets["effect"]])
    return _Cells(
        guide=guide,
        second_guide=np.where(doublet, partner, -1),
        captured=captured,
        replicate=rng.integers(0, plan.n_replicates, n_cells),
        acts=(effect[label] > 0) & (rng.random(n_cells) >= escape[label]),
    )


def _expression_rates(
    rng: np.random.Generator, n_genes: int, targets: pd.DataFrame, cells: _Cells, library: pd.DataFrame
) -> NDArray[np.float64]:
    """Relative expression of every gene in every cell: baseline, replicate, cell state and perturbation."""
    n_cells = cells.guide.size
    log_rate = np.tile(rng.normal(0.0, 1.5, n_genes), (n_cells, 1))
    n_replicates = int(cells.replicate.max()) + 1
    log_rate += rng.normal(0.0, 0.2, (n_replicates, n_genes))[cells.replicate]
    # Two programmes, as the cell cycle would be: variation that has nothing to do with the perturbation.
    log_rate += rng.normal(0.0, 1.0, (n_cells, 2)) @ (
        rng.normal(0.0, 0.3, (2, n_genes)) * (rng.random((2, n_genes)) < 0.3)
    )
    response = np.zeros((len(targets) + 1, n_genes))
    n_responding = min(max(n_genes // 12, 8), n_genes)
    for row, effect in enumerate(targets["effect"], start=1):
        genes = rng.choice(n_genes, n_responding, replace=False)
        response[row, genes] = effect * rng.normal(0.0, 1.0, n_responding)
    code = pd.Index([CONTROL, *targets.index]).get_indexer(pd.Index(library["target"]))
    strength = rng.uniform(0.7, 1.0, n_cells) * cells.acts
    rates = np.exp(log_rate + strength[:, np.newaxis] * response[code[cells.guide]])
    doublets = np.flatnonzero(cells.second_guide >= 0)
    other = np.exp(log_rate[doublets] + response[code[cells.second_guide[doublets]]])
    rates[doublets] = (rates[doublets] + other) / 2.0
    return rates


def _guide_umis(rng: np.random.Generator, cells: _Cells, n_guides: int) -> sp.csr_matrix:
    """Ambient reads in proportion to how common a guide is, plus a strong signal of the cell's own guides."""
    n_cells = cells.guide.size
    abundance = np.bincount(cells.guide, minlength=n_guides) + 1.0
    n_ambient = rng.poisson(6.0 * rng.lognormal(0.0, 0.4, n_cells))
    rows = np.repeat(np.arange(n_cells), n_ambient)
    columns = rng.choice(n_guides, rows.size, p=abundance / abundance.sum())
    first, second = np.flatnonzero(cells.captured), np.flatnonzero(cells.second_guide >= 0)
    signal = np.maximum(np.round(2.0 ** rng.normal(6.0, 1.1, first.size + second.size)), 1.0)
    umis = sp.coo_matrix(
        (
            np.concatenate([np.ones(rows.size), signal]).astype(np.float32),
            (
                np.concatenate([rows, first, second]),
                np.concatenate([columns, cells.guide[first], cells.second_guide[second]]),
            ),
        ),
        shape=(n_cells, n_guides),
    )
    return sp.csr_matrix(umis)


def _describe_cells(cells: _Cells, library: pd.DataFrame) -> pd.DataFrame:
    """Lay out the truth as columns of `obs`."""
    n_cells = cells.guide.size
    target = library["target"].to_numpy(dtype=object)
    perturbation = target[cells.guide]
    doublet = cells.second_guide >= 0
    two_targets = doublet & (target[cells.second_guide] != perturbation)
    names = library.index.to_numpy(dtype=object)
    perturbation[two_targets] = None
    guide = names[cells.guide]
    guide[doublet] = guide[doublet] + "+" + names[cells.second_guide[doublet]]
    return pd.DataFrame(
        {
            "perturbation": pd.Categorical(perturbation, categories=list(dict.fromkeys(library["target"]))),
            "guide": pd.Categorical(guide),
            "replicate": pd.Categorical([f"rep{r + 1}" for r in cells.replicate]),
            "truly_perturbed": cells.acts,
        },
        index=[f"cell{i + 1:0{len(str(n_cells))}d}" for i in range(n_cells)],
    )
