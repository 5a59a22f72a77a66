"""Approximate nearest neighbours by cuVS, where that is installed: see `ptg.kernels.contract.neighbors`."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any

import cupy as cp
import numpy as np

from ptg.kernels.cuda.transfer import to_device

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ptg.kernels.contract.resources import Resources

_MOST_QUERIES = 1 << 18
"""Queries at a time."""


def _nearest(
    module: str,
    reference: NDArray[Any],
    query: NDArray[Any],
    k: int,
    *,
    options: Mapping[str, int],
    resources: Resources,
) -> NDArray[np.int64]:
    """Build an index of the reference points and search it, on the current device in float32."""
    cuvs = import_module(f"cuvs.neighbors.{module}")
    building = {name: value for name, value in options.items() if hasattr(cuvs.IndexParams, name)}
    searching = {name: value for name, value in options.items() if name not in building}
    if hasattr(cuvs.IndexParams, "n_lists"):
        building.setdefault("n_lists", max(round(len(reference) ** 0.5), 1))
    points = to_device(reference, resources, np.float32)
    index = cuvs.build(cuvs.IndexParams(metric="sqeuclidean", **building), points)
    parameters = cuvs.SearchParams(**searching)
    found = np.empty((len(query), k), dtype=np.int64)
    for start in range(0, len(query), _MOST_QUERIES):
        some = to_device(query[start : start + _MOST_QUERIES], resources, np.float32)
        neighbors = cp.asarray(cuvs.search(parameters, index, some, k)[1]).astype(np.int64)
        # What was not found has a position that no point has.
        missing = (neighbors < 0) | (neighbors >= len(reference))
        found[start : start + len(some)] = cp.where(missing, -1, neighbors).get()
    return found


#: Searches by their public names.
APPROXIMATE = {
    "ivfflat": partial(_nearest, "ivf_flat"),
    "ivfpq": partial(_nearest, "ivf_pq"),
    "cagra": partial(_nearest, "cagra"),
}
