"""Distances between groups of cells."""
