"""Approximate nearest neighbours by cuVS, where that is installed: see `ptg.kernels.contract.neighbors`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any

import cupy as cp
import numpy as np

from ptg.kernels.cuda.memory import reports_memory
from ptg.kernels.cuda.transfer import to_device

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ptg.kernels.contract.resources import Resources

_MOST_QUERIES = 1 << 18
"""Queries at a time."""

_LEAST_CANDIDATES = 64
"""Candidates that a search of a graph keeps by default; there must be as many as neighbours are asked for."""


@reports_memory
def approximate_search(
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
    if hasattr(cuvs.SearchParams, "itopk_size"):
        searching.setdefault("itopk_size", max(k, _LEAST_CANDIDATES))
    stream = import_module("cuvs.common").Resources(stream=cp.cuda.get_current_stream().ptr)
    points = to_device(reference, resources, np.float32)
    found = np.empty((len(query), k), dtype=np.int64)
    with _refusals():
        index = cuvs.build(cuvs.IndexParams(metric="sqeuclidean", **building), points, resources=stream)
        parameters = cuvs.SearchParams(**searching)
        for start in range(0, len(query), _MOST_QUERIES):
            some = to_device(query[start : start + _MOST_QUERIES], resources, np.float32)
            _, positions = cuvs.search(parameters, index, some, k, resources=stream)
            neighbors = cp.asarray(positions).astype(np.int64)
            # What was not found has a position that no point has.
            missing = (neighbors < 0) | (neighbors >= len(reference))
            found[start : start + len(some)] = cp.where(missing, -1, neighbors).get()
    return found


@contextmanager
def _refusals() -> Iterator[None]:
    """Raise ValueError, or MemoryError, where cuVS raises an exception of its own."""
    refused = import_module("cuvs.common.exceptions").CuvsException
    try:
        yield
    except refused as error:
        text = str(error).partition("\n")[0]  # what follows is a stack of the library
        kind = MemoryError if "std::bad_alloc" in text else ValueError
        raise kind(text) from error


#: Searches by their public names.
APPROXIMATE = {
    "ivfflat": partial(approximate_search, "ivf_flat"),
    "ivfpq": partial(approximate_search, "ivf_pq"),
    "cagra": partial(approximate_search, "cagra"),
}
