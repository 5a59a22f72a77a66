"""Several GPUs at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import cupy as cp

Share = TypeVar("Share")
Result = TypeVar("Result")


def on_devices(function: Callable[[Share], Result], shares: Sequence[Share], devices: Sequence[int]) -> list[Result]:
    """Call ``function(shares[k])`` with ``devices[k]`` as the current device, all at the same time.

    One device is used from the calling thread, on the caller's stream; several each from a thread of their own, on
    its default stream, after the caller's work on them.

    Returns
    -------
    The results in the order of the shares.
    """

    def call(share: Share, device: int) -> Result:
        with cp.cuda.Device(device):
            return function(share)

    if len(shares) == 1:
        return [call(shares[0], devices[0])]
    cp.cuda.get_current_stream().synchronize()
    with ThreadPoolExecutor(len(shares)) as pool:
        return list(pool.map(call, shares, devices))
