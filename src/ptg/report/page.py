"""The page: sections in the order in which they are read."""

from __future__ import annotations

from datetime import datetime
from html import escape
from importlib.resources import files
from typing import TYPE_CHECKING

from ptg.report import html, sections

if TYPE_CHECKING:
    from ptg.report.figures import Picture
    from ptg.report.results import ScreenResults

_SECTIONS = {
    "input": ("What went in", sections.went_in),
    "guides": ("Guide assignment", sections.guide_assignment),
    "perturbed": ("Perturbed cells", sections.perturbed_cells),
    "strength": ("Strength of perturbation", sections.perturbation_strength),
    "space": ("Targets beside each other", sections.discriminant_space),
    "distances": ("Distances to control", sections.distances),
    "skipped": ("What was skipped, and remarks", sections.skipped),
    "methods": ("Parameters, versions, run time", sections.how_it_was_made),
}


def render_report(results: ScreenResults, pictures: dict[str, Picture], *, title: str = "Perturbation screen") -> str:
    """Make one HTML page that needs nothing but itself: style and figures are inside, there is no script.

    Parameters
    ----------
    results
        An analysed screen.
    pictures
        Its figures, from `ptg.report.figures.draw_pictures`.
    title
        Title of the page.

    Returns
    -------
    The page.
    """
    style = files("ptg.report").joinpath("report.css").read_text(encoding="utf-8")
    now = datetime.now().astimezone().strftime("%d %B %Y, %H:%M %Z")
    links = " ".join(f'<a href="#{anchor}">{escape(name)}</a>' for anchor, (name, _) in _SECTIONS.items())
    content = sections.Content(results, pictures)
    body = "".join(html.heading(name, anchor) + section(content) for anchor, (name, section) in _SECTIONS.items())
    version = results.versions.get("ptg", "")
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{style}</style></head><body><main>"
        f"<header><h1>{escape(title)}</h1><p>ptg {escape(version)} · {escape(now)}</p></header>"
        f"{sections.summary(content)}<nav>{links}</nav>{body}"
        "<footer>The numbers behind every table and figure are in the folder tables, the figures in the folder "
        "figures, and the cells with all results in screen.h5ad.</footer></main></body></html>\n"
    )
