"""The shapes of results: which pairs a table needs, and the table from their values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
import pandas as pd

from ptg.data import array_module, current_device
from ptg.execute import to_host

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ptg.distance.evaluate import PairValues


class Layout(Protocol):
    """Which pairs a result needs."""

    @property
    def distinct(self) -> bool:
        """No pair is of a group and itself, and none comes twice or, where the metric is symmetric, mirrored."""

    def pairs(self, arrays: Any) -> tuple[Any, Any]:
        """Return left and right of every pair; arrays of the module `arrays` if they are many, else on the host."""


@dataclass
class PairwiseLayout:
    """A square table of all groups."""

    names: list[Any]
    groupby: str
    symmetric: bool
    distinct: bool = field(default=True, init=False)
    _known: dict[Any, tuple[Any, Any]] = field(default_factory=dict, init=False, repr=False)

    def pairs(self, arrays: Any) -> tuple[Any, Any]:
        """Return left and right of every pair: above the diagonal if symmetric, else off the diagonal."""
        if arrays not in self._known:
            n_groups = len(self.names)
            upper = (
                arrays.triu_indices(n_groups, 1)
                if self.symmetric
                else arrays.nonzero(~arrays.eye(n_groups, dtype=bool))
            )
            self._known[arrays] = upper
        return self._known[arrays]

    def table(self, values: NDArray[np.float64], title: str) -> pd.DataFrame:
        """Fill the table; the diagonal is 0."""
        arrays = array_module(values)
        with current_device(values):
            square = arrays.zeros((len(self.names), len(self.names)))
            square[self.pairs(arrays)] = values
            if self.symmetric:
                square = square + square.T
            filled = to_host(square)
        index = pd.Index(self.names, name=self.groupby)
        table = pd.DataFrame(filled, index=index, columns=index, copy=False)
        # Where users of pertpy look; an assignment would fill the column of a group called "name".
        object.__setattr__(table, "name", title)
        return table

    def pair_index(self) -> pd.MultiIndex:
        """Name the pairs."""
        rows, columns = ([self.names[group] for group in side] for side in self.pairs(np))
        return pd.MultiIndex.from_arrays([rows, columns], names=[self.groupby, "other"])


class OnesidedLayout(NamedTuple):
    """Distances of groups (rows) to controls (columns)."""

    names: list[Any]
    groupby: str
    controls: list[Any]
    positions: NDArray[np.int64]
    """Group number of every control."""

    @property
    def distinct(self) -> bool:
        """A control may be among the groups."""
        return False

    def pairs(self, arrays: Any) -> tuple[Any, Any]:  # noqa: ARG002 - few
        """Return left and right of every pair, control by control, on the host."""
        groups = np.arange(len(self.names))
        return np.tile(groups, len(self.controls)), np.repeat(self.positions, len(self.names))

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

    def results(self, values: PairValues, metric: str, *, several: bool) -> tuple[Any, ...]:
        """Shape the distances, or means and variances: columns for one control, else tables."""
        found = [values.means] if values.variances is None else [values.means, values.variances]
        if several:
            return tuple(self.table(part) for part in found)
        titles = f"{metric} to {self.controls[0]}", f"pairwise {metric} variance to {self.controls[0]}"
        return tuple(self.column(part, title) for part, title in zip(found, titles, strict=False))

    def pair_index(self, *, several: bool) -> pd.Index[Any]:
        """Name the pairs: (group, control), or the group alone."""
        if not several:
            alone: pd.Index[Any] = pd.Index(self.names, name=self.groupby)
            return alone
        pairs = [self.names * len(self.controls), [control for control in self.controls for _ in self.names]]
        return pd.MultiIndex.from_arrays(pairs, names=[self.groupby, "selected_group"])


class ListLayout(NamedTuple):
    """Any pairs, in any order."""

    left: NDArray[np.int64]
    right: NDArray[np.int64]

    @property
    def distinct(self) -> bool:
        """Nothing is known."""
        return False

    def pairs(self, arrays: Any) -> tuple[Any, Any]:  # noqa: ARG002 - few
        """Return the pairs."""
        return self.left, self.right


def as_list(argument: object) -> tuple[list[Any], bool]:
    """Return one or several names as a list, and whether there were several (a sequence, or what pandas makes)."""
    several = (Sequence, np.ndarray, pd.Index, pd.Series, pd.api.extensions.ExtensionArray)
    if isinstance(argument, several) and not isinstance(argument, str):
        return list(argument), True
    return [argument], False
