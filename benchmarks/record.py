"""What one row of the benchmark is: a record that names its data, the two calls, the check and the target."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import anndata as ad
import numpy as np
from numpy.typing import NDArray

#: What a side computed, by name. Strings travel as unicode arrays; nothing is pickled.
Answer = dict[str, NDArray[np.generic]]
#: One timed call. It may write to the AnnData, and may return the arrays that are its result.
Step = Callable[[ad.AnnData], object]


@dataclass(frozen=True)
class Agreement:
    """Whether two answers agree, and the numbers behind the verdict."""

    agrees: bool
    detail: str


@dataclass(frozen=True)
class Side:
    """What one library does for a row.

    Attributes
    ----------
    steps
        Timed one after the other on a fresh copy of the data, by name.
    answer
        Takes the AnnData after the last step and what the steps returned; not timed.
    """

    steps: Mapping[str, Step]
    answer: Callable[[ad.AnnData, Mapping[str, object]], Answer]


@dataclass(frozen=True)
class Row:
    """One row of the benchmark.

    Attributes
    ----------
    name
        What ``--rows`` selects it by.
    work
        What the table says.
    data
        Makes the input of both sides; raises `MissingDataError` where it cannot be had.
    ptg, peer
        The two sides, with the same step names.
    check
        ``check(data, ptg's answer, the peer's answer)``.
    tolerance
        What `check` accepts, in words.
    target_warm, target_first
        How many times faster ptg is to be in warm calls and in the first call of a process; None where nothing is
        asked for.
    note
        What a reader has to know about how the two calls differ.
    """

    name: str
    work: str
    data: Callable[[], ad.AnnData]
    ptg: Side
    peer: Side
    check: Callable[[ad.AnnData, Answer, Answer], Agreement]
    tolerance: str
    target_warm: float
    target_first: float | None = None
    note: str = ""

    def side(self, name: str) -> Side:
        """Return the side called ``"ptg"`` or ``"peer"``."""
        return {"ptg": self.ptg, "peer": self.peer}[name]
