"""Concordant less discordant pairs of columns, on a GPU: see `ptg.kernels.contract.concordance`."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import cupy as cp
import numpy as np

from ptg.kernels.cuda.devices import in_blocks
from ptg.kernels.cuda.memory import reports_memory
from ptg.kernels.cuda.source import kernel

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ptg.kernels.contract.resources import Resources

_THREADS = 256
_STEPS_AT_ONCE = 1 << 38
"""Pairs of columns of a launch: a fraction of a second, so that Ctrl-C and progress come through."""


@reports_memory
def concordance(
    values: NDArray[Any], left: NDArray[Any], right: NDArray[Any], *, resources: Resources
) -> NDArray[np.int64]:
    """Count concordant less discordant pairs of columns: see the contract."""
    left, right = cp.asnumpy(left).astype(np.int64), cp.asnumpy(right).astype(np.int64)
    n_columns = values.shape[1]
    at_once = max(1, min(_STEPS_AT_ONCE // max(n_columns, 1) ** 2, -(-len(left) // len(resources.devices))))

    @cache
    def values_on(_device: int) -> Any:
        return cp.asarray(values, dtype=np.float64)

    def count(first: int, stop: int) -> NDArray[np.int64]:
        some = [cp.asarray(rows[first:stop]) for rows in (left, right)]
        out = cp.empty(stop - first, dtype=np.int64)
        kernel("concordance.cu", "concordance")(
            (-(-(stop - first) // (_THREADS // 32)),),
            (_THREADS,),
            (values_on(cp.cuda.runtime.getDevice()), *some, np.int64(stop - first), np.int32(n_columns), out),
        )
        counts: NDArray[np.int64] = out.get()
        return counts

    blocks = [(first, min(first + at_once, len(left))) for first in range(0, len(left), at_once)]
    return np.concatenate([np.empty(0, np.int64), *in_blocks(count, blocks, resources)])
