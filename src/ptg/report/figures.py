"""The figures of a report, as PNG files."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from ptg import plot
from ptg.mixscape.screen import stored_name
from ptg.plot.style import row_height

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes

    from ptg.report.results import ScreenResults

_DPI = 160
_PANELS = 6
_PER_ROW = 2
_PANEL_SIZE = (4.9, 3.1)
_MAX_ROWS = 60


@dataclass(frozen=True)
class Picture:
    """One figure: its PNG file, its size in CSS pixels and what it shows, in words."""

    png: bytes
    width: int
    alt: str


def draw_pictures(results: ScreenResults) -> dict[str, Picture]:
    """Draw every figure that the results have data for, by name."""
    pictures: dict[str, Picture] = {}
    if results.guides is not None:
        pictures.update(draw_guide_pictures(results.guides.adata))
    pictures.update(draw_mixscape_pictures(results.screen, results.perturbation, results.control))
    pictures.update(_distance_pictures(results))
    return pictures


def draw_guide_pictures(guides: AnnData) -> dict[str, Picture]:
    """Draw guides per cell and, where a mixture was fitted, a few guides' fits."""
    pictures = {
        "guides_per_cell": _single(
            (4.6, 3.2), lambda ax: plot.guides_per_cell(guides, ax=ax), "Number of guides in each cell"
        )
    }
    shown = typical_guides(guides.var, guides.layers["assigned_guides"]) if "poisson_rate" in guides.var else []
    if shown:
        pictures["guide_mixtures"] = _panels(
            shown, lambda name, ax: plot.guide_mixture(guides, name, ax=ax), "Counts and fitted mixture of guides"
        )
    return pictures


def draw_mixscape_pictures(screen: AnnData, perturbation: str, control: str) -> dict[str, Picture]:
    """Draw the share of perturbed cells, scores of a few targets and, where there is one, the discriminant space."""
    keys = (perturbation, control)
    n_rows = min(screen.obs[perturbation].nunique() - 1, _MAX_ROWS)
    pictures = {
        "perturbed_cells": _single(
            (7.0, row_height(n_rows)),
            lambda ax: plot.mixscape_barplot(screen, *keys, max_rows=_MAX_ROWS, ax=ax),
            "Share of perturbed cells of each target",
        )
    }
    shown = strongest_targets(screen, perturbation)
    if shown:
        pictures["perturbation_scores"] = _panels(
            shown,
            lambda name, ax: plot.perturbation_score(screen, name, ax=ax),
            "Densities of perturbation scores of the targets with the largest share of perturbed cells",
        )
    if "mixscape_lda" in screen.uns:
        pictures["discriminant_space"] = _single(
            (7.0, 5.4), lambda ax: plot.lda(screen, *keys, ax=ax), "Perturbed and control cells in discriminant space"
        )
    return pictures


def _distance_pictures(results: ScreenResults) -> dict[str, Picture]:
    found = results.distances
    table, name = found.to_control, metric_name(found.metric)
    variance = table["bootstrap_sd"] ** 2 if "bootstrap_sd" in table else None
    side = float(np.clip(1.8 + 0.19 * len(found.pairwise), 3.6, 9.0))
    pictures = {
        "distances_to_control": _single(
            (7.0, row_height(min(len(table), _MAX_ROWS))),
            lambda ax: plot.distances_to_control(
                table["distance"], variance, label=f"{name} to {results.control}", max_rows=_MAX_ROWS, ax=ax
            ),
            "Distance of each target to control",
        ),
        "distance_heatmap": _single(
            (side + 1.2, side),
            lambda ax: plot.distance_heatmap(found.pairwise, label=name, ax=ax),
            "Distances between all groups",
        ),
    }
    if "zscore" in table and table["zscore"].notna().any():
        pictures["distance_test"] = _single(
            (6.6, 4.6),
            lambda ax: plot.distance_test(table, label=f"{name} to {results.control}", ax=ax),
            "Effect and z-score of each target in the permutation test",
        )
    return pictures


def metric_name(metric: str) -> str:
    """Spell a metric's name for an axis."""
    return {"edistance": "Energy distance"}.get(metric, metric.replace("_", " ").capitalize())


def typical_guides(var: pd.DataFrame, assigned: Any) -> list[str]:
    """Choose up to six fitted guides, from the one with the most cells to the one with the fewest."""
    cells = pd.Series(np.asarray(assigned.sum(axis=0)).ravel(), index=var.index)
    ranked = cells[var["threshold"].notna().to_numpy()].sort_values(ascending=False, kind="stable").index
    chosen = np.unique(np.linspace(0, len(ranked) - 1, min(_PANELS, len(ranked))).round().astype(int))
    return [str(ranked[position]) for position in chosen]


def strongest_targets(screen: AnnData, perturbation: str) -> list[str]:
    """Choose up to six tested targets, those with the largest share of perturbed cells first."""
    share = (screen.obs["mixscape_class_global"] == "KO").groupby(screen.obs[perturbation].astype(str)).mean()
    scored = share.index.map(stored_name).isin(list(screen.uns["mixscape"]))
    ranked = share[scored & (share > 0)].sort_values(ascending=False)
    return list(ranked.index[:_PANELS])


def _single(size: tuple[float, float], draw: Callable[[Axes], object], alt: str) -> Picture:
    figure = Figure(figsize=size, layout="constrained")
    draw(figure.subplots())
    return _picture(figure, alt)


def _panels(names: Sequence[str], draw: Callable[[str, Axes], object], alt: str) -> Picture:
    n_columns = min(len(names), _PER_ROW)
    n_rows = -(-len(names) // n_columns)
    figure = Figure(figsize=(_PANEL_SIZE[0] * n_columns, _PANEL_SIZE[1] * n_rows), layout="constrained")
    axes = figure.subplots(n_rows, n_columns, squeeze=False).ravel()
    for name, ax in zip(names, axes, strict=False):
        draw(name, ax)
    for ax in axes[len(names) :]:
        ax.set_axis_off()
    return _picture(figure, f"{alt}: {', '.join(names)}")


def _picture(figure: Figure, alt: str) -> Picture:
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=_DPI, facecolor="white")
    return Picture(file.getvalue(), round(figure.get_figwidth() * 96), alt)
