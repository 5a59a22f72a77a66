"""Contract of the `projection` kernels."""

from __future__ import annotations

from typing import Protocol


class ProjectionKernels(Protocol):
    """Signatures that every backend's `projection` module has."""
