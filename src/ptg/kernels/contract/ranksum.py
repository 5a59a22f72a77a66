"""Contract of the `ranksum` kernels."""

from __future__ import annotations

from typing import Protocol


class RankSumKernels(Protocol):
    """Signatures that every backend's `ranksum` module has."""
