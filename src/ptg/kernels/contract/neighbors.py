"""Contract of the `neighbors` kernels."""

from __future__ import annotations

from typing import Protocol


class NeighborKernels(Protocol):
    """Signatures that every backend's `neighbors` module has."""
