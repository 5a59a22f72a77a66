"""Columns of the perturbation signature, from the layer or computed from what is kept in its place."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np
import scipy.sparse as sp

from ptg.data import InputError, Matrix, read_matrix

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

    from ptg.execute import Run

#: The layer with the signature, as in pertpy and rapids_singlecell.
LAYER = "X_pert"

#: ``obsp`` key of the neighbour graph: each row holds the weights 1/k of the k reference controls.
NEIGHBORS = "X_pert_neighbors"

#: ``obsm`` and ``varm`` key of split references: cells x splits (one 1 in each row) and genes x splits (mean controls).
REFERENCE = "X_pert_reference"

#: ``uns`` key with the arguments that the graph or the references were computed with.
PARAMETERS = "X_pert"


class SignatureSource(Protocol):
    """Where columns of the signature come from.

    Attributes
    ----------
    shape
        (n_cells, n_genes).
    """

    @property
    def shape(self) -> tuple[int, int]:
        """(n_cells, n_genes)."""

    def columns(self, rows: NDArray[np.int64], genes: NDArray[np.int64]) -> NDArray[np.float64]:
        """Signature of some cells and genes, dense.

        Parameters
        ----------
        rows, genes
            Positions of cells and genes, in any order.

        Returns
        -------
        (len(rows), len(genes)) float64.
        """


def read_signature(adata: AnnData, layer: str | None = None, *, run: Run) -> SignatureSource:
    """Find the signature of `adata`.

    Parameters
    ----------
    adata
        The data after `perturbation_signature`.
    layer
        A layer to take in its place, dense or sparse. None: ``layers["X_pert"]``, or what
        ``perturbation_signature(..., output="graph")`` kept.
    run
        The run that computes columns which are not stored.

    Raises
    ------
    InputError
        There is no signature, the layer does not exist, or cells that the neighbour graph refers to were removed.
    """
    if layer is not None and layer != LAYER:
        return LayerSignature(read_matrix(adata, layer=layer))
    if LAYER in adata.layers:
        return LayerSignature(read_matrix(adata, layer=LAYER))
    if NEIGHBORS in adata.obsp:
        return _read_neighbors(adata, run)
    if REFERENCE in adata.obsm and REFERENCE in adata.varm:
        return _read_references(adata)
    raise InputError(
        f"layers[{LAYER!r}] does not exist and no neighbour graph was kept. Run perturbation_signature first, "
        "or name a layer to use."
    )


def _read_neighbors(adata: AnnData, run: Run) -> SignatureSource:
    graph = sp.csr_matrix(adata.obsp[NEIGHBORS])
    total = np.asarray(graph.sum(axis=1)).ravel()
    incomplete = int(np.count_nonzero(np.abs(total - 1) > 1e-6))
    if incomplete:
        raise InputError(
            f"obsp[{NEIGHBORS!r}] lacks neighbours of {incomplete} cell(s): control cells were removed after "
            "perturbation_signature. Run it again."
        )
    graph.sort_indices()
    return NeighborSignature(read_matrix(adata), graph, run)


def _read_references(adata: AnnData) -> SignatureSource:
    membership = sp.csr_matrix(adata.obsm[REFERENCE])
    references = np.asarray(adata.varm[REFERENCE], dtype=np.float64)
    split_of_cell = np.asarray(membership.argmax(axis=1)).ravel().astype(np.int64)
    return SplitSignature(read_matrix(adata), np.ascontiguousarray(references.T), split_of_cell)


def _dense_block(matrix: Matrix, rows: NDArray[np.int64], genes: NDArray[np.int64]) -> NDArray[Any]:
    """Cells x genes of a matrix, dense, in the matrix's dtype."""
    if isinstance(matrix, np.ndarray):
        return matrix[np.ix_(rows, genes)]
    return cast("NDArray[Any]", matrix[rows][:, genes].toarray())


@dataclass(frozen=True)
class LayerSignature:
    """A signature that is stored."""

    values: Matrix

    @property
    def shape(self) -> tuple[int, int]:
        """(n_cells, n_genes)."""
        return cast("tuple[int, int]", self.values.shape)

    def columns(self, rows: NDArray[np.int64], genes: NDArray[np.int64]) -> NDArray[np.float64]:
        """Signature of some cells and genes, see `SignatureSource`."""
        return _dense_block(self.values, rows, genes).astype(np.float64, copy=False)


@dataclass(frozen=True)
class NeighborSignature:
    """A signature that follows from the neighbour graph: ``log1p(graph @ expm1(X)) - X``.

    Sparse expression of the controls is kept a second time, gene by gene, from the first call on: few genes of many
    controls are then read without going through all their values.
    """

    expression: Matrix
    graph: sp.csr_matrix[Any]
    run: Run

    @property
    def shape(self) -> tuple[int, int]:
        """(n_cells, n_genes)."""
        return cast("tuple[int, int]", self.expression.shape)

    @cached_property
    def _control_of_cell(self) -> NDArray[np.int64]:
        """Position of each cell among the controls, -1 for cells that are nobody's neighbour."""
        is_control = np.zeros(self.shape[0], dtype=bool)
        is_control[self.graph.indices] = True
        return np.where(is_control, np.cumsum(is_control) - 1, -1)

    @cached_property
    def _controls(self) -> NDArray[Any] | sp.csc_matrix[Any]:
        values = self.expression[np.flatnonzero(self._control_of_cell >= 0)]
        return sp.csc_matrix(values) if sp.issparse(values) else values

    def columns(self, rows: NDArray[np.int64], genes: NDArray[np.int64]) -> NDArray[np.float64]:
        """Signature of some cells and genes, see `SignatureSource`."""
        controls = self._controls[:, genes]
        controls = controls.toarray() if sp.issparse(controls) else controls
        position = self._control_of_cell[rows]
        others = np.flatnonzero(position < 0)
        position[others] = len(controls) + np.arange(len(others))
        block = np.concatenate([controls, _dense_block(self.expression, rows[others], genes)])
        wanted = self.graph[rows]
        out = np.empty((len(rows), len(genes)))
        self.run.kernels.neighbors.neighbor_signature(
            block,
            position,
            wanted.indptr.astype(np.int64),
            self._control_of_cell[wanted.indices],
            out=out,
            resources=self.run.resources,
        )
        return out


@dataclass(frozen=True)
class SplitSignature:
    """A signature against one mean control per split."""

    expression: Matrix
    references: NDArray[np.float64]
    split_of_cell: NDArray[np.int64]

    @property
    def shape(self) -> tuple[int, int]:
        """(n_cells, n_genes)."""
        return cast("tuple[int, int]", self.expression.shape)

    def columns(self, rows: NDArray[np.int64], genes: NDArray[np.int64]) -> NDArray[np.float64]:
        """Signature of some cells and genes, see `SignatureSource`."""
        reference = self.references[np.ix_(self.split_of_cell[rows], genes)]
        return cast("NDArray[np.float64]", reference - _dense_block(self.expression, rows, genes))
