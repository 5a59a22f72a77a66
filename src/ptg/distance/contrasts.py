"""Contrasts: tables of (group, reference) pairs, optionally within the levels of other columns."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ptg.data import Groups, InputError, check_label, groups_from_codes, listed, not_found, read_labels, warn
from ptg.distance.layout import as_list

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

_REFERENCE = "reference"


@dataclass(frozen=True)
class ResolvedContrasts:
    """What a table of contrasts asks for.

    Attributes
    ----------
    groups
        The groups of cells that any contrast needs, each within its levels; none of them is empty.
    left, right
        Group and reference of each contrast; -1 where it has no cells.
    """

    groups: Groups
    left: NDArray[np.int64]
    right: NDArray[np.int64]

    @property
    def has_cells(self) -> NDArray[np.bool_]:
        """Mark the contrasts of which both sides have cells."""
        return (self.left >= 0) & (self.right >= 0)


def create_contrasts(
    adata: AnnData,
    groupby: str,
    selected_group: object,
    *,
    groups: Iterable[Any] | None,
    split_by: str | Sequence[str] | None,
) -> pd.DataFrame:
    """Build the table: see `Distance.create_contrasts`."""
    references, _ = as_list(selected_group)
    split_columns = _split_columns(groupby, split_by)
    codes, names = _read_columns(adata, [groupby, *split_columns])
    check_references(references, groupby, names[0])
    allowed = _allowed(groups, groupby, names[0])
    reference_codes = {names[0].index(reference) for reference in references}
    keys = np.unique(_combine(codes, names))
    present = np.transpose(_separate(keys[keys >= 0], names))
    is_target = np.isin(present[:, 0], [code for code in allowed if code not in reference_codes])
    rows = []
    for code in sorted(reference_codes):
        with_reference = {tuple(row[1:]) for row in present[present[:, 0] == code]}
        targets = [tuple(row) for row in present[is_target] if tuple(row[1:]) in with_reference]
        rows += [(code, *levels, target) for target, *levels in targets]
    table = np.array(sorted(rows), dtype=np.int64).reshape(-1, len(names) + 1)
    columns = {groupby: _labels(table[:, -1], names[0]), _REFERENCE: _labels(table[:, 0], names[0])}
    columns |= {column: _labels(table[:, 1 + i], names[1 + i]) for i, column in enumerate(split_columns)}
    return pd.DataFrame(columns)


def resolve_contrasts(adata: AnnData, contrasts: pd.DataFrame) -> ResolvedContrasts:
    """Check a table of contrasts and find the cells of each.

    Raises
    ------
    InputError
        The table lacks its columns, or names a column or label that the data do not have.
    """
    groupby, split_columns = _check_table(contrasts)
    codes, names = _read_columns(adata, [groupby, *split_columns], argument="contrasts column")
    wanted = np.empty((2, len(contrasts), codes.shape[1]), dtype=np.int64)
    for i, column in enumerate([groupby, *split_columns]):
        wanted[:, :, i] = _codes_of(contrasts[column], column, names[i])
    wanted[1, :, 0] = _codes_of(contrasts[_REFERENCE], groupby, names[0])
    key_of_cell = _combine(codes, names)
    asked = _combine(wanted.reshape(-1, codes.shape[1]), names)
    keys = np.intersect1d(asked, key_of_cell)
    labels = [_describe(row, names) for row in np.transpose(_separate(keys, names))]
    left, right = _position(asked, keys).reshape(2, -1)
    return ResolvedContrasts(groups_from_codes(_position(key_of_cell, keys), labels), left, right)


def check_references(references: list[Any], groupby: str, names: list[Any]) -> None:
    """Check the controls that a caller selected: at least one, each a label, none twice."""
    if not references:
        raise InputError("selected_group is empty. Pass at least one control.")
    for reference in references:
        check_label("selected_group", reference, groupby, names)
    _check_distinct("selected_group", references)


def warn_of_missing(contrasts: pd.DataFrame) -> None:
    """List contrasts without cells in a warning: ``A vs NT (replicate r1)``."""
    if not len(contrasts):
        return
    groupby, split_columns = _check_table(contrasts)
    spelled = []
    for _, row in contrasts.iterrows():
        levels = ", ".join(f"{column} {row[column]}" for column in split_columns)
        spelled.append(f"{row[groupby]} vs {row[_REFERENCE]}" + (f" ({levels})" if levels else ""))
    warn(f"{len(spelled)} contrast(s) have no cells and are NaN: {listed(spelled)}.")


def _check_table(contrasts: pd.DataFrame) -> tuple[str, list[str]]:
    """Return the groupby column and the split columns of a table of contrasts."""
    if not isinstance(contrasts, pd.DataFrame):
        raise InputError(
            f"contrasts is a {type(contrasts).__name__}. Pass a DataFrame, e.g. from Distance.create_contrasts."
        )
    columns = list(contrasts.columns)
    if len(set(columns)) < len(columns):
        raise InputError(f"contrasts has repeated columns: {listed(columns)}. Make their names unique.")
    if _REFERENCE not in columns:
        raise not_found("column", _REFERENCE, "contrasts", columns, fix="Add a column with the control of each row.")
    if columns[0] == _REFERENCE:
        raise InputError(
            "the first column of contrasts is 'reference'. Put the column with the groups to compare first."
        )
    return columns[0], [column for column in columns[1:] if column != _REFERENCE]


def _split_columns(groupby: str, split_by: str | Sequence[str] | None) -> list[str]:
    columns = [] if split_by is None else as_list(split_by)[0]
    _check_distinct("split_by", columns)
    for column in columns:
        if column in {groupby, _REFERENCE}:
            raise InputError(f"split_by names {column!r}, which contrasts use for something else. Leave it out.")
    return columns


def _check_distinct(argument: str, values: list[Any]) -> None:
    for value in values:
        if values.count(value) > 1:
            raise InputError(f"{argument} names {value!r} more than once. Pass each once.")


def _read_columns(
    adata: AnnData, columns: list[str], *, argument: str | None = None
) -> tuple[NDArray[np.int64], list[list[Any]]]:
    """Read label columns: codes (n_obs, n_columns), -1 for missing, and the labels of each column."""
    arguments = [argument] * len(columns) if argument else ["groupby"] + ["split_by"] * (len(columns) - 1)
    read = [read_labels(adata, column, argument=name) for column, name in zip(columns, arguments, strict=True)]
    return np.stack([codes for codes, _ in read], axis=1), [names for _, names in read]


def _combine(codes: NDArray[np.int64], names: list[list[Any]]) -> NDArray[np.int64]:
    """Turn the codes of several columns, (n, n_columns), into one number each; -1 where one is missing."""
    keys = np.full(len(codes), -1, dtype=np.int64)
    complete = (codes >= 0).all(axis=1)
    keys[complete] = np.ravel_multi_index(tuple(codes[complete].T), [len(labels) for labels in names])
    return keys


def _separate(keys: NDArray[np.int64], names: list[list[Any]]) -> tuple[NDArray[np.intp], ...]:
    """Undo `_combine`, a column at a time."""
    return np.unravel_index(keys, [len(labels) for labels in names])


def _position(values: NDArray[np.int64], keys: NDArray[np.int64]) -> NDArray[np.int64]:
    """Find values among sorted keys; -1 where they are not."""
    return np.where(np.isin(values, keys), np.searchsorted(keys, values), -1)


def _allowed(groups: Iterable[Any] | None, groupby: str, names: list[Any]) -> list[int]:
    """Codes of the groups to compare."""
    if groups is None:
        return list(range(len(names)))
    if isinstance(groups, str) or not isinstance(groups, Iterable):
        raise InputError(f"groups={groups!r} is not a list. Pass a list of group names, e.g. [{groups!r}].")
    wanted = list(groups)
    position = {name: code for code, name in enumerate(names)}
    for name in wanted:
        if not isinstance(name, Hashable) or name not in position:
            check_label("groups", name, groupby, names)
    return [position[name] for name in wanted]


def _labels(codes: NDArray[np.int64], names: list[Any]) -> pd.Series[Any]:
    """Labels of codes, in the type that pandas gives such labels."""
    return pd.Series(names).take(codes).reset_index(drop=True)


def _codes_of(values: pd.Series[Any], column: str, names: list[Any]) -> NDArray[np.int64]:
    """Codes of a column of contrasts."""
    position = {name: code for code, name in enumerate(names)}
    for value in pd.unique(values):
        if pd.isna(value) or value not in position:
            raise not_found(f"contrasts column {values.name!r}: label", value, f"obs[{column!r}]", names)
    return np.array([position[value] for value in values], dtype=np.int64)


def _describe(row: NDArray[np.int64], names: list[list[Any]]) -> str:
    """Name a group within its levels."""
    return " / ".join(str(labels[code]) for code, labels in zip(row, names, strict=True))
