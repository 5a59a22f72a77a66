"""Distances between groups of cells."""

from ptg.distance.distance import Distance, MeanVar

__all__ = ["Distance", "MeanVar"]
