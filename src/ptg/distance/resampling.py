"""Bootstrap resamples as cell weights."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ptg.distance.sample import Sample

_CHOSEN_AT_ONCE = 1 << 20


class Resampler:
    """Draws resamples of every group, with replacement and to the group's own size.

    A group's generator is seeded with `random_state` and the text of its name. Its resamples are therefore the same
    whichever other groups are there, in whatever order, on any device and for any number of threads or draws at once.
    """

    def __init__(self, sample: Sample, random_state: int) -> None:
        self._sizes = [int(size) for size in sample.sizes]
        self._generators = [np.random.default_rng([random_state, *_words(str(name))]) for name in sample.names]

    def draw(self, n_draws: int) -> NDArray[np.uint16]:
        """Return the next resamples: (n_draws, n_cells), how often each draw holds each cell."""
        weights = np.empty((n_draws, sum(self._sizes)), np.uint16)
        start = 0
        for size, generator in zip(self._sizes, self._generators, strict=True):
            n_at_once = max(1, _CHOSEN_AT_ONCE // size)
            for first in range(0, n_draws, n_at_once):
                n_now = min(n_at_once, n_draws - first)
                chosen = generator.integers(0, size, (n_now, size)) + size * np.arange(n_now)[:, None]
                counts = np.bincount(chosen.ravel(), minlength=n_now * size).reshape(n_now, size)
                weights[first : first + n_now, start : start + size] = counts
            start += size
        return weights


def _words(text: str) -> list[int]:
    """Turn a name into 128 bits that do not depend on the process."""
    digest = hashlib.sha256(text.encode()).digest()
    return [int.from_bytes(digest[i : i + 4], "little") for i in range(0, 16, 4)]
