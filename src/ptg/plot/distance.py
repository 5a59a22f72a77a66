"""Figures of `ptg.Distance`: distances to control, and between all groups."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ptg.data import InputError, check_flag, check_integer, entry_point
from ptg.plot.style import BACKGROUND, CONTROL, FAINT, INK, PERTURBED, SMALL, TEXT, faint, get_axes, row_height, shorten

from ptg.plot.style import label_rows, legend_above, tidy  # isort: skip

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

_NORMAL_95 = 1.959963984540054
_MOST_LABELS = 70


@entry_point
def distances_to_control(
    distances: pd.Series[float],
    variance: pd.Series[float] | None = None,
    *,
    interval: pd.DataFrame | None = None,
    control: str | None = None,
    label: str = "Distance to control",
    max_rows: int | None = 60,
    ax: Axes | None = None,
) -> Axes:
    """Draw distances to control as points, farthest on top, with their bootstrap intervals.

    Parameters
    ----------
    distances
        One distance per group, as `Distance.onesided_distances` returns it for one control.
    variance
        Bootstrap variance of each distance, the second result of ``onesided_distances(..., bootstrap=True)``. The
        interval is the distance ± 1.96 bootstrap standard deviations; very wide ones run out of the figure.
    interval
        In its place, columns ``low`` and ``high`` by group, as `BootstrapDraws.interval` returns them.
    control
        Group to leave out: its distance to itself is 0 by definition.
    label
        What the horizontal axis shows.
    max_rows
        Groups to draw, the farthest first; None draws all. The figure says how many were left out.
    ax
        Axes to draw on; by default those of a new figure.

    Returns
    -------
    The Axes. Groups whose distance is NaN come last, without a point.

    Raises
    ------
    InputError
        `distances` is no Series or empty, `variance` or `interval` lacks a group, or both are given.

    Examples
    --------
    >>> import pandas as pd
    >>> ax = distances_to_control(pd.Series({"NT": 0.0, "STAT1": 4.2, "CD86": 0.1}), control="NT")
    >>> [text.get_text() for text in ax.get_yticklabels()]
    ['STAT1', 'CD86']
    """
    if not isinstance(distances, pd.Series) or distances.empty:
        raise InputError("distances is not a Series with at least one group. Pass a result of onesided_distances.")
    shown = distances[distances.index != control].sort_values(ascending=False)
    kept = shown.iloc[: None if max_rows is None else check_integer("max_rows", max_rows, minimum=1)]
    ends = _ends(kept, variance, interval)
    ax = get_axes(ax, (6.5, row_height(len(kept))))
    rows, values = np.arange(len(kept)), kept.to_numpy(dtype=np.float64)
    ax.axvline(0.0, color=CONTROL, linewidth=1.0, zorder=1)
    if ends is None:
        ax.plot(values, rows, "o", markersize=5, color=PERTURBED, zorder=3)
    else:
        above = ends[0] > 0
        for chosen, color, meaning in (
            (above, PERTURBED, "interval above 0"),
            (~above, BACKGROUND, "interval reaches 0"),
        ):
            if chosen.any():
                ax.hlines(rows[chosen], ends[0][chosen], ends[1][chosen], color=color, linewidth=1.4, zorder=2)
                ax.plot(values[chosen], rows[chosen], "o", markersize=5, color=color, zorder=3, label=meaning)
        legend_above(ax)
        ax.set_xlim(_limits(values, ends))
        label += " (bars: ± 1.96 bootstrap s.d.)" if interval is None else ""
    ax.set_xlabel(label)
    tidy(ax, grid="x")
    label_rows(ax, [shorten(name) for name in kept.index], left_out=len(shown) - len(kept), what="group")
    return ax


def _limits(values: NDArray[Any], ends: tuple[NDArray[np.float64], NDArray[np.float64]]) -> tuple[float, float]:
    """Choose an axis that shows all points, and intervals up to a quarter of its length beyond them.

    The interval of a handful of cells may be so wide that nothing else could be read.
    """
    known = np.isfinite(values)
    if not known.any():
        return -1.0, 1.0
    low, high = min(float(values[known].min()), 0.0), max(float(values[known].max()), 0.0)
    room = 0.25 * (high - low) or 1.0
    left = max(low - room, min(low, float(np.nanmin(ends[0][known], initial=low))))
    right = min(high + room, max(high, float(np.nanmax(ends[1][known], initial=high))))
    return left - 0.1 * room, right + 0.1 * room


def _ends(
    kept: pd.Series[float], variance: pd.Series[float] | None, interval: pd.DataFrame | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Both ends of the intervals, NaN for a distance that is NaN."""
    if interval is not None and variance is not None:
        raise InputError("variance and interval exclude each other. Pass one of them.")
    if variance is not None:
        half = _NORMAL_95 * np.sqrt(_found(kept, variance, "variance"))
        center = np.asarray(kept, dtype=np.float64)
        return center - half, center + half
    if interval is None:
        return None
    if not isinstance(interval, pd.DataFrame) or not {"low", "high"} <= set(interval.columns):
        raise InputError("interval is not a table with columns 'low' and 'high'. Pass a result of interval().")
    return _found(kept, interval["low"], "interval"), _found(kept, interval["high"], "interval")


def _found(kept: pd.Series[float], values: pd.Series[float], argument: str) -> NDArray[np.float64]:
    missing = kept.index[kept.notna() & ~kept.index.isin(values.index)]
    if len(missing):
        raise InputError(f"{argument} has no value for {missing[0]!r}. Pass one for each distance.")
    return np.asarray(values.reindex(kept.index), dtype=np.float64)


@entry_point
def distance_heatmap(
    distances: pd.DataFrame, *, cluster: bool = True, label: str = "Distance", ax: Axes | None = None
) -> Axes:
    """Draw distances between all groups as colours, similar groups side by side.

    Parameters
    ----------
    distances
        Square table with the same groups in rows and columns, as `Distance.pairwise` returns it.
    cluster
        Order the groups by average-linkage clustering; False keeps their order.
    label
        What the colours show.
    ax
        Axes to draw on; by default those of a new figure.

    Returns
    -------
    The Axes. The colour scale goes with the square root of the distance; NaN is grey, and values below 0 (an unbiased
    estimate of a small distance) are drawn as 0. Up to seventy groups are named. With `cluster` the tree stands above:
    two branches meet at the square root of the mean distance of their groups.

    Raises
    ------
    InputError
        The table is not square, or its rows and columns differ.

    Examples
    --------
    >>> import pandas as pd
    >>> values = [[0.0, 9.0, 1.0], [9.0, 0.0, 8.0], [1.0, 8.0, 0.0]]
    >>> table = pd.DataFrame(values, index=list("abc"), columns=list("abc"))
    >>> [text.get_text() for text in distance_heatmap(table).get_yticklabels()]
    ['b', 'c', 'a']
    """
    from matplotlib import colormaps
    from matplotlib.colors import PowerNorm
    from scipy.cluster.hierarchy import leaves_list

    if not isinstance(distances, pd.DataFrame) or distances.empty or set(distances.index) != set(distances.columns):
        raise InputError("distances is not a table with the same groups in rows and columns. Pass a pairwise result.")
    values = distances.loc[:, list(distances.index)].to_numpy(dtype=np.float64)
    tree = _tree(values) if check_flag("cluster", cluster) and len(values) > 2 else None
    order = np.arange(len(values)) if tree is None else leaves_list(tree)
    side = float(np.clip(1.8 + 0.19 * len(order), 3.6, 9.0))
    ax = get_axes(ax, (side + 1.2, side))
    largest = float(values[np.isfinite(values)].max(initial=0.0))
    image = ax.imshow(
        np.clip(values[np.ix_(order, order)], 0.0, None),
        cmap=colormaps["YlGnBu"].with_extremes(bad="#D9DBDF"),
        norm=PowerNorm(0.5, vmin=0.0, vmax=largest or 1.0),
        interpolation="nearest",
    )
    if tree is not None:
        _draw_tree(ax.inset_axes((0.0, 1.01, 1.0, 0.12)), tree)
    _name_rows_and_columns(ax, [shorten(name, 18) for name in distances.index[order]])
    figure = ax.get_figure()
    if figure is not None:
        bar = figure.colorbar(image, ax=ax, shrink=0.6, aspect=24, pad=0.02)
        bar.set_label(label, color=INK, fontsize=TEXT)
        bar.outline.set_visible(False)
        bar.ax.tick_params(labelsize=SMALL, colors=INK, length=2)
    return ax


def _name_rows_and_columns(ax: Axes, names: list[str]) -> None:
    if len(names) > _MOST_LABELS:
        ax.set_xticks([])
        ax.set_yticks([])
        ax.set_xlabel(f"{len(names):,} groups, similar ones side by side", **faint("center"))
    else:
        size = SMALL if len(names) <= 40 else 6.5
        ax.set_xticks(np.arange(len(names)), names, rotation=90, fontsize=size)
        ax.set_yticks(np.arange(len(names)), names, fontsize=size)
    ax.tick_params(length=0, labelcolor=INK)
    ax.spines[:].set_visible(False)


def _tree(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Join groups by average linkage with the best leaf order; a NaN counts as the largest distance."""
    from scipy.cluster.hierarchy import linkage
    from scipy.spatial.distance import squareform

    filled = np.where(np.isfinite(values), values, values[np.isfinite(values)].max(initial=1.0))
    symmetric = np.clip((filled + filled.T) / 2.0, 0.0, None)
    np.fill_diagonal(symmetric, 0.0)
    tree: NDArray[np.float64] = linkage(
        squareform(symmetric, checks=False), method="average", optimal_ordering=len(values) <= 500
    )
    return tree


def _draw_tree(ax: Axes, tree: NDArray[np.float64]) -> None:
    """Draw the branches above the columns of the heat map, which lie at 0, 1, 2, ..."""
    from scipy.cluster.hierarchy import dendrogram

    branches = dendrogram(tree, no_plot=True)
    for at, heights in zip(branches["icoord"], branches["dcoord"], strict=True):
        ax.plot((np.array(at) - 5.0) / 10.0, np.sqrt(heights), color=FAINT, linewidth=0.9)  # SciPy's leaves: 5, 15, ...
    ax.set_xlim(-0.5, len(tree) + 0.5)
    ax.set_ylim(0.0, None)
    ax.set_axis_off()
