"""Screens to try ptg on."""

from ptg.datasets.simulate import simulate_screen

__all__ = ["simulate_screen"]
