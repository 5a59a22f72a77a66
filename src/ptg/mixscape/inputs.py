"""The matrices of one call: each read, checked and brought to the device once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ptg.data import is_gpu_array, is_sparse, layer_names, not_found, read_matrix

if TYPE_CHECKING:
    from anndata import AnnData

    from ptg.execute import Run

_MOST_ENTRIES = int(np.iinfo(np.int32).max)
"""Values that a sparse matrix of CuPy can have."""


def matrices_of(adata: AnnData) -> list[Any]:
    """List what may live on a GPU: X and the layers."""
    return [adata.X, *adata.layers.values()]


class Inputs:
    """What a call computes on, for as long as its run lasts."""

    def __init__(self, adata: AnnData, run: Run) -> None:
        self.adata, self.run = adata, run
        self._kept: dict[str, Any] = {}

    def expression(self, layer: str | None = None, *, argument: str = "layer") -> Any:
        """Return a layer (None: `adata.X`), kept where the run's kernels read it fastest; see `MatrixKernels.keep`."""
        name = "X" if layer is None else layer
        if not isinstance(name, str):
            raise not_found(argument, layer, "adata.layers", layer_names(self.adata), fix="Pass one of them, or 'X'.")
        if name not in self._kept:
            matrix = read_matrix(self.adata, layer=name, argument=argument, bring=self.bring)
            self._kept[name] = self.run.kernels.matrices.keep(matrix, resources=self.run.resources)
        return self._kept[name]

    def values(self) -> Any:
        """Return `adata.X` in a form of which rows can be taken."""
        return read_matrix(self.adata, bring=self.bring)

    def empty_beside_x(self, values: Any) -> Any:
        """Make an array for a result as large as `values`: on the run's device if `adata.X` is on one, else the host's.

        A kernel can fill it; `place_like` then brings it to `adata.X`, if it is not there.
        """
        arrays = self.run.arrays if is_gpu_array(self.adata.X) else np
        return arrays.empty(values.shape, dtype=values.dtype)

    def bring(self, matrix: Any) -> Any:
        """Bring what fits, to check it there."""
        is_large = is_sparse(matrix) and matrix.nnz > _MOST_ENTRIES
        return matrix if is_large else self.run.near(matrix)

    def stored(self, layer: str) -> Any:
        """Return a layer of which little is read: one of the host stays there, and no value is checked."""

        def bring(matrix: Any) -> Any:
            return self.run.to_device(matrix) if is_gpu_array(matrix) else matrix

        return read_matrix(self.adata, layer=layer, bring=bring, check=False)
