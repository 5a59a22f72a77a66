"""The shapes of results: which pairs a table needs, and the table from their values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from ptg.execute import array_module, to_host

if TYPE_CHECKING:
    from numpy.typing import NDArray


class PairwiseLayout(NamedTuple):
    """A square table of all groups."""

    names: list[Any]
    groupby: str
    symmetric: bool

    def pairs(self, arrays: Any) -> tuple[Any, Any]:
        """Return left and right of every pair: above the diagonal if symmetric, else off the diagonal."""
        n_groups = len(self.names)
        if self.symmetric:
            left, right = arrays.triu_indices(n_groups, 1)
        else:
            left, right = arrays.nonzero(~arrays.eye(n_groups, dtype=bool))
        return left, right

    def table(self, values: NDArray[np.float64], title: str) -> pd.DataFrame:
        """Fill the table; the diagonal is 0."""
        arrays = array_module(values)
        square = arrays.zeros((len(self.names), len(self.names)))
        square[self.pairs(arrays)] = values
        if self.symmetric:
            square = square + square.T
        index = pd.Index(self.names, name=self.groupby)
        table = pd.DataFrame(to_host(square), index=index, columns=index)
        table.name = title  # type: ignore[attr-defined]  # where users of pertpy look
        return table


class OnesidedLayout(NamedTuple):
    """Distances of groups (rows) to controls (columns)."""

    names: list[Any]
    groupby: str
    controls: list[Any]
    positions: NDArray[np.int64]
    """Group number of every control."""

    def pairs(self, arrays: Any) -> tuple[Any, Any]:
        """Return left and right of every pair, control by control."""
        groups = arrays.arange(len(self.names))
        left = arrays.tile(groups, len(self.controls))
        return left, arrays.repeat(arrays.asarray(self.positions), len(self.names))

    def table(self, values: NDArray[np.float64]) -> pd.DataFrame:
        """One column per control."""
        return pd.DataFrame(
            to_host(values).reshape(len(self.controls), len(self.names)).T.copy(),
            index=pd.Index(self.names, name=self.groupby),
            columns=pd.Index(self.controls, name="selected_group"),
        )

    def column(self, values: NDArray[np.float64], title: str) -> pd.Series[float]:
        """Shape the values of the only control."""
        return pd.Series(to_host(values), index=pd.Index(self.names, name=self.groupby), name=title)


def as_list(argument: object) -> tuple[list[Any], bool]:
    """Return one or several names as a list, and whether there were several (a sequence)."""
    if isinstance(argument, (Sequence, np.ndarray, pd.Index, pd.Series)) and not isinstance(argument, str):
        return list(argument), True
    return [argument], False
