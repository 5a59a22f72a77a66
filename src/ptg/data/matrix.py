"""AnnData to matrices: the one place that knows `X`, layers, obsm, sparse formats and backed files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias, cast

import numpy as np
import scipy.sparse as sp

from ptg.data.errors import InputError, not_found
from ptg.data.gpu_arrays import all_true, array_module, current_device, is_gpu_array, is_sparse, sparse_module
from ptg.data.scan import is_canonical, is_finite

if TYPE_CHECKING:
    from collections.abc import Callable

    from anndata import AnnData
    from numpy.typing import NDArray

#: What the rest of ptg computes on: C-ordered rows or canonical CSR, float32 or float64, all values finite. On a GPU,
#: where the caller's data are there: of CuPy and cupyx instead of NumPy and SciPy.
Matrix: TypeAlias = "NDArray[Any] | sp.csr_matrix[Any]"


def read_matrix(
    adata: AnnData,
    *,
    layer: str | None = None,
    obsm: str | None = None,
    argument: str = "layer",
    bring: Callable[[Any], Any] | None = None,
    check: bool = True,
) -> Matrix:
    """Read one matrix of an AnnData: `as_matrix` of what `find_matrix` finds.

    Parameters
    ----------
    adata, layer, obsm, argument
        See `find_matrix`. The data are never changed; backed files are read into memory.
    bring, check
        See `as_matrix`.

    Returns
    -------
    Matrix of shape (n_obs, n_columns), see `as_matrix`.

    Raises
    ------
    InputError
        The key does not exist, or the matrix is not accepted by `as_matrix`.
    """
    return as_matrix(*find_matrix(adata, layer=layer, obsm=obsm, argument=argument), bring=bring, check=check)


def find_matrix(
    adata: AnnData, *, layer: str | None = None, obsm: str | None = None, argument: str = "layer"
) -> tuple[Any, str]:
    """Find one matrix of an AnnData, as it is stored there.

    Parameters
    ----------
    adata
        The data.
    layer
        Key of `adata.layers`; ``"X"`` or None is `adata.X`.
    obsm
        Key of `adata.obsm`; takes the place of `layer`.
    argument
        The caller's name for `layer`, for the error message.

    Returns
    -------
    The matrix, and how error messages call it: ``adata.X``, ``adata.layers['counts']`` or ``adata.obsm['X_pca']``.

    Raises
    ------
    InputError
        The key does not exist.
    """
    check_anndata(adata)
    if obsm is not None:
        if obsm not in adata.obsm:
            raise not_found("obsm_key", obsm, "adata.obsm", list(adata.obsm))
        return adata.obsm[obsm], f"adata.obsm[{obsm!r}]"
    if layer is not None and layer != "X":
        if not isinstance(layer, str) or layer not in adata.layers:
            raise not_found(argument, layer, "adata.layers", layer_names(adata), fix="Pass one of them, or 'X'.")
        return adata.layers[layer], f"adata.layers[{layer!r}]"
    if adata.X is None:
        raise InputError(f"{argument}={layer!r} means adata.X, which is empty. Name a layer that holds the data.")
    return adata.X, "adata.X"


def layer_names(adata: AnnData) -> list[str]:
    """List the layers. Since anndata 0.13 `adata.layers` also holds X, as None."""
    return [name for name in adata.layers if name is not None]


def check_anndata(adata: object) -> None:
    """Reject anything that is not an AnnData, without importing anndata for those who pass arrays."""
    if not all(hasattr(adata, name) for name in ("obs", "obsm", "layers", "n_obs")):
        raise InputError(f"adata is a {type(adata).__name__}. Pass an AnnData.")


def as_matrix(values: object, name: str, *, bring: Callable[[Any], Any] | None = None, check: bool = True) -> Matrix:
    """Bring any accepted array into the form the kernels take; the caller's object is never modified.

    Parameters
    ----------
    values
        NumPy array, SciPy sparse matrix or array of any format, DataFrame, or a backed AnnData matrix; CuPy array or
        cupyx sparse matrix of any format.
    name
        How the error message should call it.
    bring
        Moves an array or CSR matrix to where it is used, as `Run.to_device` does: its values are read there only. None
        leaves it where it is.
    check
        Whether all values must be finite. Without, the caller checks those that it uses (`check_finite`).

    Returns
    -------
    C-ordered ndarray or canonical CSR matrix (sorted, no duplicates) of NumPy and SciPy, or of CuPy and cupyx; float32
    stays float32, everything else becomes float64. Shares memory with the input where nothing had to change.

    Raises
    ------
    InputError
        Not two-dimensional, not numeric, empty, or with NaN or infinite values.
    """
    with current_device(values):
        matrix = _standard_type(values, name)
        if len(matrix.shape) != 2:
            raise InputError(
                f"{name} has {len(matrix.shape)} dimension(s), shape {matrix.shape}. Pass a cells x columns matrix."
            )
        if 0 in matrix.shape:
            raise InputError(f"{name} is empty: shape {matrix.shape}. At least one cell and one column are needed.")
        if matrix.dtype.kind not in "fiub":
            raise InputError(f"{name} holds {matrix.dtype} values. Pass numbers (float32, float64 or integers).")
        dtype = np.float32 if matrix.dtype == np.float32 else np.float64
        if is_sparse(matrix) and matrix.dtype != dtype:
            matrix = matrix.astype(dtype)  # before it moves: cupyx has no sparse integers
    matrix = matrix if bring is None else bring(matrix)
    with current_device(matrix):
        matrix = _canonical(matrix) if is_sparse(matrix) else _contiguous(matrix, dtype)
        if check:
            check_finite(matrix, name)
        return cast("Matrix", matrix)


def _standard_type(values: object, name: str) -> Any:
    """Unwrap containers: ndarray or CSR, no copy where none is needed."""
    if hasattr(values, "to_memory"):  # anndata's backed sparse datasets
        values = values.to_memory()
    if is_sparse(values):
        return sparse_module(values).csr_matrix(values)  # shares the arrays of a CSR input
    if is_gpu_array(values):
        return values
    if isinstance(values, np.ma.MaskedArray) and np.ma.is_masked(values):
        raise InputError(f"{name} is masked in places. Remove those cells or columns, or fill them, first.")
    if isinstance(values, np.ndarray):
        return np.asarray(values)
    if hasattr(values, "to_numpy"):  # DataFrame
        return np.asarray(values.to_numpy())
    if type(values).__module__.partition(".")[0] == "h5py":
        return np.asarray(values[...])  # type: ignore[index]
    raise InputError(
        f"{name} is a {type(values).__module__}.{type(values).__name__}. "
        "Pass a NumPy array, a SciPy sparse matrix or a DataFrame (or the like of CuPy and cupyx)."
    )


def _canonical(matrix: Any) -> Any:
    """CSR with sorted indices and no duplicates, without touching the caller's arrays."""
    if not is_canonical(matrix):
        matrix = matrix.copy()
        matrix.sum_duplicates()
    return matrix


def _contiguous(matrix: Any, dtype: Any) -> Any:
    return array_module(matrix).ascontiguousarray(matrix.astype(dtype, copy=False))


def check_finite(matrix: Any, name: str) -> None:
    """Raise an InputError if a matrix, on the host or on a GPU, has NaN or infinite values."""
    stored = matrix.data if is_sparse(matrix) else matrix
    with current_device(stored):
        if is_finite(stored):
            return
        n_bad = int((~np.isfinite(stored)).sum())
    if n_bad:
        raise InputError(
            f"{name} has {n_bad} NaN or infinite value(s) among {stored.size}. "
            "Remove those cells or columns, or impute them, first."
        )


def read_counts(values: object, name: str, *, bring: Callable[[Any], Any] | None = None) -> sp.csr_matrix[Any]:
    """Bring guide counts into canonical CSR without explicit zeros.

    Parameters
    ----------
    values, bring
        As `as_matrix` takes; non-negative whole numbers of any dtype.
    name
        How the error message should call them.

    Raises
    ------
    InputError
        As `as_matrix`, and for negative or fractional values.
    """
    matrix = as_matrix(values, name, bring=bring)
    with current_device(matrix):
        counts: Any = matrix if is_sparse(matrix) else sparse_module(matrix).csr_matrix(matrix)
        check_counts(counts.data, name)
        if counts.data.size and counts.data.min() == 0:  # none is below
            counts = counts.copy()
            counts.eliminate_zeros()
        return cast("sp.csr_matrix[Any]", counts)


def check_counts(stored: NDArray[Any], name: str) -> None:
    """Raise an InputError unless all stored values, NumPy's or CuPy's, are non-negative whole numbers."""
    smallest = float(stored.min()) if stored.size else 0.0
    if smallest < 0:
        raise InputError(f"{name} has negative values (minimum {smallest:g}). Pass raw, unnormalised counts.")
    is_whole = stored == np.floor(stored)
    if not all_true(is_whole):
        raise InputError(
            f"{name} has {int((~is_whole).sum())} value(s) that are not whole numbers. Pass raw, unnormalised counts "
            "(another layer, perhaps)."
        )


def dense_rows(matrix: Matrix, rows: slice | NDArray[Any]) -> NDArray[Any]:
    """Rows of a matrix as a dense array: the only way large sparse data is ever densified, a block at a time."""
    block: Any = matrix[rows]
    return cast("NDArray[Any]", block.toarray() if is_sparse(block) else block)
