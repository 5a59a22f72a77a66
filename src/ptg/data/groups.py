"""Labels to groups: cells sorted by group, plus offsets."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pandas as pd

from ptg.data.errors import InputError, not_found
from ptg.data.matrix import check_anndata

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Groups:
    """Cells in groups. Cells without a label, or of a group that was not asked for, are in none.

    Attributes
    ----------
    names
        Label of each group, in the order of the results.
    order
        Positions of the grouped cells in the data, sorted by group and, inside a group, as in the data.
    offsets
        Group `g` is ``order[offsets[g]:offsets[g + 1]]``; shape (n_groups + 1,), int64.
    """

    names: list[Any]
    order: NDArray[np.int64]
    offsets: NDArray[np.int64]

    @property
    def sizes(self) -> NDArray[np.int64]:
        """Number of cells in each group."""
        return np.diff(self.offsets)

    def __len__(self) -> int:
        return len(self.names)

    def cells(self, group: int) -> NDArray[np.int64]:
        """Positions of one group's cells in the data."""
        return self.order[self.offsets[group] : self.offsets[group + 1]]

    def index(self, name: Hashable) -> int:
        """Position of a group by its label."""
        return self.names.index(name)


def groups_from_codes(codes: NDArray[Any], names: Sequence[Any]) -> Groups:
    """Sort cells by group. `codes` has one group number per cell, -1 for none; every name keeps its (empty) group."""
    shifted = np.asarray(codes) + 1
    counts = np.bincount(shifted, minlength=len(names) + 1)
    order = _stable_order(shifted)[counts[0] :]
    offsets = np.concatenate([[0], np.cumsum(counts[1:])])
    return Groups(list(names), order.astype(np.int64, copy=False), offsets.astype(np.int64))


def _stable_order(numbers: NDArray[Any]) -> NDArray[np.intp]:
    """Sort non-negative numbers below 2^32, 16 bits at a time: these NumPy sorts by counting. Equal ones keep order."""
    order = np.argsort(numbers.astype(np.uint16), kind="stable")
    if numbers.size and numbers.max() >= 1 << 16:
        order = order[np.argsort((numbers >> 16).astype(np.uint16)[order], kind="stable")]
    return order


def read_obs(adata: AnnData, key: str, *, argument: str) -> pd.Series[Any]:
    """Read a column of `adata.obs`, or raise an InputError with the nearest names."""
    check_anndata(adata)
    if not isinstance(key, str) or key not in adata.obs.columns:
        raise not_found(argument, key, "adata.obs", list(adata.obs.columns))
    column = adata.obs[key]
    if isinstance(column, pd.DataFrame):
        raise InputError(f"{argument}={key!r} names {column.shape[1]} columns of adata.obs. Make the names unique.")
    return cast("pd.Series[Any]", column)


def read_labels(adata: AnnData, key: str, *, argument: str) -> tuple[NDArray[np.int64], list[Any]]:
    """Read labels as codes.

    Categorical, string, bool and integer columns are accepted. Missing labels get code -1; empty categories are
    dropped; the order is category order, or sorted where there is none.

    Returns
    -------
    codes
        (n_obs,) int64.
    names
        The label of each code.
    """
    column = read_obs(adata, key, argument=argument)
    kind = column.dtype
    if pd.api.types.is_float_dtype(kind) or pd.api.types.is_datetime64_any_dtype(kind):
        raise InputError(
            f"{argument}={key!r} holds {kind} values, not labels. Convert the column to strings or categories first."
        )
    try:
        labels = pd.Categorical(column)  # no copy of a column that is categorical
    except TypeError:  # labels of types that do not sort together
        labels = pd.Categorical(column, categories=list(pd.unique(column.dropna())))
    codes = np.asarray(labels.codes, dtype=np.int64)
    used = np.bincount(codes + 1, minlength=len(labels.categories) + 1)[1:] > 0
    names = labels.categories[used].tolist()
    if any(isinstance(name, tuple) for name in names):  # a tuple of names is several names
        raise InputError(f"{argument}={key!r} holds tuples. Join them to one string each, or make a column of each.")
    if not names:
        raise InputError(f"{argument}={key!r} has no labelled cell: all {len(column)} values are missing.")
    if not used.all():
        new_code = np.append(np.cumsum(used) - 1, -1)  # the last entry serves code -1
        codes = new_code[codes]
    return codes, names


def read_groups(adata: AnnData, key: str, groups: Iterable[Any] | None = None, *, argument: str = "groupby") -> Groups:
    """Group cells by a column of `adata.obs`.

    Parameters
    ----------
    adata, key
        The data and the column of `adata.obs` with the labels, see `read_labels`.
    groups
        The groups to keep, in this order; None keeps all.
    argument
        The caller's name for `key`, for the error message.

    Raises
    ------
    InputError
        The column is missing, a group does not exist, or one is named twice.
    """
    codes, names = read_labels(adata, key, argument=argument)
    return select_groups(codes, names, choose_labels(groups, key, names))


def choose_labels(groups: Iterable[Any] | None, key: str, names: Sequence[Any]) -> list[Any]:
    """Check the labels of column `key` that a caller's `groups` names; None names all, in the order of `names`."""
    if groups is None:
        return list(names)
    if isinstance(groups, str) or not isinstance(groups, Iterable):
        raise InputError(f"groups={groups!r} is not a list. Pass a list of group names, e.g. [{groups!r}].")
    wanted = list(groups)
    if not wanted:
        raise InputError("groups=[] selects nothing. Pass at least one group, or None for all.")
    for name in wanted:
        if not isinstance(name, Hashable):
            check_label("groups", name, key, names)
    if len(set(wanted)) < len(wanted):
        repeated = next(name for name in wanted if wanted.count(name) > 1)
        raise InputError(f"groups names {repeated!r} more than once. Pass each group once.")
    known = set(names)
    for name in wanted:
        if name not in known:
            check_label("groups", name, key, names)
    return wanted


def select_groups(codes: NDArray[np.int64], names: Sequence[Any], wanted: Sequence[Any]) -> Groups:
    """Group the cells with some of the labels that `read_labels` returned, in the order of `wanted`."""
    if list(wanted) == list(names):
        return groups_from_codes(codes, names)
    position = {name: code for code, name in enumerate(names)}
    new_code = np.full(len(names) + 1, -1, dtype=np.int64)  # the last entry serves code -1
    new_code[[position[name] for name in wanted]] = np.arange(len(wanted))
    return groups_from_codes(new_code[codes], wanted)


def check_label(argument: str, name: object, key: str, names: Sequence[Any]) -> None:
    """Raise an InputError unless `name` is one of the labels of column `key`."""
    if not isinstance(name, Hashable) or name not in names:  # an array compares with every label at once
        raise not_found(argument, name, f"obs[{key!r}]", names)
