"""Figures from results: each function takes what a tool has written and returns the Axes it drew on."""

from ptg.plot.distance import distance_heatmap, distances_to_control
from ptg.plot.distance_test import distance_test
from ptg.plot.guides import guide_mixture, guides_per_cell
from ptg.plot.mixscape import lda, mixscape_barplot, perturbation_score

__all__ = [
    "distance_heatmap",
    "distance_test",
    "distances_to_control",
    "guide_mixture",
    "guides_per_cell",
    "lda",
    "mixscape_barplot",
    "perturbation_score",
]
