"""Contract of the `moments` kernels."""

from __future__ import annotations

from typing import Protocol


class MomentKernels(Protocol):
    """Signatures that every backend's `moments` module has."""
