"""The cells that a signature is computed for: controls and splits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ptg.data import InputError, check_label, listed, read_labels

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

    from ptg.mixscape.parameters import SignatureParameters


@dataclass(frozen=True)
class Cells:
    """What the signature needs to know of the cells.

    Attributes
    ----------
    controls
        Positions of the control cells.
    split_of_cell
        Number of each cell's split; all 0 without `split_by`.
    splits
        Names of the splits.
    """

    controls: NDArray[np.int64]
    split_of_cell: NDArray[np.int64]
    splits: list[Any]


def read_cells(adata: AnnData, pert_key: str, control: str, parameters: SignatureParameters) -> Cells:
    """Read controls and splits."""
    codes, names = read_labels(adata, pert_key, argument="pert_key")
    check_label("control", control, pert_key, names)
    controls = np.flatnonzero(codes == names.index(control))
    split_of_cell, splits = np.zeros(adata.n_obs, dtype=np.int64), ["all cells"]
    if parameters.split_by is not None:
        split_of_cell, splits = read_labels(adata, parameters.split_by, argument="split_by")
        _check_splits(adata, parameters.split_by, split_of_cell, splits, controls)
    return Cells(controls, split_of_cell, splits)


def _check_splits(
    adata: AnnData, split_by: str, split_of_cell: NDArray[np.int64], splits: list[Any], controls: NDArray[np.int64]
) -> None:
    missing = np.flatnonzero(split_of_cell < 0)
    if len(missing):
        raise InputError(
            f"split_by={split_by!r}: {len(missing)} cell(s) have no label in it: "
            f"{listed(adata.obs_names[missing].tolist())}. Label or remove them."
        )
    n_controls = np.bincount(split_of_cell[controls], minlength=len(splits))
    empty = [splits[split] for split in np.flatnonzero(n_controls == 0)]
    if empty:
        raise InputError(
            f"split_by={split_by!r}: {listed(empty)} has no control cell, so its cells have no reference. "
            "Merge it with another split, or remove its cells."
        )
