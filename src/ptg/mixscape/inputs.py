"""The matrices of one call: each read, checked and brought to the device once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ptg.data import is_sparse, read_matrix

if TYPE_CHECKING:
    from anndata import AnnData

    from ptg.execute import Run

_MOST_ENTRIES = int(np.iinfo(np.int32).max)
"""Values that a sparse matrix of CuPy can have."""


class Inputs:
    """What a call computes on, for as long as its run lasts."""

    def __init__(self, adata: AnnData, run: Run) -> None:
        self.adata, self.run = adata, run
        self._kept: dict[str, Any] = {}

    def expression(self, layer: str | None = None, *, argument: str = "layer") -> Any:
        """Return a layer (None: `adata.X`), kept where the run's kernels read it fastest; see `MatrixKernels.keep`."""
        name = layer or "X"
        if name not in self._kept:
            matrix = read_matrix(self.adata, layer=name, argument=argument, bring=self._bring)
            self._kept[name] = self.run.kernels.matrices.keep(matrix, resources=self.run.resources)
        return self._kept[name]

    def _bring(self, matrix: Any) -> Any:
        """Bring what fits, to check it there."""
        is_large = is_sparse(matrix) and matrix.nnz > _MOST_ENTRIES
        return matrix if is_large else self.run.near(matrix)
