"""The matrices of one call: each read, checked and brought to the device once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ptg.data import read_matrix

if TYPE_CHECKING:
    from anndata import AnnData

    from ptg.execute import Run


class Inputs:
    """What a call computes on, for as long as its run lasts."""

    def __init__(self, adata: AnnData, run: Run) -> None:
        self.adata, self.run = adata, run
        self._kept: dict[str, Any] = {}

    def expression(self, layer: str | None = None, *, argument: str = "layer") -> Any:
        """Return a layer (None: `adata.X`), kept where the run's kernels read it fastest; see `MatrixKernels.keep`."""
        name = layer or "X"
        if name not in self._kept:
            matrix = read_matrix(self.adata, layer=name, argument=argument)
            self._kept[name] = self.run.kernels.matrices.keep(matrix, resources=self.run.resources)
        return self._kept[name]
