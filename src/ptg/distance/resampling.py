"""Keys of the resamples of a group."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def resampling_keys(names: Iterable[Any], random_state: int) -> NDArray[np.uint64]:
    """Make the key of each group's random numbers: 64 bits of the SHA-256 of `random_state` and the group's name.

    The resamples of a group are therefore the same whichever other groups are there, in whatever order, on any device
    and in any process.

    Examples
    --------
    >>> resampling_keys(["NT", "A"], 0)[1] == resampling_keys(["A"], 0)[0]
    True
    """
    seeded = hashlib.sha256(f"{random_state}:".encode())
    digests = []
    for name in names:
        generator = seeded.copy()
        generator.update(str(name).encode())
        digests.append(generator.digest()[:8])
    return np.frombuffer(b"".join(digests), dtype="<u8").astype(np.uint64)
