"""What the figures have in common: colours, Axes, ticks. Nothing here changes matplotlib's global settings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ptg.data import InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

# Okabe and Ito's colours, which people with any common colour vision can tell apart.
CONTROL = "#8A8F98"
NOT_PERTURBED = "#56B4E9"
PERTURBED = "#D55E00"
BACKGROUND = "#0072B2"
NOT_TESTED = "#E4E6EA"
INK = "#20242B"
FAINT = "#6B7280"
GROUPS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#332288", "#999933")
MARKERS = "o^sDvP"

TEXT, SMALL = 10.0, 8.5


def get_axes(ax: Axes | None, size: tuple[float, float]) -> Axes:
    """Return `ax`, or the Axes of a new figure of `size` inches."""
    if ax is None:
        import matplotlib.pyplot as plt

        _, ax = plt.subplots(figsize=size, layout="constrained")
    elif not hasattr(ax, "scatter"):
        raise InputError(f"ax is a {type(ax).__name__}. Pass a matplotlib Axes, or None.")
    return ax


def tidy(ax: Axes, *, grid: Literal["x", "y"] | None = None) -> None:
    """Take away the ink that says nothing; `grid` adds faint lines across that axis."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set_color("#B4B9C2")
    ax.tick_params(colors=INK, labelsize=SMALL, color="#B4B9C2")
    ax.xaxis.label.set(color=INK, fontsize=TEXT)
    ax.yaxis.label.set(color=INK, fontsize=TEXT)
    ax.title.set(color=INK, fontsize=TEXT + 1)
    ax.set_axisbelow(True)
    if grid:
        ax.grid(axis=grid, color="#E4E6EA", linewidth=0.8)


def row_height(n_rows: int, *, legend: bool = True) -> float:
    """Height in inches of a figure with `n_rows` labelled rows."""
    return 0.9 + 0.3 * legend + 0.19 * max(n_rows, 2)


def label_rows(ax: Axes, names: list[str], *, left_out: int, what: str) -> None:
    """Name the rows of a horizontal chart, the first one on top, and say how many are not shown."""
    ax.set_yticks(np.arange(len(names)), names)
    ax.set_ylim(len(names) - 0.4, -0.6)
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)
    if left_out:
        note = f"{counted(left_out, f'more {what}')} not shown"
        ax.annotate(note, (1.0, 1.0), (0, 4), xycoords="axes fraction", textcoords="offset points", **faint("right"))


def spread_labels(at: NDArray[np.float64], names: list[str], spans: tuple[float, float]) -> NDArray[np.float64]:
    """Move labels up and down until none covers another.

    Parameters
    ----------
    at
        (n_labels, 2) wanted positions in data units.
    names
        The texts.
    spans
        Width and height of the Axes in data units; a label is taken to be 4 % high and 1.5 % wide per letter.

    Returns
    -------
    (n_labels, 2) positions, horizontally as wanted.
    """
    high = 0.042 * spans[1]
    half = np.array([0.0075 * spans[0] * len(name) for name in names])
    order = np.argsort(at[:, 1], kind="stable")
    placed = at.copy()
    for _ in range(200):
        moved = False
        for position, one in enumerate(order):
            for other in order[position + 1 :]:
                overlap = high - abs(placed[other, 1] - placed[one, 1])
                if overlap > 1e-9 * spans[1] and abs(placed[other, 0] - placed[one, 0]) < half[one] + half[other]:
                    up = 1.0 if placed[other, 1] >= placed[one, 1] else -1.0
                    placed[one, 1] -= up * overlap / 2.0
                    placed[other, 1] += up * overlap / 2.0
                    moved = True
        if not moved:
            break
    return placed


def legend_above(ax: Axes, *, columns: int = 4) -> None:
    """Put the legend over the plot, where it hides nothing."""
    style: dict[str, Any] = {
        "frameon": False,
        "fontsize": SMALL,
        "handlelength": 1.2,
        "columnspacing": 1.4,
        "borderaxespad": 0.2,
    }
    legend = ax.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=columns, **style)
    legend.set_in_layout(False)  # its width must not shrink the plot
    # Its height must be reserved nevertheless: an empty title does.
    if not ax.get_title() and not ax.get_title(loc="left"):
        ax.set_title(" ", fontsize=SMALL)


def faint(align: str = "left") -> dict[str, Any]:
    """Text properties of a remark."""
    return {"ha": align, "fontsize": SMALL, "color": FAINT}


def say_nothing_to_show(ax: Axes, message: str) -> Axes:
    """Fill empty Axes with the reason why they are empty."""
    ax.set_axis_off()
    ax.text(0.5, 0.5, message, transform=ax.transAxes, va="center", **faint("center"))
    return ax


def counted(number: int, noun: str) -> str:
    """Write a number with its noun.

    Examples
    --------
    >>> counted(1, "cell"), counted(2000, "cell")
    ('1 cell', '2,000 cells')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def shorten(name: object, length: int = 28) -> str:
    """Cut the middle out of a long name."""
    text = str(name)
    return text if len(text) <= length else f"{text[: length - 9]}…{text[-8:]}"
