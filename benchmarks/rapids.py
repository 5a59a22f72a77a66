"""Import rapids_singlecell, on machines without RAPIDS, too.

With RAPIDS installed nothing is replaced. Without it, its libraries become empty modules, which is enough for
``rapids_singlecell.ptg`` but for two functions that it calls. Those get equivalents with the same results: exact
neighbours (cuVS) from a matrix product and PyTorch's ``topk``, and principal axes (cuML) from CuPy's ``eigh``. The
times of these two steps are then not RAPIDS's own, and the tables say so.
"""

from __future__ import annotations

import sys
from functools import cache
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import Any
from unittest.mock import MagicMock

_RAPIDS = ("cudf", "cugraph", "cuml", "cuvs", "dask_cudf", "pylibraft", "raft_dask", "rmm")
#: Rows of cells x controls at a time.
_BLOCK = 16_384


@cache
def load() -> Any:
    """Return ``rapids_singlecell.ptg``."""
    missing = absent()
    if missing:
        sys.meta_path.insert(0, _EmptyModules(missing))
    library = import_module("rapids_singlecell")
    if "cuvs" in missing:
        neighbors = import_module("rapids_singlecell.preprocessing._neighbors._neighbors")
        neighbors.KNN_ALGORITHMS["brute"] = _nearest
    if "cuml" in missing:
        import_module("cuml.decomposition").PCA = _PrincipalAxes  # type: ignore[attr-defined]
    return library.ptg


def absent() -> tuple[str, ...]:
    """Libraries of RAPIDS that are not installed."""
    return tuple(name for name in _RAPIDS if find_spec(name) is None)


class _EmptyModules(MetaPathFinder, Loader):
    """Finds modules of packages that do not exist; whatever is asked of them is there and does nothing."""

    def __init__(self, packages: tuple[str, ...]) -> None:
        self._packages = packages

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> ModuleSpec | None:  # noqa: ARG002
        if fullname.partition(".")[0] not in self._packages:
            return None
        return ModuleSpec(fullname, self, is_package=True)

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        # The version is compared with others, and must be newer than any of them.
        module = MagicMock(name=spec.name, __path__=[], __spec__=spec, __version__="99.0.0")
        module.__name__ = spec.name
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Leave it empty."""


def _nearest(controls: Any, cells: Any, k: int, **_: object) -> tuple[Any, None]:
    """Numbers of the k controls that are nearest to each cell, (n_cells, k)."""
    import cupy
    import torch

    reference = torch.from_dlpack(controls)
    points = torch.from_dlpack(cells)
    half_norms = 0.5 * reference.square().sum(dim=1)
    nearest = [
        torch.topk(torch.addmm(half_norms, block, reference.T, alpha=-1.0), k, dim=1, largest=False).indices
        for block in torch.split(points, _BLOCK)
    ]
    return cupy.from_dlpack(torch.cat(nearest)), None


class _PrincipalAxes:
    """The part of a PCA that is asked for: ``components_``, (n_components, n_columns), largest variance first."""

    def __init__(self, n_components: int) -> None:
        self.n_components = n_components
        self.components_: Any = None

    def fit(self, rows: Any) -> _PrincipalAxes:
        import cupy

        centred = rows - rows.mean(axis=0)
        _, axes = cupy.linalg.eigh(centred.T @ centred)
        self.components_ = cupy.ascontiguousarray(axes[:, : -self.n_components - 1 : -1].T)
        return self
