"""Figures of `ptg.GuideAssignment`: one guide's mixture, and how many guides cells have."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp

from ptg.data import InputError, check_anndata, entry_point, find_matrix, layer_names, not_found, read_counts
from ptg.execute import to_host
from ptg.plot.style import BACKGROUND, INK, NOT_PERTURBED, NOT_TESTED, PERTURBED, SMALL, faint, get_axes

from ptg.plot.style import say_nothing_to_show, shorten, tidy  # isort: skip

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

_BIN = 0.5
"""Width of a histogram bar on the log2 scale; the counts 1, 2, 3, 4, ... all fall near the middle of one."""


@entry_point
def guide_mixture(guides: AnnData, guide: str, *, layer: str | None = None, ax: Axes | None = None) -> Axes:
    """Draw the counts of one guide with the mixture that was fitted to them.

    Parameters
    ----------
    guides
        Guide counts after `GuideAssignment.assign_mixture_model`, which left the fit in ``guides.var``.
    guide
        Name of the guide, from ``guides.var_names``.
    layer
        Layer with the raw counts; None is ``guides.X``.
    ax
        Axes to draw on; by default those of a new figure.

    Returns
    -------
    The Axes: a histogram of the nonzero counts on a log2 scale (cells on a log scale), the Poisson background, the
    Normal signal, and the threshold from which a cell has the guide. A guide that was not fitted has only its
    histogram and the reason.

    Raises
    ------
    InputError
        The guide does not exist, or no mixture has been fitted.
    """
    check_anndata(guides)
    if guide not in guides.var_names:
        raise not_found("guide", guide, "guides.var_names", list(guides.var_names))
    if "threshold" not in guides.var or "poisson_rate" not in guides.var:
        raise InputError("guides.var has no fitted mixture. Run GuideAssignment.assign_mixture_model first.")
    column = guides[:, [guide]]
    values = read_counts(*find_matrix(column, layer=layer), bring=to_host).data.astype(np.float64)
    ax = get_axes(ax, (4.6, 3.2))
    ax.set_title(shorten(guide), loc="left", fontweight="bold")
    if values.size == 0:
        return say_nothing_to_show(ax, "no cell has a count of this guide")
    log_counts = np.log2(values)
    edges = np.arange(-_BIN / 2, log_counts.max() + 2 * _BIN, _BIN)
    ax.hist(log_counts, bins=list(edges), color=NOT_TESTED, edgecolor="#C4C8CF", linewidth=0.6, label="cells")
    fit = guides.var.loc[guide]
    if np.isfinite(float(fit["poisson_rate"])):
        _draw_fit(ax, fit, log_counts, edges)
    else:
        reason = str(fit["not_fitted_reason"]) if "not_fitted_reason" in fit else "no mixture could be fitted"
        ax.annotate(f"not fitted: {reason}", (1.0, 1.0), (0, 2), xycoords="axes fraction",
                    textcoords="offset points", **faint("right"))  # fmt: skip
    _finish(ax, edges[-1])
    return ax


def _draw_fit(ax: Axes, fit: Any, log_counts: NDArray[np.float64], edges: NDArray[np.float64]) -> None:
    """Both components, scaled to cells per bar, and the threshold."""
    from scipy.special import gammaln

    grid = np.linspace(max(edges[0], 0.0), edges[-1], 400)
    rate, mean, std = (float(fit[name]) for name in ("poisson_rate", "gaussian_mean", "gaussian_std"))
    background = np.exp(grid * np.log(rate) - rate - gammaln(grid + 1.0))
    signal = np.exp(-0.5 * ((grid - mean) / std) ** 2) / (std * np.sqrt(2.0 * np.pi))
    cells = log_counts.size * _BIN
    ax.plot(grid, float(fit["mix_probs_0"]) * cells * background, color=BACKGROUND, linewidth=1.8, label="background")
    ax.plot(grid, float(fit["mix_probs_1"]) * cells * signal, color=PERTURBED, linewidth=1.8, label="signal")
    threshold = float(fit["threshold"])
    if np.isfinite(threshold):
        assigned = int(np.count_nonzero(log_counts >= np.log2(threshold)))
        # Between the counts, so that the line has all assigned cells on its right.
        ax.axvline(np.log2(threshold - 0.5), color=INK, linewidth=1.2, linestyle=(0, (4, 2)), label="threshold")
        text = f"≥ {threshold:.0f} counts: {assigned:,} cells"
        ax.annotate(text, (1.0, 1.0), (0, 2), xycoords="axes fraction", textcoords="offset points", **faint("right"))


def _finish(ax: Axes, end: float) -> None:
    ax.set_yscale("log")
    ax.set_ylim(bottom=0.5)
    ax.set_xlim(-_BIN, end)
    step = 1 if end < 9 else 2
    ticks = np.arange(0, int(end) + 1, step)
    ax.set_xticks(ticks, [f"{1 << int(tick):,}" for tick in ticks])
    ax.set_xlabel("Guide counts in a cell (UMIs, log scale)")
    ax.set_ylabel("Cells (log scale)")
    tidy(ax)
    ax.legend(loc="upper right", frameon=False, fontsize=SMALL)


@entry_point
def guides_per_cell(guides: AnnData, *, layer: str = "assigned_guides", most: int = 5, ax: Axes | None = None) -> Axes:
    """Draw how many cells have no guide, one, two, ...

    Parameters
    ----------
    guides
        Guide counts after any method of `GuideAssignment`.
    layer
        Layer with the 0/1 assignment matrix.
    most
        Cells with this many guides or more share the last bar.
    ax
        Axes to draw on; by default those of a new figure.

    Returns
    -------
    The Axes, each bar with its number of cells and its share.

    Raises
    ------
    InputError
        The layer does not exist.
    """
    check_anndata(guides)
    if layer not in guides.layers:
        raise not_found("layer", layer, "guides.layers", layer_names(guides), fix="Assign guides first.")
    assigned = sp.csr_matrix(to_host(guides.layers[layer]), copy=True)
    assigned.eliminate_zeros()
    numbers = np.minimum(np.diff(assigned.indptr), most)
    cells = np.bincount(numbers, minlength=most + 1)
    ax = get_axes(ax, (4.6, 3.2))
    colors = [NOT_TESTED, BACKGROUND, *[NOT_PERTURBED] * (most - 1)]
    ax.bar(np.arange(most + 1), cells, color=colors, width=0.72)
    for number, count in enumerate(cells):
        share = f"{count:,}\n{count / max(guides.n_obs, 1):.1%}"
        ax.annotate(share, (number, count), (0, 3), textcoords="offset points", va="bottom", **faint("center"))
    ax.set_xticks(np.arange(most + 1), [*map(str, range(most)), f"≥ {most}"])
    ax.set_ylim(0, cells.max() * 1.2)
    ax.yaxis.set_major_formatter("{x:,.0f}")
    ax.set_xlabel("Guides in a cell")
    ax.set_ylabel("Cells")
    tidy(ax)
    return ax
