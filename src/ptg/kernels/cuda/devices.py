"""Several GPUs at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import cupy as cp

from ptg.kernels.contract.resources import Resources

Share = TypeVar("Share")
Result = TypeVar("Result")


def on_devices(function: Callable[[Share], Result], shares: Sequence[Share], devices: Sequence[int]) -> list[Result]:
    """Call ``function(shares[k])`` with ``devices[k]`` as the current device, all at the same time.

    One device is used from the calling thread, on the caller's stream; several each from a thread of their own, on
    its default stream, after the caller's work on them. What the caller's stream does next comes after all of them.

    Returns
    -------
    The results in the order of the shares.
    """

    def call(share: Share, device: int) -> tuple[Result, cp.cuda.Event]:
        with cp.cuda.Device(device):
            result = function(share)
            return result, cp.cuda.get_current_stream().record()

    if len(shares) == 1:
        return [call(shares[0], devices[0])[0]]
    stream = cp.cuda.get_current_stream()
    stream.synchronize()
    with ThreadPoolExecutor(len(shares)) as pool:
        calls = list(pool.map(call, shares, devices))
    for _, done in calls:
        stream.wait_event(done)
    return [result for result, _ in calls]


def in_blocks(
    function: Callable[[int, int], Result], blocks: Sequence[tuple[int, int]], resources: Resources
) -> list[Result]:
    """Call ``function(*block)`` for every block, the blocks dealt out to the devices; report ``stop - first`` as done.

    Returns
    -------
    The results in the order of the blocks.
    """
    resources.progress.start(float(sum(stop - first for first, stop in blocks)))

    def call_share(share: Sequence[tuple[int, int]]) -> list[Result]:
        results = []
        for first, stop in share:
            results.append(function(first, stop))
            resources.progress.advance(float(stop - first))
        return results

    n_devices = len(resources.devices)
    shares = [blocks[number::n_devices] for number in range(n_devices)]
    by_device = on_devices(call_share, shares, resources.devices)
    return [by_device[number % n_devices][number // n_devices] for number in range(len(blocks))]
