"""Screens to try ptg on."""
