"""The nearest control cells of every cell."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from ptg.data import InputError, Matrix, dense_rows, listed, not_found, read_matrix, warn
from ptg.data.embedding import highly_variable, principal_components
from ptg.execute import to_host

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

    from ptg.execute import Run
    from ptg.mixscape.parameters import SignatureParameters
    from ptg.mixscape.signature_cells import Cells

_SMALL_N_VARS = 50
"""Below this many genes X itself is the representation, as in scanpy."""

_DEFAULT_N_PCS = 50

_QUERY_BYTES = 1 << 30
"""Coordinates of cells whose neighbours are sought at a time."""

#: Positions of the k nearest references (first argument) of some queries (second).
Search: TypeAlias = "Callable[[NDArray[Any], NDArray[Any], int], NDArray[np.int64]]"


def find_search(parameters: SignatureParameters, run: Run) -> Search:
    """Choose the neighbour search; see `perturbation_signature`."""
    name, kernels = parameters.knn_algorithm, run.kernels.neighbors
    if name == "brute":
        return lambda reference, query, k: kernels.nearest(reference, query, k, resources=run.resources)[0]
    approximate = kernels.APPROXIMATE.get(name)
    if approximate is None:
        raise InputError(
            f"knn_algorithm={name!r} is an approximate search that needs a GPU with cuVS. Pass 'brute', which is exact."
        )
    if find_spec("cuvs") is None:
        raise InputError(
            f"knn_algorithm={name!r} needs cuVS, which is not installed. Install cuvs-cu12 or cuvs-cu13, as CuPy is "
            "for (pip install cuvs-cu13), or pass 'brute', which is exact."
        )

    def search(reference: NDArray[Any], query: NDArray[Any], k: int) -> NDArray[np.int64]:
        try:
            found = approximate(reference, query, k, options=parameters.knn_options, resources=run.resources)
        except ValueError as error:
            raise InputError(
                f"knn_algorithm={name!r}: cuVS does not take {len(reference)} controls with "
                f"knn_kwargs={parameters.knn_options!r} ({error}). Pass other knn_kwargs, or 'brute', which is exact."
            ) from error
        missing = int(np.count_nonzero(found.min(axis=1) < 0))
        if missing:
            raise InputError(
                f"knn_algorithm={name!r} found fewer than {k} neighbours of {missing} cell(s). Pass larger knn_kwargs "
                "('n_probes', 'itopk_size'), or 'brute', which is exact."
            )
        return found

    return search


def neighbor_graph(
    representation: Matrix, cells: Cells, parameters: SignatureParameters, search: Search
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Control neighbours of every cell, sorted by position: offsets (n_cells + 1,) and cells."""
    split_of_control = cells.split_of_cell[cells.controls]
    n_controls = np.bincount(split_of_control, minlength=len(cells.splits))
    k_of_split = np.minimum(n_controls, parameters.n_neighbors)
    _warn_capped(cells.splits, n_controls, parameters.n_neighbors)
    offsets = np.concatenate([[0], np.cumsum(k_of_split[cells.split_of_cell])])
    neighbors = np.empty(offsets[-1], dtype=np.int64)
    for split, k in enumerate(k_of_split.tolist()):
        members = np.flatnonzero(cells.split_of_cell == split)
        controls = cells.controls[split_of_control == split]
        reference = dense_rows(representation, controls)
        size = parameters.batch_size or max(_QUERY_BYTES // (16 * reference.shape[1]), 1)
        for start in range(0, len(members), size):
            part = members[start : start + size]
            found = search(reference, dense_rows(representation, part), k)
            found.sort(axis=1)
            neighbors[offsets[part][:, None] + np.arange(k)] = controls[found]
    return offsets, neighbors


def _warn_capped(splits: list[Any], n_controls: NDArray[np.int64], n_neighbors: int) -> None:
    small = [f"{splits[split]} ({n_controls[split]})" for split in np.flatnonzero(n_controls < n_neighbors)]
    if small:
        warn(f"n_neighbors={n_neighbors} exceeds the control cells of {listed(small)}: all of them are used there.")


def representation_of(adata: AnnData, parameters: SignatureParameters) -> tuple[Matrix, dict[str, NDArray[Any]]]:
    """Where distances are measured, on the host, and what had to be computed for it by obsm key."""
    use_rep, n_pcs = parameters.use_rep, parameters.n_pcs
    if use_rep is None:
        use_rep = "X" if n_pcs == 0 or adata.n_vars < _SMALL_N_VARS else "X_pca"
        if use_rep not in ("X", *adata.obsm):
            scores = _compute_pca(adata, n_pcs or _DEFAULT_N_PCS)
            return _leading(scores, parameters.n_dims), {"X_pca": scores}
    if use_rep == "X":
        return _leading(read_matrix(adata, bring=to_host), parameters.n_dims), {}
    if use_rep not in adata.obsm:
        raise not_found("use_rep", use_rep, "adata.obsm", list(adata.obsm), fix="Pass one of them, or 'X'.")
    values = read_matrix(adata, obsm=use_rep, bring=to_host)
    if n_pcs is not None and n_pcs > values.shape[1]:
        raise InputError(
            f"n_pcs={n_pcs} exceeds the {values.shape[1]} dimensions of obsm[{use_rep!r}]. Pass at most that many."
        )
    return _leading(_leading(values, n_pcs or None), parameters.n_dims), {}


def _leading(matrix: Matrix, n_columns: int | None) -> Matrix:
    """Take the first columns, without a copy where that is all of them."""
    return matrix if n_columns is None or n_columns >= matrix.shape[1] else matrix[:, :n_columns]


def _compute_pca(adata: AnnData, n_pcs: int) -> NDArray[Any]:
    """Compute principal components, of the highly variable genes where those are marked (as scanpy does)."""
    return principal_components(highly_variable(adata, read_matrix(adata, bring=to_host)), n_pcs)
