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
    all_true,
    check_copy,
    dense_rows,
    entry_point,
    groups_from_codes,
    warn,
)
from ptg.execute import array_module, available_memory, open_run, place_like, to_host
from ptg.mixscape.inputs import Inputs
from ptg.mixscape.neighbor_graph import find_search, neighbor_graph, representation_of
from ptg.mixscape.parameters import SignatureParameters, check_signature_parameters
from ptg.mixscape.signature_cells import Cells, read_cells
from ptg.mixscape.signature_source import LAYER, NEIGHBORS, PARAMETERS, REFERENCE

if TYPE_CHECKING:
    from collections.abc import Callable

    from anndata import AnnData
    from numpy.typing import NDArray

    from ptg.execute import Run

_BLOCK_BYTES = {"numpy": 4 << 20, "cupy": 256 << 20}
"""Cells subtracted at a time, in float64, where that is all there is to do."""

_CHECKED_VALUES = 1 << 26
"""Values looked at together before exponentials are taken."""

_DENSE_SHARE = 0.5
"""Largest share of the free memory that the dense layer may take before `output="auto"` keeps the graph."""


class SignatureTool:
    """What Mixscape and Mixscale have in common: a device, and the signature that both begin with.

    Parameters
    ----------
    device
        ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"cuda:1"``; None takes ``ptg.settings.device``.
    """

    def __init__(self, *, device: str | None = None) -> None:
        self.device = device

    @entry_point
    def perturbation_signature(
        self,
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
            Column of `adata.obs`, e.g. the replicate: references come from the cell's own split. Every cell needs a
            label in it and every split control cells.
        n_neighbors
            Number of nearest controls. A split with fewer controls uses all it has, and one warning lists such splits.
        use_rep
            Where distances are measured: ``"X"`` or a key of `adata.obsm`. None: X below 50 genes, else ``"X_pca"``,
            which is computed and written to `adata.obsm` if it does not exist (from ``var["highly_variable"]`` if that
            is set).
        n_dims
            Use the first dimensions only; None uses all.
        n_pcs
            Number of principal components to compute (default 50), or to take from ``"X_pca"``; 0 stands for
            ``use_rep="X"``.
        knn_algorithm
            ``"brute"``, the exact search. The approximate ``"ivfflat"``, ``"ivfpq"`` and ``"cagra"`` need a GPU and
            cuVS, and may give other neighbours on another version or device.
        knn_kwargs
            Options of the approximate searches, by cuVS's names: ``n_lists`` (default: square root of the number of
            controls) and ``n_probes``; ``"ivfpq"`` also ``pq_bits``, ``pq_dim``; ``"cagra"`` instead ``graph_degree``,
            ``intermediate_graph_degree``, ``itopk_size``.
        batch_size
            Cells computed at a time by one thread; None chooses. It does not change the result.
        output
            ``"layer"`` writes the dense signature. ``"graph"`` keeps what it follows from (the neighbour graph, or the
            mean controls), a few hundred bytes per cell, from which Mixscape and Mixscale compute the columns that they
            need: X must then stay as it is. ``"auto"`` writes the layer unless it would take more than half of the free
            memory; a warning says so.
        copy
            Write to a copy of `adata` and return it.
        show_progressbar
            Show a bar when the work takes a while and somebody watches.

        Returns
        -------
        None, or the copy. Written are ``layers["X_pert"]`` (dense; float32 for float32 X, else float64; on the GPU
        where X is a CuPy or cupyx matrix), or for ``"graph"`` ``obsp["X_pert_neighbors"]`` (cells x cells, weight 1/k
        for each of the k neighbours; mode ``"nn"``) respectively ``obsm["X_pert_reference"]`` and
        ``varm["X_pert_reference"]`` (the split of each cell and the mean control of each split), and the arguments in
        ``uns["X_pert"]``.

        Raises
        ------
        InputError
            An argument is not accepted, a column, group or representation does not exist, cells lack a split label, a
            split has no control cell, X is too large to be logarithms (mode ``"nn"``), or an approximate search cannot
            run or misses neighbours.

        Notes
        -----
        With R(i) the reference controls of cell i, mode ``"nn"`` gives ``log1p(mean_{j in R(i)} expm1(x_j)) - x_i`` and
        mode ``"split_by"`` gives ``mean_{j in R(i)} x_j - x_i``. Distances are Euclidean, in float64; among controls at
        equal distance the first in the data are taken. Sign and conventions are pertpy's, the method is that of
        Papalexi et al. (2021), https://doi.org/10.1038/s41588-021-00778-2.

        Examples
        --------
        >>> import anndata, numpy, pandas, ptg
        >>> x = numpy.log1p(numpy.array([[1.0], [3.0], [7.0]]))
        >>> obs = pandas.DataFrame({"perturbation": ["NT", "NT", "A"]}, index=["a", "b", "c"])
        >>> adata = anndata.AnnData(x, obs=obs)
        >>> ptg.Mixscape().perturbation_signature(adata, "perturbation", "NT", n_neighbors=1)
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
        copy = check_copy(adata, copy)
        cells = read_cells(adata, pert_key, control, parameters)
        name = "perturbation signature"
        with open_run(name, device=self.device, show_progressbar=show_progressbar, near=(adata.X,)) as run:
            inputs = Inputs(adata, run)
            results = _SELECTION[parameters.ref_selection_mode](inputs, cells, parameters)
        results.parameters.update({"pert_key": pert_key, "control": control})
        target = adata.copy() if copy else adata
        with StagedWrites(target) as staged:
            results.stage(staged)
        return target if copy else None


@entry_point
def perturbation_signature(
    adata: AnnData, pert_key: str, control: str, *, device: str | None = None, **options: Any
) -> AnnData | None:
    """Subtract each cell from the mean of comparable control cells: `Mixscape.perturbation_signature` as a function.

    Parameters
    ----------
    adata, pert_key, control
        As there.
    device
        As `Mixscape` takes it.
    **options
        The keywords of the method.

    Returns
    -------
    As there.

    Raises
    ------
    InputError
        As there.
    """
    return SignatureTool(device=device).perturbation_signature(adata, pert_key, control, **options)


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


# --- ref_selection_mode="nn" -------------------------------------------------------------------------------------


def _by_neighbors(inputs: Inputs, cells: Cells, parameters: SignatureParameters) -> _Results:
    run, expression = inputs.run, inputs.values()
    _check_logarithms(expression, cells, run)
    search = find_search(parameters, run)
    representation, computed = representation_of(inputs.adata, parameters)
    offsets, neighbors = neighbor_graph(representation, cells, parameters, search)
    written: dict[tuple[str, str], Any] = {("obsm", key): value for key, value in computed.items()}
    kept = {"ref_selection_mode": "nn", "n_neighbors": parameters.n_neighbors}
    if not _wants_layer(expression, parameters):
        weights = np.repeat(1.0 / np.diff(offsets), np.diff(offsets))
        shape = (len(cells.split_of_cell),) * 2
        written["obsp", NEIGHBORS] = sp.csr_matrix((weights, neighbors, offsets), shape=shape)
        return _Results(written, kept)
    out = inputs.empty_beside_x(expression)
    run.kernels.neighbors.neighbor_signature(
        expression,
        np.arange(len(out)),
        offsets,
        neighbors,
        out=out,
        resources=run.resources,
        batch_size=parameters.batch_size,
    )
    written["layers", LAYER] = place_like(out, inputs.adata.X)
    return _Results(written, kept)


def _check_logarithms(expression: Any, cells: Cells, run: Run) -> None:
    """Raise an InputError where the exponentials of control cells overflow: the values are no logarithms."""
    largest = np.log(np.finfo(expression.dtype).max)
    size = max(_CHECKED_VALUES // expression.shape[1], 1)
    for start in range(0, len(cells.controls), size):
        part = cells.controls[start : start + size]
        values = run.kernels.matrices.take_rows(expression, part, resources=run.resources)
        stored = values.data if hasattr(values, "indptr") else values
        if not all_true(stored <= largest):
            raise InputError(
                f"adata.X has values up to {to_host(stored).max():g}, whose exponentials overflow. Pass "
                "log1p-transformed expression (ptg.data.log_normalize makes it from counts)."
            )


# --- ref_selection_mode="split_by" -------------------------------------------------------------------------------


def _by_split(inputs: Inputs, cells: Cells, parameters: SignatureParameters) -> _Results:
    run, expression, split_of_cell = inputs.run, inputs.values(), cells.split_of_cell
    n_cells, n_genes = expression.shape
    references = _mean_controls(expression, cells, run)
    if not _wants_layer(expression, parameters):
        one_per_cell = (np.ones(n_cells), split_of_cell, np.arange(n_cells + 1))
        membership = sp.csr_matrix(one_per_cell, shape=(n_cells, len(cells.splits)))
        kept = {"ref_selection_mode": "split_by", "split_by": parameters.split_by}
        return _Results({("obsm", REFERENCE): membership, ("varm", REFERENCE): references.T.copy()}, kept)
    out = inputs.empty_beside_x(expression)
    arrays = array_module(expression)
    means, codes = arrays.asarray(references), arrays.asarray(split_of_cell)
    size = parameters.batch_size or max(_BLOCK_BYTES[arrays.__name__] // (8 * n_genes), 1)
    run.resources.progress.start(n_cells)
    for start in range(0, n_cells, size):
        part = slice(start, min(start + size, n_cells))
        signature = (means[codes[part]] - dense_rows(expression, part)).astype(out.dtype, copy=False)
        out[part] = signature if array_module(out) is arrays else to_host(signature)
        run.resources.progress.advance(part.stop - part.start)
    return _Results({("layers", LAYER): place_like(out, inputs.adata.X)}, {})


def _mean_controls(expression: Any, cells: Cells, run: Run) -> NDArray[np.float64]:
    """Mean expression of the controls in each split."""
    groups = groups_from_codes(cells.split_of_cell[cells.controls], cells.splits)
    rows = cells.controls[groups.order]
    values = run.kernels.matrices.take_rows(expression, rows, resources=run.resources)
    sums = run.kernels.moments.group_sums(values, groups.offsets, resources=run.resources)
    return np.asarray(sums / groups.sizes[:, None])


_SELECTION: dict[str, Callable[[Inputs, Cells, SignatureParameters], _Results]] = {
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
