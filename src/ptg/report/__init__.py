"""One self-contained HTML report of a screen."""

from ptg.report.page import render_report
from ptg.report.results import DistanceResults, GuideResults, Note, ScreenResults

__all__ = ["DistanceResults", "GuideResults", "Note", "ScreenResults", "render_report"]
