"""Distances between groups of cells."""

from ptg.distance.arrays import MeanVar
from ptg.distance.distance import Distance
from ptg.distance.distance_test import DistanceTest
from ptg.distance.intervals import BootstrapDraws

__all__ = ["BootstrapDraws", "Distance", "DistanceTest", "MeanVar"]
