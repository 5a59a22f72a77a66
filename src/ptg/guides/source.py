"""What the methods of `GuideAssignment` accept: an AnnData or a bare matrix, read once into counts and names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pandas as pd
import scipy.sparse as sp

from ptg.data import InputError, listed, read_counts, read_matrix

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

    from ptg.kernels.contract.mixture import Assignments

#: An AnnData, or a cells x guides matrix: NumPy array, SciPy sparse matrix or array, DataFrame.
GuideData: TypeAlias = "AnnData | NDArray[Any] | sp.spmatrix | sp.sparray | pd.DataFrame"
#: Names of the guides of a bare matrix.
GuideNames: TypeAlias = "pd.DataFrame | pd.Index[Any] | Sequence[str] | None"

_LARGEST_COUNT = 2**31 - 1


@dataclass(frozen=True)
class GuideSource:
    """Counts, the names of the guides, and where they come from.

    Attributes
    ----------
    given
        What the caller passed.
    is_anndata
        Whether that is an AnnData.
    counts
        (n_cells, n_guides) canonical CSR without explicit zeros, float32 or float64.
    names
        (n_guides,) object array of strings.
    """

    given: Any
    is_anndata: bool
    counts: sp.csr_matrix[Any]
    names: NDArray[Any]

    def binary_matrix(self, assignments: Assignments) -> sp.csr_matrix[Any]:
        """Make the 0/1 matrix, int8, of a CSR pattern."""
        ones = np.ones(assignments.indices.size, dtype=np.int8)
        return sp.csr_matrix((ones, assignments.indices, assignments.indptr), shape=self.counts.shape)


def read_source(adata: GuideData, layer: str | None, var: GuideNames) -> GuideSource:
    """Read and check the counts.

    Raises
    ------
    InputError
        `layer` does not exist or comes with a bare matrix, `var` comes with an AnnData or has the wrong length, or the
        values are not counts.
    """
    if hasattr(adata, "obs") and hasattr(adata, "var_names"):
        if var is not None:
            raise InputError("var was passed with an AnnData. Leave it out: the names are adata.var_names.")
        matrix: Any = read_matrix(adata, layer=layer)
        place = "adata.X" if layer is None or layer == "X" else f"adata.layers[{layer!r}]"
        return GuideSource(adata, True, _checked_counts(matrix, place), _as_strings(adata.var_names))
    if layer is not None:
        raise InputError(f"layer={layer!r} was passed with a bare matrix. Layers exist only in an AnnData.")
    if not (isinstance(adata, (np.ndarray, pd.DataFrame)) or sp.issparse(adata)):
        raise InputError(
            f"adata is a {type(adata).__name__}. "
            "Pass an AnnData, or a cells x guides NumPy array or SciPy sparse matrix."
        )
    counts = _checked_counts(adata, "the matrix")
    if var is None and isinstance(adata, pd.DataFrame):
        var = adata.columns
    return GuideSource(adata, False, counts, _guide_names(var, counts.shape[1]))


def _checked_counts(values: object, name: str) -> sp.csr_matrix[Any]:
    counts = read_counts(values, name)
    if counts.data.size and counts.data.max() > _LARGEST_COUNT:
        raise InputError(f"{name} has counts up to {counts.data.max():g}. Pass counts of at most {_LARGEST_COUNT}.")
    return counts


def _guide_names(var: GuideNames, n_guides: int) -> NDArray[Any]:
    if var is None:
        return _as_strings(range(n_guides))
    names = var.index if isinstance(var, pd.DataFrame) else var
    if isinstance(names, str) or not hasattr(names, "__len__"):
        raise InputError(f"var={var!r} is not accepted. Pass a DataFrame, or the guide names as an Index or list.")
    if len(names) != n_guides:
        raise InputError(f"var has {len(names)} names for the {n_guides} columns of the matrix. Pass one per column.")
    return _as_strings(names)


def _as_strings(names: Any) -> NDArray[Any]:
    result = np.empty(len(names), dtype=object)
    result[:] = [str(name) for name in names]
    return result


def check_names(names: NDArray[Any], **reserved: str) -> None:
    """Raise an InputError unless labels are unambiguous: unique guide names, none of them a reserved label.

    Parameters
    ----------
    names
        Names of the guides.
    **reserved
        The other labels, by the caller's argument.
    """
    index = pd.Index(names)
    if not index.is_unique:
        repeated = index[index.duplicated()].unique().tolist()
        raise InputError(
            f"the guide names repeat {listed(repeated)}. Make them unique (adata.var_names_make_unique())."
        )
    for argument, label in reserved.items():
        if label in index:
            raise InputError(f"{argument}={label!r} is also the name of a guide. Pass another label.")
    if len(set(reserved.values())) < len(reserved):
        raise InputError(f"{' and '.join(reserved)} are both {next(iter(reserved.values()))!r}. Pass two labels.")
