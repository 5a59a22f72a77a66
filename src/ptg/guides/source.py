"""What the methods of `GuideAssignment` accept: an AnnData or a bare matrix of counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pandas as pd
import scipy.sparse as sp

from ptg.data import InputError, find_matrix, is_gpu_array, is_sparse, listed, read_counts
from ptg.execute import place_like

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

    from ptg.execute import Run
    from ptg.kernels.contract.mixture import Assignments

#: An AnnData, or a cells x guides matrix: array or sparse matrix of NumPy, SciPy, CuPy or cupyx, DataFrame.
GuideData: TypeAlias = "AnnData | NDArray[Any] | sp.spmatrix | sp.sparray | pd.DataFrame"
#: Names of the guides of a bare matrix.
GuideNames: TypeAlias = "pd.DataFrame | pd.Index[Any] | Sequence[str] | None"

_LARGEST_COUNT = 2**31 - 1


@dataclass(frozen=True)
class GuideSource:
    """Where the counts come from, and the names of the guides.

    Attributes
    ----------
    given
        What the caller passed.
    is_anndata
        Whether that is an AnnData.
    matrix, place
        The cells x guides matrix as it is stored, and how error messages call it.
    names
        (n_guides,) object array of strings.
    """

    given: Any
    is_anndata: bool
    matrix: Any
    place: str
    names: NDArray[Any]

    def read_counts(self, run: Run) -> sp.csr_matrix[Any]:
        """Read and check the counts where a run can use them: canonical CSR without explicit zeros, float32 or float64.

        Raises
        ------
        InputError
            The values are not counts.
        """
        counts = read_counts(self.matrix, self.place, bring=run.near)
        largest = float(counts.data.max()) if counts.data.size else 0.0
        if largest > _LARGEST_COUNT:
            raise InputError(f"{self.place} has counts up to {largest:g}. Pass counts of at most {_LARGEST_COUNT}.")
        return counts

    def binary_matrix(self, assignments: Assignments) -> Any:
        """Make the 0/1 matrix of a CSR pattern where the counts live: int8, or float32 on a GPU."""
        ones = np.ones(assignments.indices.size, dtype=np.int8)
        binary = sp.csr_matrix((ones, assignments.indices, assignments.indptr), shape=self.matrix.shape)
        return place_like(binary, self.matrix)


def find_source(adata: GuideData, layer: str | None, var: GuideNames) -> GuideSource:
    """Find the counts, and check the names.

    Raises
    ------
    InputError
        `layer` does not exist or comes with a bare matrix, or `var` comes with an AnnData or has the wrong length.
    """
    if hasattr(adata, "obs") and hasattr(adata, "var_names"):
        if var is not None:
            raise InputError("var was passed with an AnnData. Leave it out: the names are adata.var_names.")
        return GuideSource(adata, True, *find_matrix(adata, layer=layer), _as_strings(adata.var_names))
    if layer is not None:
        raise InputError(f"layer={layer!r} was passed with a bare matrix. Layers exist only in an AnnData.")
    if not (isinstance(adata, (np.ndarray, pd.DataFrame)) or is_sparse(adata) or is_gpu_array(adata)):
        raise InputError(
            f"adata is a {type(adata).__name__}. "
            "Pass an AnnData, or a cells x guides NumPy array or SciPy sparse matrix."
        )
    matrix: Any = adata
    if len(matrix.shape) != 2:
        raise InputError(
            f"the matrix has {len(matrix.shape)} dimension(s), shape {matrix.shape}. Pass a cells x columns matrix."
        )
    if var is None and isinstance(adata, pd.DataFrame):
        var = adata.columns
    return GuideSource(adata, False, adata, "the matrix", _guide_names(var, matrix.shape[1]))


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
