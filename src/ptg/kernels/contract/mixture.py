"""Contract of the `mixture` kernels."""

from __future__ import annotations

from typing import Protocol


class MixtureKernels(Protocol):
    """Signatures that every backend's `mixture` module has."""
