"""What one row of the benchmark is: a record that names its data, the two calls, the check and the target."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import anndata as ad
import numpy as np
from numpy.typing import NDArray

#: What a side computed and what the check has to know of the data, by name. Strings travel as unicode arrays; nothing
#: is pickled.
Answer = dict[str, NDArray[np.generic]]
#: One timed call. It may write to the AnnData, and may return the arrays that are its result.
Step = Callable[[ad.AnnData], object]
#: Makes the input of both sides; raises `MissingDataError` where it cannot be had.
MakeData = Callable[[], ad.AnnData]


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
        Timed one after the other on fresh data, by name.
    answer
        Takes the AnnData after the last step and what the steps returned; not timed.
    prepare
        Called once on the data before the first of the timed steps; not timed.
    """

    steps: Mapping[str, Step]
    answer: Callable[[ad.AnnData, Mapping[str, object]], Answer]
    prepare: Step | None = None


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
        Makes the input of both sides.
    ptg, peer
        The two sides, with the same step names; no peer where it cannot do the work at all.
    check
        ``check(ptg's answer, the peer's answer)``.
    tolerance
        What `check` accepts, in words.
    target_warm, target_first
        How many times faster ptg is to be in warm calls and in the first call of a process; None where nothing is
        asked for.
    note
        What a reader has to know about how the two calls differ, or why there is no peer.
    small
        Data of the same kind for ``--smoke``; by default `data`.
    generated
        Each process makes the data itself, from the seed, and all of its calls share them. Otherwise both read one
        file, and each call gets a copy. For data that are too large to be written and copied.
    n_pairs
        Distances between cells that the work asks for, for rows whose rate is reported.
    """

    name: str
    work: str
    data: MakeData
    ptg: Side
    peer: Side | None
    check: Callable[[Answer, Answer], Agreement] | None
    tolerance: str
    target_warm: float | None
    target_first: float | None = None
    note: str = ""
    small: MakeData | None = None
    generated: bool = False
    n_pairs: Callable[[ad.AnnData], float] | None = None

    @property
    def sides(self) -> dict[str, Side]:
        """The sides that there are, by name: ``"ptg"`` and ``"peer"``."""
        return {"ptg": self.ptg} | ({"peer": self.peer} if self.peer else {})

    def make(self, *, smoke: bool) -> ad.AnnData:
        """Make the data, or the small ones."""
        return (self.small or self.data)() if smoke else self.data()
