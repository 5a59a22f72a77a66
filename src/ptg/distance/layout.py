"""The shapes of results: which pairs a table needs, and the table from their values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from numpy.typing import NDArray


class PairwiseLayout(NamedTuple):
    """A square table of all groups."""

    names: list[Any]
    groupby: str
    symmetric: bool

    def pairs(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return left and right of every pair: above the diagonal if symmetric, else off the diagonal."""
        n_groups = len(self.names)
        if self.symmetric:
            return np.triu_indices(n_groups, 1)
        left, right = np.nonzero(~np.eye(n_groups, dtype=bool))
        return left, right

    def table(self, values: NDArray[np.float64], title: str) -> pd.DataFrame:
        """Fill the table; the diagonal is 0."""
        n_groups = len(self.names)
        square = np.zeros((n_groups, n_groups))
        square[self.pairs()] = values
        if self.symmetric:
            square += square.T
        index = pd.Index(self.names, name=self.groupby)
        table = pd.DataFrame(square, index=index, columns=index)
        table.name = title  # type: ignore[attr-defined]  # where users of pertpy look
        return table


class OnesidedLayout(NamedTuple):
    """Distances of groups (rows) to controls (columns)."""

    names: list[Any]
    groupby: str
    controls: list[Any]
    positions: NDArray[np.int64]
    """Group number of every control."""

    def pairs(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return left and right of every pair, control by control."""
        groups = np.arange(len(self.names))
        return np.tile(groups, len(self.controls)), np.repeat(self.positions, len(self.names))

    def table(self, values: NDArray[np.float64]) -> pd.DataFrame:
        """One column per control."""
        return pd.DataFrame(
            values.reshape(len(self.controls), len(self.names)).T.copy(),
            index=pd.Index(self.names, name=self.groupby),
            columns=pd.Index(self.controls, name="selected_group"),
        )

    def column(self, values: NDArray[np.float64], title: str) -> pd.Series[float]:
        """Shape the values of the only control."""
        return pd.Series(values, index=pd.Index(self.names, name=self.groupby), name=title)


def as_list(argument: object) -> tuple[list[Any], bool]:
    """Return one or several names as a list, and whether there were several (a sequence)."""
    if isinstance(argument, (Sequence, np.ndarray, pd.Index, pd.Series)) and not isinstance(argument, str):
        return list(argument), True
    return [argument], False
