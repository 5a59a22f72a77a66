"""A screen from raw counts to distances, as plain functions: what ``ptg run`` does, without the command line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from ptg.cli.describe import describe_defaults, describe_inputs, describe_parameters, installed_versions
from ptg.cli.journal import Journal, Listener
from ptg.cli.prepare import (
    assign_labels,
    drop_empty_cells,
    keep_labelled_cells,
    match_cells,
    normalise,
    read_guide_targets,
)
from ptg.data import InputError, check_integer, check_label, check_string, read_labels, read_obs

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

    from ptg.report.results import DistanceResults, GuideResults, ScreenResults

_INTERVAL = 1.959963984540054
"""Standard deviations on each side that hold 95 % of a normal distribution."""


@dataclass(frozen=True)
class ScreenSettings:
    """What to analyse, and how.

    Attributes
    ----------
    perturbation
        Column of ``rna.obs`` with the target of each cell. With guides it is written, else it must exist.
    control
        Label of the control.
    guide_target
        Column of ``guides.var`` with the target of each guide.
    replicate
        Column of ``rna.obs`` with the replicates: each cell is compared with control cells of its own one.
    size_factor
        Column of ``rna.obs`` with the depth of each cell, for panels of a few genes; None sums over the genes.
    metric
        Metric of the distances.
    n_bootstrap
        Bootstrap draws for the distances to control; 0 for none.
    n_perms
        Permutations to test each distance to control with; 0 for no test.
    n_components
        Principal components to compute.
    seed
        Seed of the bootstrap and the permutations.
    device
        ``"auto"`` or ``"cpu"``; None takes ``ptg.settings.device``.
    """

    perturbation: str
    control: str
    guide_target: str = "target"
    replicate: str | None = None
    size_factor: str | None = None
    metric: str = "edistance"
    n_bootstrap: int = 100
    n_perms: int = 0
    n_components: int = 50
    seed: int = 0
    device: str | None = None

    def __post_init__(self) -> None:
        check_string("perturbation", self.perturbation)
        check_string("control", self.control)
        check_integer("n_bootstrap", self.n_bootstrap, minimum=0)
        check_integer("n_perms", self.n_perms, minimum=0)
        check_integer("n_components", self.n_components, minimum=2)
        check_integer("seed", self.seed, minimum=0)


def analyse_screen(
    rna: AnnData, guides: AnnData | None, settings: ScreenSettings, *, listener: Listener | None = None
) -> ScreenResults:
    """Run the whole analysis of a pooled screen.

    Parameters
    ----------
    rna
        Expression: raw counts, or log1p-normalised. Not modified.
    guides
        Guide counts of the same cells, or None where ``rna.obs`` has the targets already. Not modified.
    settings
        What to analyse, and how.
    listener
        Told about the steps as they happen.

    Returns
    -------
    Everything that the report is made from.

    Raises
    ------
    InputError
        The data cannot be analysed as asked; nothing was computed in vain where that could be known before.
    """
    from ptg.report.results import ScreenResults

    journal = Journal(listener)
    inputs = describe_inputs(rna, guides)
    check_request(rna, guides, settings)
    screen, assigned = label_cells(rna, guides, settings, journal)
    inputs["Expression values"] = prepare_expression(screen, settings, journal)
    find_perturbed_cells(screen, settings, journal)
    distances = measure_distances(screen, settings, journal)
    return ScreenResults(
        screen=screen,
        perturbation=settings.perturbation,
        control=settings.control,
        replicate=settings.replicate,
        guides=assigned,
        distances=distances,
        inputs=inputs,
        parameters=describe_parameters(settings, guides is not None),
        defaults=describe_defaults(distances.metric, guides is not None),
        notes=journal.notes,
        seconds=journal.seconds,
        versions=installed_versions(),
    )


def check_request(rna: AnnData, guides: AnnData | None, settings: ScreenSettings) -> None:
    """Fail on what can be known to be wrong before anything is computed."""
    from ptg.execute.device import resolve_device

    resolve_device(settings.device)
    _check_metric(settings.metric)
    for argument in ("replicate", "size_factor"):
        key = getattr(settings, argument)
        if key is not None:
            read_obs(rna, key, argument=argument)
    for name, adata in {"rna": rna, "guides": guides}.items():
        if adata is not None and not adata.obs_names.is_unique:
            raise InputError(f"{name} has several cells of the same name. Make obs_names unique.")
    if guides is not None:
        read_guide_targets(guides, settings.guide_target, settings.control)
    else:
        check_label("control", settings.control, settings.perturbation, _labels(rna, settings.perturbation))


def _check_metric(name: str) -> None:
    """Raise an InputError for a metric that principal components or pairs of targets do not suit."""
    from ptg.distance import Distance
    from ptg.distance.metrics import available

    record = available()[Distance(name, obsm_key="X_pca").metric]
    if record.needs == "counts" or not record.pairwise:
        why = "raw counts" if record.needs == "counts" else "all groups at once"
        raise InputError(
            f"metric={name!r} is defined for {why}, but distances here are between pairs of targets in principal "
            "components. Pass another metric, and compute this one with `ptg distance`."
        )


def _labels(adata: AnnData, key: str) -> list[str]:
    """List the labels as text, as the command line spells them."""
    return [str(label) for label in read_labels(adata, key, argument="perturbation")[1]]


def label_cells(
    rna: AnnData, guides: AnnData | None, settings: ScreenSettings, journal: Journal
) -> tuple[AnnData, GuideResults | None]:
    """Copy the cells that take part: those with one target, and counts."""
    assigned = None
    if guides is None:
        screen = keep_labelled_cells(rna, settings.perturbation, journal)
    else:
        screen, assigned = _label_from_guides(rna, guides, settings, journal)
    screen = drop_empty_cells(screen, settings.size_factor, journal)
    check_label("control", settings.control, settings.perturbation, _labels(screen, settings.perturbation))
    return screen, assigned


def _label_from_guides(
    rna: AnnData, guides: AnnData, settings: ScreenSettings, journal: Journal
) -> tuple[AnnData, GuideResults]:
    """Assign guides by the mixture, and keep the cells with guides of exactly one target."""
    from ptg.guides import GuideAssignment

    matched_rna, matched_guides = match_cells(rna, guides, journal)
    with journal.step("Guide assignment") as step:
        GuideAssignment(device=settings.device).assign_mixture_model(matched_guides)
        assigned, labels = assign_labels(matched_guides, settings.guide_target, settings.control)
        number = assigned.cells["guides of one target"]
        step.remark = f"{number:,} of {rna.n_obs:,} cells have guides of exactly one target"
        if not number:
            raise InputError(
                "no cell has guides of exactly one target. Look at the counts and the fits with `ptg guides`, or pass "
                "expression with targets in obs."
            )
        if settings.perturbation in rna.obs:
            step.note(
                f"The column {settings.perturbation!r} of the expression file was replaced by the targets "
                f"of the assigned guides{_agreement(matched_rna.obs[settings.perturbation], labels)}."
            )
        screen = matched_rna[labels.notna().to_numpy()].copy()
        screen.obs[settings.perturbation] = labels[labels.notna()].cat.remove_unused_categories()
        screen.obs["assigned_guide"] = matched_guides.obs["assigned_guide"].loc[screen.obs_names]
    return screen, assigned


def _agreement(given: pd.Series[str], labels: pd.Series[str]) -> str:
    both = given.notna() & labels.notna()
    if not both.any():
        return ""
    same = (given[both].astype(str) == labels[both].astype(str)).mean()
    return f"; the two agree on {same:.1%} of the {int(both.sum()):,} cells that have both"


def prepare_expression(screen: AnnData, settings: ScreenSettings, journal: Journal) -> str:
    """Normalise raw counts and compute principal components, in place; say what was done to the values."""
    from ptg.data.embedding import highly_variable, principal_components

    with journal.step("Normalisation") as step:
        step.remark = done = normalise(screen, settings.size_factor)
    with journal.step("Principal components") as step:
        used = highly_variable(screen, screen.X)
        screen.obsm["X_pca"] = principal_components(used, settings.n_components)
        step.remark = f"{screen.obsm['X_pca'].shape[1]} components of {used.shape[1]:,} genes"
    return done


def find_perturbed_cells(screen: AnnData, settings: ScreenSettings, journal: Journal) -> None:
    """Signature, mixscape, mixscale and lda, in place. Where nothing is found to discriminate, lda is left out."""
    from ptg.mixscape import Mixscape

    tool = Mixscape(device=settings.device)
    keys = (settings.perturbation, settings.control)
    show: dict[str, Any] = {"show_progressbar": journal.watched}
    with journal.step("Perturbation signature") as step:
        tool.perturbation_signature(screen, *keys, split_by=settings.replicate, use_rep="X_pca", **show)
        step.remark = "against the 20 nearest control cells"
        step.remark += f" of the same {settings.replicate}" if settings.replicate else ""
    with journal.step("Mixscape") as step:
        tool.mixscape(screen, *keys, **show)
        perturbed = screen.obs["mixscape_class_global"] == "KO"
        with_effect = screen.obs.loc[perturbed, settings.perturbation].nunique()
        step.remark = f"{int(perturbed.sum()):,} perturbed cells of {with_effect:,} targets"
    with journal.step("Mixscale") as step:
        tool.mixscale(screen, *keys, **show)
        step.remark = f"{int((screen.obs['mixscale_score'] != 0).sum()):,} cells scored"
    with journal.step("Discriminant analysis") as step:
        try:
            tool.lda(screen, *keys, **show)
            step.remark = f"{np.shape(screen.uns['mixscape_lda'])[1]} axes"
        except InputError as error:
            step.remark = "left out"
            step.note(f"Discriminant analysis was left out: {error}")


def measure_distances(screen: AnnData, settings: ScreenSettings, journal: Journal) -> DistanceResults:
    """Distances of every target to control, with a bootstrap, and between all targets."""
    from ptg.distance import Distance
    from ptg.report.results import DistanceResults

    distance = Distance(settings.metric, obsm_key="X_pca", device=settings.device)
    key, control = settings.perturbation, settings.control
    show: dict[str, Any] = {"show_progressbar": journal.watched}
    with journal.step("Distances to control") as step:
        measured = cast("pd.Series[float]", distance.onesided_distances(screen, key, control, **show))
        table = measured.drop(control).astype(float).to_frame("distance")
        table.insert(0, "n_cells", screen.obs[key].value_counts().reindex(table.index).astype(int))
        if settings.n_bootstrap:
            options: dict[str, Any] = {
                "bootstrap": True,
                "n_bootstrap": settings.n_bootstrap,
                "random_state": settings.seed,
            }
            _, variance = cast(
                "tuple[pd.Series[float], pd.Series[float]]",
                distance.onesided_distances(screen, key, control, **options),
            )
            table["bootstrap_sd"] = np.sqrt(variance.reindex(table.index).astype(float))
            table["lower"] = table["distance"] - _INTERVAL * table["bootstrap_sd"]
            table["upper"] = table["distance"] + _INTERVAL * table["bootstrap_sd"]
        table = table.sort_values("distance", ascending=False)
        table.index.name = "target"
        step.remark = f"{len(table):,} targets" + (f", {settings.n_bootstrap} draws" if settings.n_bootstrap else "")
    if settings.n_perms:
        table = table.join(_test_distances(screen, settings, journal))
    with journal.step("Pairwise distances") as step:
        pairwise = cast("pd.DataFrame", distance.pairwise(screen, key, **show))
        step.remark = f"{len(pairwise):,} x {len(pairwise):,} groups"
    return DistanceResults(distance.metric, table, pairwise, settings.n_bootstrap, settings.n_perms)


def _test_distances(screen: AnnData, settings: ScreenSettings, journal: Journal) -> pd.DataFrame:
    """Permutation test of every target's distance to control."""
    from ptg.distance import DistanceTest

    test = DistanceTest(
        settings.metric,
        n_perms=settings.n_perms,
        obsm_key="X_pca",
        random_state=settings.seed,
        device=settings.device,
    )
    with journal.step("Permutation test") as step:
        table = test(screen, settings.perturbation, settings.control, show_progressbar=journal.watched)
        step.remark = f"{int(table['significant_adj'].sum()):,} targets differ from control"
    return table[["effect", "zscore", "pvalue", "pvalue_adj", "significant_adj"]]
