"""Columns of the perturbation signature, from the layer or computed from what is kept in its place."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np
import scipy.sparse as sp

from ptg.data import InputError, Matrix, check_finite
from ptg.execute import to_host

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ptg.execute import Run
    from ptg.kernels.contract.matrices import Blocks
    from ptg.mixscape.inputs import Inputs

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

    def read(self, blocks: Blocks) -> Any:
        """Read some genes of some cells.

        Parameters
        ----------
        blocks
            Cells (rows) and genes (columns).

        Returns
        -------
        (n_values,) float64, see `MatrixKernels.read_blocks`.
        """


def read_signature(inputs: Inputs, layer: str | None = None) -> SignatureSource:
    """Find the signature of some data.

    Parameters
    ----------
    inputs
        The data after `perturbation_signature`.
    layer
        A layer to take in its place, dense or sparse. None: ``layers["X_pert"]``, or what
        ``perturbation_signature(..., output="graph")`` kept.

    Raises
    ------
    InputError
        There is no signature, the layer does not exist, or cells that the neighbour graph refers to were removed.
    """
    adata = inputs.adata
    name = LAYER if layer is None else layer
    if name != LAYER or LAYER in adata.layers:
        return LayerSignature(inputs.stored(name), f"adata.layers[{name!r}]", inputs.run)
    if NEIGHBORS in adata.obsp:
        return _read_neighbors(inputs)
    if REFERENCE in adata.obsm and REFERENCE in adata.varm:
        return _read_references(inputs)
    raise InputError(
        f"layers[{LAYER!r}] does not exist and no neighbour graph was kept. Run perturbation_signature first, "
        "or name a layer to use."
    )


def _read_neighbors(inputs: Inputs) -> SignatureSource:
    graph = sp.csr_matrix(to_host(inputs.adata.obsp[NEIGHBORS]))
    total = np.asarray(graph.sum(axis=1)).ravel()
    incomplete = int(np.count_nonzero(np.abs(total - 1) > 1e-6))
    if incomplete:
        raise InputError(
            f"obsp[{NEIGHBORS!r}] lacks neighbours of {incomplete} cell(s): control cells were removed after "
            "perturbation_signature. Run it again."
        )
    graph.sort_indices()
    return NeighborSignature(inputs.expression(), graph, inputs.run)


def _read_references(inputs: Inputs) -> SignatureSource:
    membership = sp.csr_matrix(to_host(inputs.adata.obsm[REFERENCE]))
    references = np.asarray(to_host(inputs.adata.varm[REFERENCE]), dtype=np.float64)
    split_of_cell = np.asarray(membership.argmax(axis=1)).ravel().astype(np.int64)
    return SplitSignature(inputs.expression(), np.ascontiguousarray(references.T), split_of_cell, inputs.run)


@dataclass(frozen=True)
class LayerSignature:
    """A signature that is stored: only what is read of it is checked and brought to a device.

    Attributes
    ----------
    values
        The layer, dense or sparse.
    name
        How error messages call it.
    run
        Kernels and resources.
    """

    values: Matrix
    name: str
    run: Run

    @property
    def shape(self) -> tuple[int, int]:
        """(n_cells, n_genes)."""
        return cast("tuple[int, int]", self.values.shape)

    def read(self, blocks: Blocks) -> Any:
        """Read some genes of some cells, see `SignatureSource`.

        Raises
        ------
        InputError
            Values are NaN or infinite.
        """
        values = self.run.kernels.matrices.read_blocks(self.values, blocks, resources=self.run.resources)
        check_finite(values, self.name)
        return values


@dataclass(frozen=True)
class NeighborSignature:
    """A signature that follows from the neighbour graph: ``log1p(graph @ expm1(X)) - X``."""

    expression: Any
    graph: sp.csr_matrix[Any]
    run: Run

    @property
    def shape(self) -> tuple[int, int]:
        """(n_cells, n_genes)."""
        return cast("tuple[int, int]", self.expression.shape)

    @cached_property
    def _graph(self) -> tuple[Any, Any]:
        """Where the neighbours of each cell begin, and the neighbours, on the device."""
        arrays = self.run.arrays
        return arrays.asarray(self.graph.indptr.astype(np.int64)), arrays.asarray(self.graph.indices)

    def read(self, blocks: Blocks) -> Any:
        """Compute some genes of some cells, see `SignatureSource`."""
        kernels, resources = self.run.kernels.neighbors, self.run.resources
        return kernels.signature_blocks(self.expression, blocks, *self._graph, resources=resources)


@dataclass(frozen=True)
class SplitSignature:
    """A signature against one mean control per split."""

    expression: Any
    references: NDArray[np.float64]
    split_of_cell: NDArray[np.int64]
    run: Run

    @property
    def shape(self) -> tuple[int, int]:
        """(n_cells, n_genes)."""
        return cast("tuple[int, int]", self.expression.shape)

    def read(self, blocks: Blocks) -> Any:
        """Compute some genes of some cells, see `SignatureSource`."""
        kernels, resources = self.run.kernels.matrices, self.run.resources
        of_splits = blocks._replace(rows=self.split_of_cell[blocks.rows])
        values = kernels.read_blocks(self.references, of_splits, resources=resources)
        values -= kernels.read_blocks(self.expression, blocks, resources=resources)
        return values
