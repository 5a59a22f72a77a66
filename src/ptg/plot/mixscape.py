"""Figures of `ptg.Mixscape`: share of perturbed cells, perturbation scores, discriminant space."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ptg.data import (
    InputError,
    check_anndata,
    check_integer,
    check_label,
    entry_point,
    not_found,
    read_labels,
    read_obs,
)
from ptg.mixscape.screen import stored_name
from ptg.plot.style import CONTROL, GROUPS, INK, MARKERS, NOT_PERTURBED, NOT_TESTED, PERTURBED, SMALL

from ptg.plot.style import faint, get_axes, label_rows, legend_above, row_height, say_nothing_to_show  # isort: skip
from ptg.plot.style import shorten, spread_labels, tidy  # isort: skip

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

_MOST_LABELLED_GROUPS = 24
_CURVE_POINTS = 300


@entry_point
def mixscape_barplot(
    adata: AnnData,
    pert_key: str,
    control: str,
    *,
    guide_key: str | None = None,
    mixscape_class_global: str = "mixscape_class_global",
    max_rows: int | None = 60,
    ax: Axes | None = None,
) -> Axes:
    """Draw the share of perturbed cells of each target, or of each guide, highest on top.

    Parameters
    ----------
    adata
        The data after `Mixscape.mixscape`.
    pert_key
        Column of ``adata.obs`` with the targets.
    control
        Control label in `pert_key`; not drawn.
    guide_key
        Column of ``adata.obs`` with the guides; draws one bar for each guide, guides of a target together. By default
        one bar for each target.
    mixscape_class_global
        Column of ``adata.obs`` with the global class of each cell.
    max_rows
        Bars to draw, highest share first; None draws all. The figure says how many were left out.
    ax
        Axes to draw on; by default those of a new figure.

    Returns
    -------
    The Axes. Targets that could not be tested (``adata.uns["mixscape_targets"]`` says why) have a grey bar.

    Raises
    ------
    InputError
        A column or the control does not exist.
    """
    shares = _shares(adata, pert_key, control, guide_key, mixscape_class_global)
    kept = shares.iloc[: None if max_rows is None else check_integer("max_rows", max_rows, minimum=1)]
    ax = get_axes(ax, (6.5, row_height(len(kept))))
    if kept.empty:
        return say_nothing_to_show(ax, "no cell has a target")
    rows, share = np.arange(len(kept)), 100.0 * kept["share"].to_numpy()
    tested = kept["tested"].to_numpy(dtype=bool)
    style: dict[str, Any] = {"height": 0.72, "linewidth": 0}
    ax.barh(rows[tested], share[tested], color=PERTURBED, label="perturbed", **style)
    rest = 100.0 - share[tested]
    ax.barh(rows[tested], rest, left=share[tested], color=NOT_PERTURBED, label="not perturbed", **style)
    if not tested.all():
        ax.barh(rows[~tested], 100.0, color=NOT_TESTED, label="not tested", **style)
    for row, cells in zip(rows, kept["cells"], strict=True):
        ax.annotate(f"{cells:,}", (100, row), (4, 0), textcoords="offset points", va="center", **faint())
    ax.annotate("cells", (1.0, 1.0), (4, 2), xycoords="axes fraction", textcoords="offset points", **faint())
    ax.set_xlim(0, 100)
    ax.xaxis.set_major_formatter("{x:.0f} %")
    ax.set_xlabel(f"Share of the {'guide' if guide_key else 'target'}'s cells")
    tidy(ax)
    names = [shorten(name) for name in kept.index]
    label_rows(ax, names, left_out=len(shares) - len(kept), what="guide" if guide_key else "target")
    legend_above(ax)
    return ax


def _shares(
    adata: AnnData, pert_key: str, control: str, guide_key: str | None, mixscape_class_global: str
) -> pd.DataFrame:
    """One row per bar: share of perturbed cells, cells, whether the target was tested; in drawing order."""
    codes, targets = read_labels(adata, pert_key, argument="pert_key")
    check_label("control", control, pert_key, targets)
    classes = read_obs(adata, mixscape_class_global, argument="mixscape_class_global").astype(str)
    names = np.asarray([*targets, None], dtype=object)
    table = pd.DataFrame({"target": names[codes], "perturbed": ~classes.isin(["NP", control]).to_numpy()})
    table["row"] = table["target"] if guide_key is None else read_obs(adata, guide_key, argument="guide_key").to_numpy()
    table = table[table["target"].notna() & table["row"].notna() & (table["target"] != control)]
    grouped = table.groupby(["target", "row"] if guide_key else ["row"], observed=True)["perturbed"]
    shares = grouped.agg(share="mean", cells="size").reset_index()
    if guide_key is None:
        shares["target"] = shares["row"]
    shares["tested"] = ~shares["target"].isin(_skipped(adata))
    of_target = shares["target"].map(table.groupby("target", observed=True)["perturbed"].mean())
    order = np.lexsort(
        (shares["row"].astype(str), -shares["share"], shares["target"].astype(str), -of_target, ~shares["tested"])
    )
    return shares.iloc[order].set_index("row")


def _skipped(adata: AnnData) -> list[Any]:
    """Targets that mixscape has not tested, from its per-target table; none where there is no table."""
    table = adata.uns.get("mixscape_targets")
    if not isinstance(table, pd.DataFrame) or "reason" not in table:
        return []
    # With splits a target has several rows; it was tested if any of them was.
    untested = (table["reason"].fillna("").astype(str) != "").groupby(level=0).all()
    return list(untested.index[untested.to_numpy()])


@entry_point
def perturbation_score(
    adata: AnnData,
    target: str,
    *,
    mixscape_class: str = "mixscape_class",
    perturbation_type: str = "KO",
    ax: Axes | None = None,
) -> Axes:
    """Draw the perturbation scores of one target: control, not perturbed and perturbed cells.

    Parameters
    ----------
    adata
        The data after `Mixscape.mixscape`.
    target
        The target, one that mixscape has tested.
    mixscape_class
        Column of ``adata.obs`` with the class of each cell.
    perturbation_type
        Suffix of the class of perturbed cells.
    ax
        Axes to draw on; by default those of a new figure.

    Returns
    -------
    The Axes: one density (area 1, Gaussian kernel) for each kind of cells, with their number; the control's density is
    that of the sample which mixscape keeps. The score is the projection on the target's direction, scaled so that the
    target's mean is 1 above the control's.

    Raises
    ------
    InputError
        mixscape was not run, or has not tested the target.
    """
    scores = _read_scores(adata, target)
    classes = read_obs(adata, mixscape_class, argument="mixscape_class").astype(str)
    mixed = classes.loc[scores.index].to_numpy()
    ax = get_axes(ax, (4.6, 3.2))
    kinds = {
        "control": (scores["control"].to_numpy(dtype=bool), CONTROL),
        "not perturbed": (mixed == f"{target} NP", NOT_PERTURBED),
        "perturbed": (mixed == f"{target} {perturbation_type}", PERTURBED),
    }
    values = scores["pvec"].to_numpy(dtype=np.float64)
    n_control = int(classes.isin(set(mixed[scores["control"].to_numpy(dtype=bool)])).sum())
    margin = 0.08 * float(np.ptp(values)) or 0.5
    grid = np.linspace(values.min() - margin, values.max() + margin, _CURVE_POINTS)
    for name, (chosen, color) in kinds.items():
        if chosen.any():
            density = _density(values[chosen], grid)
            ax.fill_between(grid, density, color=color, alpha=0.25, linewidth=0)
            cells = n_control if name == "control" else int(chosen.sum())
            ax.plot(grid, density, color=color, linewidth=1.8, label=f"{name} ({cells:,})")
    ax.set_title(shorten(target), loc="left", fontweight="bold", pad=20)
    ax.set_xlabel("Perturbation score")
    ax.set_ylabel("Density of cells")
    ax.set_ylim(bottom=0)
    ax.set_xlim(grid[0], grid[-1])
    tidy(ax)
    legend_above(ax, columns=3)
    return ax


def _read_scores(adata: AnnData, target: str) -> pd.DataFrame:
    """Read the scores of a target's cells and of a sample of the control's, all splits together: pvec, control."""
    check_anndata(adata)
    scores = adata.uns.get("mixscape")
    if not isinstance(scores, dict):
        raise InputError("uns['mixscape'] does not exist. Run Mixscape.mixscape first.")
    key = stored_name(str(target))
    if key not in scores:
        raise not_found("target", target, "uns['mixscape']", list(scores), fix="Pass a target that was tested.")
    parts = []
    for table in scores[key].values():
        label = next(name for name in table.columns if name != "pvec")
        parts.append(pd.DataFrame({"pvec": table["pvec"], "control": table[label].astype(str) != str(target)}))
    return pd.concat(parts)


def _density(values: NDArray[np.float64], grid: NDArray[np.float64]) -> NDArray[np.float64]:
    """Gaussian kernel density; fewer than two distinct values get the bandwidth of one hundredth of the axis."""
    from scipy.stats import gaussian_kde

    if np.ptp(values) > 0:
        return np.asarray(gaussian_kde(values)(grid))
    width = float(np.ptp(grid)) / 100.0
    bell = np.exp(-0.5 * ((grid - values[0]) / width) ** 2) / (width * np.sqrt(2 * np.pi))
    return np.asarray(bell)


@entry_point
def lda(
    adata: AnnData,
    pert_key: str,
    control: str,
    *,
    components: tuple[int, int] = (0, 1),
    mixscape_class_global: str = "mixscape_class_global",
    perturbation_type: str = "KO",
    ax: Axes | None = None,
) -> Axes:
    """Draw perturbed and control cells in the discriminant space of `Mixscape.lda`, one colour for each target.

    Parameters
    ----------
    adata
        The data after `Mixscape.lda`.
    pert_key, control
        As in `Mixscape.lda`.
    components
        The two discriminant axes to draw, counted from 0.
    mixscape_class_global
        Column of ``adata.obs`` with the global class of each cell.
    perturbation_type
        Global class of perturbed cells.
    ax
        Axes to draw on; by default those of a new figure.

    Returns
    -------
    The Axes. Each target's name stands at its median cell. Beyond twenty-four targets the smallest ones share a pale
    colour without a name.

    Raises
    ------
    InputError
        lda was not run, was run on other cells, or has too few axes.
    """
    check_anndata(adata)
    if "mixscape_lda" not in adata.uns:
        raise InputError("uns['mixscape_lda'] does not exist. Run Mixscape.lda first.")
    codes, names = read_labels(adata, pert_key, argument="pert_key")
    check_label("control", control, pert_key, names)
    classes = read_obs(adata, mixscape_class_global, argument="mixscape_class_global").astype(str).to_numpy()
    is_control = codes == names.index(control)
    cells = np.flatnonzero((classes == perturbation_type) | is_control)
    space = np.asarray(adata.uns["mixscape_lda"], dtype=np.float64)
    if len(space) != len(cells):
        raise InputError(
            f"uns['mixscape_lda'] has {len(space):,} rows for {len(cells):,} perturbed and control cells. "
            "Run Mixscape.lda again."
        )
    points = _two_axes(space, components)
    ax = get_axes(ax, (6.5, 5.2))
    _draw_groups(ax, points, codes[cells], names, names.index(control))
    ax.set_xlabel(f"Discriminant axis {components[0] + 1}")
    if space.shape[1] == 1:
        ax.set_yticks([])
        ax.set_ylabel("(spread at random)")
    else:
        ax.set_ylabel(f"Discriminant axis {components[1] + 1}")
    tidy(ax)
    return ax


def _two_axes(space: NDArray[np.float64], components: tuple[int, int]) -> NDArray[np.float64]:
    """Pick two columns; where there is only one, spread the cells at random across it."""
    first, second = (check_integer("components", number, minimum=0) for number in components)
    if space.shape[1] == 1 and (first, second) == (0, 1):
        return np.column_stack([space[:, 0], np.random.default_rng(0).uniform(-1.0, 1.0, len(space))])
    if max(first, second) >= space.shape[1]:
        raise InputError(f"components={components!r} is not there: uns['mixscape_lda'] has {space.shape[1]} axes.")
    return space[:, [first, second]]


def _draw_groups(
    ax: Axes, points: NDArray[np.float64], codes: NDArray[np.int64], names: list[Any], control: int
) -> None:
    """Control in grey below, then targets from many cells to few."""
    size = float(np.clip(4e4 / max(len(points), 1), 3.0, 18.0))
    style: dict[str, Any] = {"s": size, "linewidths": 0.0, "rasterized": True}
    ax.scatter(*points[codes == control].T, color=CONTROL, alpha=0.35, label=str(names[control]), **style)
    cells = np.bincount(codes, minlength=len(names))
    cells[control] = 0
    largest_first = np.argsort(-cells, kind="stable")[: np.count_nonzero(cells)]
    labels: list[tuple[str, str]] = []
    centres = []
    for rank, code in reversed(list(enumerate(largest_first))):
        named = rank < _MOST_LABELLED_GROUPS
        color = GROUPS[rank % len(GROUPS)] if named else NOT_TESTED
        marker = MARKERS[rank // len(GROUPS) % len(MARKERS)]
        group = points[codes == code]
        ax.scatter(*group.T, color=color, marker=marker, alpha=0.65, label=str(names[code]), **style)
        if named:
            labels.append((shorten(names[code], 18), color))
            centres.append(np.median(group, axis=0))
    if centres:
        _name_groups(ax, np.array(centres), labels, np.ptp(points, axis=0))
    note = f"grey: {shorten(names[control])} (control)"
    if len(largest_first) > _MOST_LABELLED_GROUPS:
        note += f"; pale: {len(largest_first) - _MOST_LABELLED_GROUPS:,} targets with fewer cells"
    ax.annotate(note, (1.0, 1.0), (0, 4), xycoords="axes fraction", textcoords="offset points", **faint("right"))


def _name_groups(
    ax: Axes, centres: NDArray[np.float64], labels: list[tuple[str, str]], spans: NDArray[np.float64]
) -> None:
    """Write each target's name at its median cell, framed in its colour."""
    placed = spread_labels(centres, [name for name, _ in labels], (float(spans[0]), float(spans[1])))
    text: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": SMALL, "color": INK, "zorder": 5}
    for (name, color), (across, up) in zip(labels, placed, strict=True):
        frame = {"boxstyle": "round,pad=0.2", "facecolor": "white", "edgecolor": color, "alpha": 0.9, "linewidth": 1.2}
        ax.text(across, up, name, bbox=frame, **text)
