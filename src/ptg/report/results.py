"""What one analysis of a screen leaves behind: the report, the figures and the tables are made from this alone."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData


@dataclass(frozen=True)
class Note:
    """Something a reader must know: what was left out, decided or warned about, in which step."""

    step: str
    text: str


@dataclass(frozen=True)
class GuideResults:
    """Guide assignment of all cells of the guide file that are also in the expression file.

    Attributes
    ----------
    adata
        Guide counts with the fit of each guide in ``var`` and ``layers["assigned_guides"]``.
    target_key
        Column of ``adata.var`` with the target of each guide.
    cells
        Number of cells by outcome, in the order of the report.
    """

    adata: AnnData
    target_key: str
    cells: dict[str, int]


@dataclass(frozen=True)
class DistanceResults:
    """Distances between targets.

    Attributes
    ----------
    metric
        Name of the metric.
    to_control
        One row for each target: ``n_cells``, ``distance`` and, with a bootstrap, ``bootstrap_sd``, ``lower``, ``upper``
        (distance ± 1.96 bootstrap standard deviations); with a permutation test ``effect``, ``zscore``, ``pvalue``,
        ``pvalue_adj`` and ``significant_adj``.
    pairwise
        Square table of distances, control included.
    n_bootstrap
        Number of bootstrap draws; 0 for none.
    n_perms
        Number of permutations of the test; 0 for none.
    """

    metric: str
    to_control: pd.DataFrame
    pairwise: pd.DataFrame
    n_bootstrap: int
    n_perms: int = 0


@dataclass
class ScreenResults:
    """An analysed screen.

    Attributes
    ----------
    screen
        The analysed cells with everything that the tools wrote.
    perturbation, control
        The ``obs`` column with the targets, and its control label.
    replicate
        The ``obs`` column with the replicates, or None.
    guides
        Guide assignment, or None where the labels were given.
    distances
        Distances between targets.
    inputs
        What went in: a description and a value each.
    parameters
        What was chosen for the analysis.
    defaults
        The defaults that its steps were run with.
    notes
        What was skipped, decided or warned about.
    seconds
        Run time of each step.
    versions
        Versions of ptg and of what the numbers depend on.
    """

    screen: AnnData
    perturbation: str
    control: str
    replicate: str | None
    guides: GuideResults | None
    distances: DistanceResults
    inputs: dict[str, str]
    parameters: dict[str, str]
    defaults: dict[str, str]
    notes: list[Note] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
