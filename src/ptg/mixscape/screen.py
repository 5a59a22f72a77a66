"""The cells of a screen as mixscape, mixscale and lda see them: targets, one control, splits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ptg.data import InputError, check_label, check_string, groups_from_codes, not_found, read_labels

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

#: Name of the only split where there is no `split_by`, as in pertpy.
ALL = "all"

#: Fewest cells of a target, or of the control, that can be tested.
FEWEST_CELLS = 2


@dataclass(frozen=True)
class Split:
    """Cells that are analysed together.

    Attributes
    ----------
    name
        Text that names the split in results.
    codes
        (n_cells,) int64: label of each cell of the split, -1 for all other cells.
    control_cells
        Positions of the control cells, ascending.
    targets
        Labels with cells in the split, without the control, in label order.
    cells
        Positions of each target's cells, ascending, by label.
    """

    name: str
    codes: NDArray[np.int64]
    control_cells: NDArray[np.int64]
    targets: list[int]
    cells: dict[int, NDArray[np.int64]]

    def untestable(self, target: int) -> str:
        """Say why a target cannot be tested here; empty if it can."""
        if len(self.control_cells) < FEWEST_CELLS:
            return f"{_cells(len(self.control_cells), 'control')}, at least {FEWEST_CELLS} are needed"
        if len(self.cells[target]) < FEWEST_CELLS:
            return f"{_cells(len(self.cells[target]), '')}, at least {FEWEST_CELLS} are needed"
        return ""


def _cells(n: int, kind: str) -> str:
    return " ".join(filter(None, [str(n) if n else "no", kind, "cell" if n == 1 else "cells"]))


@dataclass(frozen=True)
class Screen:
    """Labels of all cells.

    Attributes
    ----------
    codes
        (n_cells,) int64, -1 for cells without a label.
    names
        Label of each code, as text.
    control
        Code of the control.
    split_codes
        (n_cells,) int64, -1 for cells without a split.
    split_names
        Name of each split, as text.
    """

    codes: NDArray[np.int64]
    names: list[str]
    control: int
    split_codes: NDArray[np.int64]
    split_names: list[str]

    def whole(self) -> Split:
        """All labelled cells as one split."""
        return self._split(ALL, self.codes)

    def splits(self) -> Iterator[Split]:
        """Split after split; cells without a split are in none."""
        for code, name in enumerate(self.split_names):
            yield self._split(name, np.where(self.split_codes == code, self.codes, -1))

    def _split(self, name: str, codes: NDArray[np.int64]) -> Split:
        groups = groups_from_codes(codes, self.names)
        targets = [target for target in np.flatnonzero(groups.sizes).tolist() if target != self.control]
        cells = {target: groups.cells(target) for target in targets}
        return Split(name, codes, groups.cells(self.control), targets, cells)


def read_screen(adata: AnnData, pert_key: str, control: object, split_by: object) -> Screen:
    """Read targets, control and splits.

    Raises
    ------
    InputError
        A column or the control does not exist, or different labels look the same as text.
    """
    codes, labels = read_labels(adata, pert_key, argument="pert_key")
    check_label("control", control, pert_key, labels)
    if len(labels) == 1:
        raise InputError(f"pert_key={pert_key!r} has no label but control={control!r}. There is no target to look at.")
    split_codes, splits = np.zeros(len(codes), dtype=np.int64), [ALL]
    if split_by is not None:
        split_codes, splits = read_labels(adata, check_string("split_by", split_by), argument="split_by")
    names = _as_text("pert_key", pert_key, labels)
    return Screen(codes, names, labels.index(control), split_codes, _as_text("split_by", split_by, splits))


def _as_text(argument: str, key: object, labels: list[Any]) -> list[str]:
    names = [str(label) for label in labels]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(f"{argument}={key!r} holds different labels that all read {twice!r}. Make them distinct.")
    return names


def read_log_base(adata: AnnData) -> float | None:
    """Read the base of the logarithm of the expression (``uns["log1p"]["base"]``); None is e.

    Raises
    ------
    InputError
        It is not a number above 1.
    """
    record = adata.uns.get("log1p")
    base = record.get("base") if isinstance(record, dict) else None
    if base is None:
        return None
    number = np.asarray(base)
    if number.size != 1 or number.dtype.kind not in "iuf" or not 1.0 < number.item() < np.inf:
        raise InputError(
            f"uns['log1p']['base']={base!r} is not the base of a logarithm. Write the base that X was made with, "
            "a number above 1, or None for the natural logarithm."
        )
    return float(number.item())


def gene_positions(adata: AnnData) -> dict[str, int]:
    """Position of each gene by name; the first where names repeat."""
    names = adata.var_names.astype(str).tolist()
    return dict(zip(reversed(names), reversed(range(len(names))), strict=True))


def stored_name(name: str) -> str:
    """Key in `uns` of a target or split: h5ad reads "/" as a folder, so it becomes "|"; "" and "." get "|" in front."""
    return "|" + name if name in ("", ".") else name.replace("/", "|")


def check_new_column(argument: str, name: str, columns: dict[str, str | None]) -> None:
    """Raise an InputError where a result would overwrite a column of `adata.obs` that it is computed from.

    Parameters
    ----------
    argument, name
        The caller's argument, and the column to write.
    columns
        The columns that are read, by what they hold; None for those that are not.
    """
    for content, column in columns.items():
        if column == name:
            raise InputError(f"{argument} would overwrite the {content} in obs[{name!r}]. Pass another name.")


def check_stored_names(argument: str, names: list[str]) -> None:
    """Raise an InputError where two names would share a key."""
    by_key: dict[str, str] = {}
    for name in names:
        other = by_key.setdefault(stored_name(name), name)
        if other != name:
            raise InputError(
                f"{argument}: the labels {other!r} and {name!r} differ only in '/' and '|', which share a key in "
                "adata.uns. Rename one of them."
            )


def check_global_column(adata: AnnData, key: str) -> None:
    """Raise an InputError unless mixscape has written its global classes."""
    if not isinstance(key, str) or key not in adata.obs.columns:
        fix = "Run mixscape first, or name the column that it wrote."
        raise not_found("mixscape_class_global", key, "adata.obs", list(adata.obs.columns), fix=fix)
