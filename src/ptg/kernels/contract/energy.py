"""Contract of the `energy` kernels."""

from __future__ import annotations

from typing import Protocol


class EnergyKernels(Protocol):
    """Signatures that every backend's `energy` module has."""
