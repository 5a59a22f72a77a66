"""Figures of `ptg.Distance`: distances to control, and between all groups."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ptg.data import InputError, check_flag, check_integer, entry_point
from ptg.plot.style import BACKGROUND, CONTROL, INK, PERTURBED, SMALL, TEXT, faint, get_axes, row_height, shorten

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
        `distances` is no Series or empty, or `variance` lacks a group.

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
    half = None if variance is None else _half_interval(kept, variance)
    ax = get_axes(ax, (6.5, row_height(len(kept))))
    rows, values = np.arange(len(kept)), kept.to_numpy(dtype=np.float64)
    ax.axvline(0.0, color=CONTROL, linewidth=1.0, zorder=1)
    if half is None:
        ax.plot(values, rows, "o", markersize=5, color=PERTURBED, zorder=3)
    else:
        above = values - half > 0
        parts = ((above, PERTURBED, "interval above 0"), (~above, BACKGROUND, "interval reaches 0"))
        for chosen, color, meaning in parts:
            style: dict[str, Any] = {"fmt": "o", "markersize": 5, "elinewidth": 1.4, "color": color, "zorder": 3}
            if chosen.any():
                ax.errorbar(values[chosen], rows[chosen], xerr=half[chosen], label=meaning, **style)
        legend_above(ax)
        ax.set_xlim(_limits(values, half))
        label += " (bars: ± 1.96 bootstrap s.d.)"
    ax.set_xlabel(label)
    tidy(ax, grid="x")
    label_rows(ax, [shorten(name) for name in kept.index], left_out=len(shown) - len(kept), what="group")
    return ax


def _limits(values: NDArray[Any], half: NDArray[np.float64]) -> tuple[float, float]:
    """Choose an axis that shows all points, and intervals up to a quarter of its length beyond them.

    The interval of a handful of cells may be so wide that nothing else could be read.
    """
    known = np.isfinite(values)
    if not known.any():
        return -1.0, 1.0
    low, high = min(float(values[known].min()), 0.0), max(float(values[known].max()), 0.0)
    room = 0.25 * (high - low) or 1.0
    ends = values[known] - half[known], values[known] + half[known]
    left = max(low - room, min(low, float(np.nanmin(ends[0], initial=low))))
    right = min(high + room, max(high, float(np.nanmax(ends[1], initial=high))))
    return left - 0.1 * room, right + 0.1 * room


def _half_interval(kept: pd.Series[float], variance: pd.Series[float]) -> NDArray[np.float64]:
    found = variance.reindex(kept.index)
    missing = kept.index[kept.notna() & found.isna()]
    if len(missing):
        raise InputError(f"variance has no value for {missing[0]!r}. Pass one for each distance.")
    return _NORMAL_95 * np.sqrt(found.to_numpy(dtype=np.float64))


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
    estimate of a small distance) are drawn as 0. Up to seventy groups are named.

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

    if not isinstance(distances, pd.DataFrame) or distances.empty or set(distances.index) != set(distances.columns):
        raise InputError("distances is not a table with the same groups in rows and columns. Pass a pairwise result.")
    values = distances.loc[:, list(distances.index)].to_numpy(dtype=np.float64)
    order = _similar_side_by_side(values) if check_flag("cluster", cluster) else np.arange(len(values))
    side = float(np.clip(1.8 + 0.19 * len(order), 3.6, 9.0))
    ax = get_axes(ax, (side + 1.2, side))
    largest = float(values[np.isfinite(values)].max(initial=0.0))
    image = ax.imshow(
        np.clip(values[np.ix_(order, order)], 0.0, None),
        cmap=colormaps["YlGnBu"].with_extremes(bad="#D9DBDF"),
        norm=PowerNorm(0.5, vmin=0.0, vmax=largest or 1.0),
        interpolation="nearest",
    )
    _name_rows_and_columns(ax, [shorten(distances.index[row], 18) for row in order])
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


def _similar_side_by_side(values: NDArray[np.float64]) -> NDArray[np.int64]:
    """Order groups by average linkage with the best leaf order; a NaN counts as the largest distance."""
    from scipy.cluster.hierarchy import leaves_list, linkage
    from scipy.spatial.distance import squareform

    if len(values) < 3:
        return np.arange(len(values))
    filled = np.where(np.isfinite(values), values, values[np.isfinite(values)].max(initial=1.0))
    symmetric = np.clip((filled + filled.T) / 2.0, 0.0, None)
    np.fill_diagonal(symmetric, 0.0)
    tree = linkage(squareform(symmetric, checks=False), method="average", optimal_ordering=len(values) <= 500)
    return leaves_list(tree).astype(np.int64)
