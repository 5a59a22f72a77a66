"""Figure of `ptg.DistanceTest`: a volcano."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import pandas as pd

from ptg.data import InputError, check_integer, entry_point, listed
from ptg.plot.style import BACKGROUND, CONTROL, FAINT, INK, PERTURBED, SMALL, get_axes, legend_above, shorten, tidy

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from numpy.typing import NDArray


_Box: TypeAlias = "tuple[float, float, float, float]"
"""Left, right, bottom and top, in points."""


@entry_point
def distance_test(
    test: pd.DataFrame,
    *,
    label: str = "Distance",
    n_named: int = 20,
    ax: Axes | None = None,
) -> Axes:
    """Draw a permutation test as a volcano: how far each group is beyond chance, and how sure that is.

    Parameters
    ----------
    test
        Result of `ptg.DistanceTest`, or of its `test_contrasts` with names as index.
    label
        How the horizontal axis calls the distance.
    n_named
        Significant groups to name, those with the largest effect first.
    ax
        Axes to draw on; by default those of a new figure.

    Returns
    -------
    The Axes. To the right the effect, the distance less its mean over permutations; upwards the z-score, the effect in
    standard deviations over permutations, which unlike the p-value is not bounded by their number; the colour says
    whether the adjusted p-value is significant. Both scales are linear near 0 and logarithmic beyond. Groups without a
    z-score, and the contrast, are left out.

    Raises
    ------
    InputError
        The table has not the columns of such a result, or no row with a p-value.

    Examples
    --------
    >>> import pandas as pd
    >>> columns = {"effect": [0.5, 0.01], "zscore": [90.0, 0.4], "significant_adj": [True, False]}
    >>> ax = distance_test(pd.DataFrame(columns, index=["STAT1", "CD86"]))
    >>> [text.get_text() for text in ax.texts]
    ['STAT1']
    """
    most = check_integer("n_named", n_named, minimum=0)
    needed = ["effect", "zscore", "significant_adj"]
    if not isinstance(test, pd.DataFrame) or not set(needed) <= set(test.columns):
        raise InputError(f"test is not a table with columns {listed(needed)}. Pass a result of DistanceTest.")
    shown = test[test["zscore"].notna()]
    if shown.empty:
        raise InputError("test has no row with a z-score. Pass a result with at least one group.")
    ax = get_axes(ax, (6.2, 4.4))
    effect, height = (shown[name].to_numpy(dtype=np.float64) for name in ("effect", "zscore"))
    significant = shown["significant_adj"].to_numpy(dtype=bool)
    colors = ((significant, PERTURBED, "significant"), (~significant, BACKGROUND, "not significant"))
    for chosen, color, meaning in colors:
        if chosen.any():
            ax.plot(effect[chosen], height[chosen], "o", markersize=5.5, color=color, alpha=0.85, zorder=3,
                    label=f"{meaning} ({int(chosen.sum()):,})", markeredgewidth=0.0)  # fmt: skip
    ax.axhline(0.0, color=CONTROL, linewidth=1.0, zorder=1)
    ax.axvline(0.0, color=CONTROL, linewidth=1.0, zorder=1)
    ax.set_xscale("symlog", linthresh=_small(effect), linscale=0.6)
    ax.set_xlim(_ticks(ax.xaxis, effect, _small(effect)))
    ax.set_yscale("symlog", linthresh=1.0, linscale=0.6)
    ax.set_ylim(_ticks(ax.yaxis, height, 1.0))
    ranked = np.flatnonzero(significant)[np.argsort(-effect[significant], kind="stable")]
    at = np.column_stack([effect, height])
    _name_points(ax, [str(shown.index[row]) for row in ranked[:most]], at[ranked[:most]], at)
    ax.set_xlabel(f"{label}, less its mean over permutations")
    ax.set_ylabel("z-score")
    tidy(ax, grid="y")
    legend_above(ax)
    return ax


def _small(effect: NDArray[np.float64]) -> float:
    """Return a power of ten near a small effect of the screen: effects span three of them, and lie around 0."""
    largest = float(np.abs(effect).max()) or 1.0
    small = float(np.clip(np.quantile(np.abs(effect), 0.25), largest / 1000.0, largest / 10.0))
    return float(10.0 ** np.floor(np.log10(small)))


def _ticks(axis: Axis, values: NDArray[np.float64], linear: float) -> tuple[float, float]:
    """Put ticks on an axis that is linear up to `linear` and logarithmic beyond; return limits with room for names."""
    from matplotlib.ticker import FuncFormatter, SymmetricalLogLocator

    axis.set_major_locator(SymmetricalLogLocator(base=10, linthresh=linear))
    axis.set_minor_locator(SymmetricalLogLocator(base=10, linthresh=linear, subs=list(range(2, 10))))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    low, high = float(min(values.min(), 0.0)), float(max(values.max(), 0.0))
    return low * 1.6 - 0.5 * linear, high * 2.5 + 0.5 * linear


def _name_points(ax: Axes, names: list[str], at: NDArray[np.float64], others: NDArray[np.float64]) -> None:
    """Write names beside their points where there is room: no name covers another, or a point of `others`."""
    box, scale = ax.get_window_extent(), ax.figure.dpi / 72.0
    points, occupied = (ax.transData.transform(where) / scale if len(where) else where for where in (at, others))
    boxes = [(x - 3.5, x + 3.5, y - 3.5, y + 3.5) for x, y in occupied]
    for name, point, (x, y) in zip(names, at, points, strict=True):
        text = shorten(name, 18)
        found = next(_free_places(x, y, 0.62 * SMALL * len(text), boxes, (box.x0 / scale, box.x1 / scale)), None)
        if found is None:
            continue
        side, down, place = found
        boxes.append(place)
        ax.annotate(
            text,
            (float(point[0]), float(point[1])),
            (6.0 * side, -down),
            textcoords="offset points",
            va="center",
            ha="left" if side > 0 else "right",
            fontsize=SMALL,
            color=INK,
            arrowprops={"arrowstyle": "-", "color": FAINT, "linewidth": 0.5, "shrinkA": 0, "shrinkB": 3}
            if down
            else None,
        )


def _free_places(
    x: float, y: float, width: float, boxes: list[_Box], sides: tuple[float, float]
) -> Iterator[tuple[float, float, _Box]]:
    """Try right and left of a point, then lower and higher: side, points down, and the free box found there."""
    for down in (0.0, 12.0, -12.0, 24.0, -24.0, 36.0):
        for side in (1.0, -1.0):
            left = x + 6.0 if side > 0 else x - 6.0 - width
            place = (left, left + width, y - down - 0.68 * SMALL, y - down + 0.68 * SMALL)
            inside = sides[0] < place[0] and place[1] < sides[1]
            if inside and not any(_overlap(place, other) for other in boxes):
                yield side, down, place


def _overlap(a: _Box, b: _Box) -> bool:
    return a[0] < b[1] and b[0] < a[1] and a[2] < b[3] and b[2] < a[3]
