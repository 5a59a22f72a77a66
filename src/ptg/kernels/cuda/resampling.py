"""Bootstraps and permutations on GPUs: see `ptg.kernels.contract.resampling`. The results are on the first device."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cupy as cp
import numpy as np

from ptg.kernels.cuda.memory import reports_memory
from ptg.kernels.cuda.source import kernel

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ptg.kernels.contract.resources import Resources

_THREADS = 256
_PERMUTATION_THREADS = 64
"""Few, so that few pools and draws still reach many multiprocessors."""

_PAIRS_AT_ONCE = 64
"""Pairs of draws that threads of their own take; with more of them a thread takes several."""


@reports_memory
def bootstraps(sizes: NDArray[Any], keys: NDArray[Any], first_draw: int, n_draws: int, *, resources: Resources) -> Any:
    """Draw from every group as many of its cells as it has: see the contract."""
    offsets = _offsets(sizes)
    n_cells = int(offsets[-1])
    with cp.cuda.Device(resources.devices[0]):
        words = cp.zeros((n_draws * n_cells + 1) // 2, dtype=np.uint32)
        if len(words):
            n_pairs = (first_draw + n_draws + 1) // 2 - first_draw // 2
            kernel("resampling.cu", "bootstraps")(
                (-(-n_cells // _THREADS), min(n_pairs, _PAIRS_AT_ONCE)),
                (_THREADS,),
                (
                    cp.asarray(offsets),
                    cp.asarray(keys, dtype=np.uint64),
                    np.int64(len(offsets) - 1),
                    np.int64(first_draw),
                    np.int64(n_draws),
                    words,
                ),
            )
        return words.view(np.uint16)[: n_draws * n_cells].reshape(n_draws, n_cells)


@reports_memory
def permutations(
    sizes: NDArray[Any],
    n_chosen: NDArray[Any],
    keys: NDArray[Any],
    first_draw: int,
    n_draws: int,
    *,
    resources: Resources,
) -> Any:
    """Choose a given number of cells of every pool: see the contract."""
    offsets, n_chosen = _offsets(sizes), np.asarray(n_chosen, dtype=np.int64)
    background = np.repeat(2 * n_chosen > np.diff(offsets), np.diff(offsets)).astype(np.uint16)
    with cp.cuda.Device(resources.devices[0]):
        weights = cp.empty((n_draws, len(background)), dtype=np.uint16)
        weights[...] = cp.asarray(background)
        n_threads = n_draws * len(n_chosen)
        if n_threads:
            kernel("resampling.cu", "permutations")(
                (-(-n_threads // _PERMUTATION_THREADS),),
                (_PERMUTATION_THREADS,),
                (
                    cp.asarray(offsets),
                    cp.asarray(n_chosen),
                    cp.asarray(keys, dtype=np.uint64),
                    np.int64(len(n_chosen)),
                    np.int64(first_draw),
                    np.int64(n_draws),
                    weights,
                ),
            )
        return weights


@reports_memory
def accumulate(values: Any, n_before: int, means: Any, squares: Any, *, resources: Resources) -> None:
    """Update means and sums of squared deviations by the values of more draws: see the contract."""
    n_draws, n_pairs = values.shape
    if n_pairs == 0:
        return
    with cp.cuda.Device(resources.devices[0]):
        kernel("resampling.cu", "accumulate")(
            (-(-n_pairs // _THREADS),),
            (_THREADS,),
            (
                cp.ascontiguousarray(values),
                np.int64(n_draws),
                np.int64(n_pairs),
                np.int64(n_before),
                means,
                squares,
            ),
        )


def _offsets(sizes: NDArray[Any]) -> NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
