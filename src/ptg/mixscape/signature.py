"""The perturbation signature: what a cell lacks, or has too much of, compared with similar control cells."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp

from ptg.data import (
    InputError,
    Matrix,
    StagedWrites,
    check_flag,
    check_label,
    dense_rows,
    entry_point,
    groups_from_codes,
    listed,
    not_found,
    read_labels,
    read_matrix,
    warn,
)
from ptg.data.embedding import principal_components
from ptg.execute import available_memory, open_run
from ptg.mixscape.parameters import SignatureParameters, check_signature_parameters
from ptg.mixscape.signature_source import LAYER, NEIGHBORS, PARAMETERS, REFERENCE

if TYPE_CHECKING:
    from collections.abc import Callable

    from anndata import AnnData
    from numpy.typing import NDArray

    from ptg.execute import Run

_SMALL_N_VARS = 50
"""Below this many genes X itself is the representation, as in scanpy."""

_DEFAULT_N_PCS = 50

_BLOCK_BYTES = 4 << 20
"""Cells subtracted at a time, in float64, where that is all there is to do."""

_DENSE_SHARE = 0.5
"""Largest share of the free memory that the dense layer may take before `output="auto"` keeps the graph."""


@entry_point
def perturbation_signature(
    adata: AnnData,
    pert_key: str,
    control: str,
    *,
    ref_selection_mode: str = "nn",
    split_by: str | None = None,
    n_neighbors: int = 20,
    use_rep: str | None = None,
    n_dims: int | None = 15,
    n_pcs: int | None = None,
    knn_algorithm: str = "brute",
    knn_kwargs: dict[str, Any] | None = None,
    batch_size: int | None = None,
    output: str = "auto",
    copy: bool = False,
    device: str | None = None,
    show_progressbar: bool = True,
) -> AnnData | None:
    """Subtract each cell from the mean of comparable control cells.

    Parameters
    ----------
    adata
        Unscaled, log1p-transformed expression in `adata.X`.
    pert_key
        Column of `adata.obs` with the perturbations. Cells without a label get a signature too.
    control
        The control group in `pert_key`. Control cells get a signature too, each being its own nearest neighbour.
    ref_selection_mode
        ``"nn"``: the reference of a cell are its `n_neighbors` nearest control cells. ``"split_by"``: all control
        cells of its split.
    split_by
        Column of `adata.obs`, e.g. the replicate: references come from the cell's own split. Every cell needs a label
        in it and every split control cells.
    n_neighbors
        Number of nearest controls. A split with fewer controls uses all it has, and one warning lists such splits.
    use_rep
        Where distances are measured: ``"X"`` or a key of `adata.obsm`. None: X below 50 genes, else ``"X_pca"``, which
        is computed and written to `adata.obsm` if it does not exist (from ``var["highly_variable"]`` if that is set).
    n_dims
        Use the first dimensions only; None uses all.
    n_pcs
        Number of principal components to compute (default 50), or to take from ``"X_pca"``; 0 stands for
        ``use_rep="X"``.
    knn_algorithm
        ``"brute"``, the exact search. The approximate ``"ivfflat"``, ``"ivfpq"`` and ``"cagra"`` need a GPU.
    knn_kwargs
        Options of the approximate searches; ``"brute"`` has none.
    batch_size
        Cells computed at a time by one thread; None chooses. It does not change the result.
    output
        ``"layer"`` writes the dense signature. ``"graph"`` keeps what it follows from (the neighbour graph, or the mean
        controls), a few hundred bytes per cell, from which Mixscape and Mixscale compute the columns that they need:
        X must then stay as it is. ``"auto"`` writes the layer unless it would take more than half of the free memory;
        a warning says so.
    copy
        Write to a copy of `adata` and return it.
    device
        ``"auto"``, ``"cpu"``; None takes ``ptg.settings.device``.
    show_progressbar
        Show a bar when the work takes a while and somebody watches.

    Returns
    -------
    None, or the copy. Written are ``layers["X_pert"]`` (dense; float32 for float32 X, else float64), or for ``"graph"``
    ``obsp["X_pert_neighbors"]`` (cells x cells, weight 1/k for each of the k neighbours; mode ``"nn"``) respectively
    ``obsm["X_pert_reference"]`` and ``varm["X_pert_reference"]`` (the split of each cell and the mean control of each
    split), and the arguments in ``uns["X_pert"]``.

    Raises
    ------
    InputError
        An argument is not accepted, a column, group or representation does not exist, cells lack a split label, or a
        split has no control cell.

    Notes
    -----
    With R(i) the reference controls of cell i, mode ``"nn"`` gives ``log1p(mean_{j in R(i)} expm1(x_j)) - x_i`` and
    mode ``"split_by"`` gives ``mean_{j in R(i)} x_j - x_i``. Distances are Euclidean, in float64; among controls at
    equal distance the first in the data are taken. Sign and conventions are pertpy's, the method is that of Papalexi
    et al. (2021), https://doi.org/10.1038/s41588-021-00778-2.

    Examples
    --------
    >>> import anndata, numpy, pandas
    >>> x = numpy.log1p(numpy.array([[1.0], [3.0], [7.0]]))
    >>> obs = pandas.DataFrame({"perturbation": ["NT", "NT", "A"]}, index=["a", "b", "c"])
    >>> adata = anndata.AnnData(x, obs=obs)
    >>> perturbation_signature(adata, "perturbation", "NT", n_neighbors=1)
    >>> numpy.expm1(-adata.layers["X_pert"][:, 0]).round(3).tolist()
    [-0.0, -0.0, 1.0]
    """
    parameters = check_signature_parameters(
        ref_selection_mode=ref_selection_mode,
        split_by=split_by,
        n_neighbors=n_neighbors,
        use_rep=use_rep,
        n_dims=n_dims,
        n_pcs=n_pcs,
        knn_algorithm=knn_algorithm,
        knn_kwargs=knn_kwargs,
        batch_size=batch_size,
        output=output,
    )
    copy = check_flag("copy", copy)
    cells = _read_cells(adata, pert_key, control, parameters)
    with open_run("perturbation signature", device=device, show_progressbar=show_progressbar) as run:
        results = _SELECTION[parameters.ref_selection_mode](adata, cells, parameters, run)
    results.parameters.update({"pert_key": pert_key, "control": control})
    target = adata.copy() if copy else adata
    with StagedWrites(target) as staged:
        results.stage(staged)
    return target if copy else None


@dataclass(frozen=True)
class _Cells:
    """What the signature needs to know of the cells.

    Attributes
    ----------
    expression
        `adata.X`.
    controls
        Positions of the control cells.
    split_of_cell
        Number of each cell's split; all 0 without `split_by`.
    splits
        Names of the splits.
    """

    expression: Matrix
    controls: NDArray[np.int64]
    split_of_cell: NDArray[np.int64]
    splits: list[Any]


@dataclass(frozen=True)
class _Results:
    """Everything to write, by slot and key."""

    values: dict[tuple[str, str], Any]
    parameters: dict[str, Any]

    def stage(self, staged: StagedWrites) -> None:
        """Stage the results and the removal of those of an earlier call that they replace."""
        values = dict(self.values)
        if ("layers", LAYER) not in values:
            values["uns", PARAMETERS] = self.parameters
        for (slot, key), value in values.items():
            staged.put(slot, key, value)
        for slot, key in _OWN_KEYS:
            if (slot, key) not in values:
                staged.remove(slot, key)


_OWN_KEYS = (
    ("layers", LAYER),
    ("obsp", NEIGHBORS),
    ("obsm", REFERENCE),
    ("varm", REFERENCE),
    ("uns", PARAMETERS),
)


def _read_cells(adata: AnnData, pert_key: str, control: str, parameters: SignatureParameters) -> _Cells:
    codes, names = read_labels(adata, pert_key, argument="pert_key")
    check_label("control", control, pert_key, names)
    controls = np.flatnonzero(codes == names.index(control))
    split_of_cell, splits = np.zeros(adata.n_obs, dtype=np.int64), ["all cells"]
    if parameters.split_by is not None:
        split_of_cell, splits = read_labels(adata, parameters.split_by, argument="split_by")
        _check_splits(adata, parameters.split_by, split_of_cell, splits, controls)
    return _Cells(read_matrix(adata), controls, split_of_cell, splits)


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


# --- ref_selection_mode="nn" -------------------------------------------------------------------------------------


def _by_neighbors(adata: AnnData, cells: _Cells, parameters: SignatureParameters, run: Run) -> _Results:
    representation, computed = _representation(adata, cells.expression, parameters)
    offsets, neighbors = _neighbor_graph(representation, cells, parameters, run)
    written: dict[tuple[str, str], Any] = {("obsm", key): value for key, value in computed.items()}
    kept = {"ref_selection_mode": "nn", "n_neighbors": parameters.n_neighbors}
    if not _wants_layer(cells.expression, parameters):
        weights = np.repeat(1.0 / np.diff(offsets), np.diff(offsets))
        shape = (len(cells.split_of_cell),) * 2
        written["obsp", NEIGHBORS] = sp.csr_matrix((weights, neighbors, offsets), shape=shape)
        return _Results(written, kept)
    out = np.empty(cells.expression.shape, dtype=cells.expression.dtype)
    run.kernels.neighbors.neighbor_signature(
        cells.expression,
        np.arange(len(out)),
        offsets,
        neighbors,
        out=out,
        resources=run.resources,
        batch_size=parameters.batch_size,
    )
    written["layers", LAYER] = out
    return _Results(written, kept)


def _neighbor_graph(
    representation: Matrix, cells: _Cells, parameters: SignatureParameters, run: Run
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
        size = parameters.batch_size or max(run.resources.memory // (16 * reference.shape[1]), 1)
        for start in range(0, len(members), size):
            part = members[start : start + size]
            found, _ = run.kernels.neighbors.nearest(
                reference, dense_rows(representation, part), k, resources=run.resources
            )
            found.sort(axis=1)
            neighbors[offsets[part][:, None] + np.arange(k)] = controls[found]
    return offsets, neighbors


def _warn_capped(splits: list[Any], n_controls: NDArray[np.int64], n_neighbors: int) -> None:
    small = [f"{splits[split]} ({n_controls[split]})" for split in np.flatnonzero(n_controls < n_neighbors)]
    if small:
        warn(f"n_neighbors={n_neighbors} exceeds the control cells of {listed(small)}: all of them are used there.")


def _representation(
    adata: AnnData, expression: Matrix, parameters: SignatureParameters
) -> tuple[Matrix, dict[str, NDArray[Any]]]:
    """Where distances are measured, and what had to be computed for it by obsm key."""
    use_rep, n_pcs = parameters.use_rep, parameters.n_pcs
    if use_rep is None:
        use_rep = "X" if n_pcs == 0 or adata.n_vars < _SMALL_N_VARS else "X_pca"
        if use_rep not in ("X", *adata.obsm):
            scores = _compute_pca(adata, expression, n_pcs or _DEFAULT_N_PCS)
            return _leading(scores, parameters.n_dims), {"X_pca": scores}
    if use_rep == "X":
        return _leading(expression, parameters.n_dims), {}
    if use_rep not in adata.obsm:
        raise not_found("use_rep", use_rep, "adata.obsm", list(adata.obsm), fix="Pass one of them, or 'X'.")
    values = read_matrix(adata, obsm=use_rep)
    if n_pcs is not None and n_pcs > values.shape[1]:
        raise InputError(
            f"n_pcs={n_pcs} exceeds the {values.shape[1]} dimensions of obsm[{use_rep!r}]. Pass at most that many."
        )
    return _leading(_leading(values, n_pcs or None), parameters.n_dims), {}


def _leading(matrix: Matrix, n_columns: int | None) -> Matrix:
    """Take the first columns, without a copy where that is all of them."""
    return matrix if n_columns is None or n_columns >= matrix.shape[1] else matrix[:, :n_columns]


def _compute_pca(adata: AnnData, expression: Matrix, n_pcs: int) -> NDArray[Any]:
    """Compute principal components, of the highly variable genes where those are marked (as scanpy does)."""
    if "highly_variable" in adata.var:
        expression = expression[:, np.asarray(adata.var["highly_variable"], dtype=bool)]
    return principal_components(expression, n_pcs)


# --- ref_selection_mode="split_by" -------------------------------------------------------------------------------


def _by_split(adata: AnnData, cells: _Cells, parameters: SignatureParameters, run: Run) -> _Results:
    expression, split_of_cell, n_splits = cells.expression, cells.split_of_cell, len(cells.splits)
    references = _mean_controls(cells, run)
    if not _wants_layer(expression, parameters):
        one_per_cell = (np.ones(adata.n_obs), split_of_cell, np.arange(adata.n_obs + 1))
        membership = sp.csr_matrix(one_per_cell, shape=(adata.n_obs, n_splits))
        kept = {"ref_selection_mode": "split_by", "split_by": parameters.split_by}
        return _Results({("obsm", REFERENCE): membership, ("varm", REFERENCE): references.T.copy()}, kept)
    out = np.empty(expression.shape, dtype=expression.dtype)
    size = parameters.batch_size or max(_BLOCK_BYTES // (8 * adata.n_vars), 1)
    run.resources.progress.start(adata.n_obs)
    for start in range(0, adata.n_obs, size):
        part = slice(start, min(start + size, adata.n_obs))
        out[part] = references[split_of_cell[part]] - dense_rows(expression, part)
        run.resources.progress.advance(part.stop - part.start)
    return _Results({("layers", LAYER): out}, {})


def _mean_controls(cells: _Cells, run: Run) -> NDArray[np.float64]:
    """Mean expression of the controls in each split."""
    groups = groups_from_codes(cells.split_of_cell[cells.controls], cells.splits)
    values = cells.expression[cells.controls[groups.order]]
    sums = run.kernels.moments.group_sums(values, groups.offsets, resources=run.resources)
    return np.asarray(sums / groups.sizes[:, None])


_SELECTION: dict[str, Callable[[AnnData, _Cells, SignatureParameters, Run], _Results]] = {
    "nn": _by_neighbors,
    "split_by": _by_split,
}


def _wants_layer(expression: Matrix, parameters: SignatureParameters) -> bool:
    if parameters.output != "auto":
        return parameters.output == "layer"
    needed = expression.shape[0] * expression.shape[1] * expression.dtype.itemsize
    free = available_memory()
    if needed <= _DENSE_SHARE * free:
        return True
    warn(
        f"the dense signature would take {needed / 2**30:.1f} GiB of the {free / 2**30:.1f} GiB that are free. What it "
        "follows from is kept in its place, and Mixscape and Mixscale compute the columns they need. Pass "
        "output='layer' to write the layer all the same, or output='graph' to do without this warning."
    )
    return False
