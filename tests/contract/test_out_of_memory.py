"""Every kernel on a GPU on which an allocation fails: the same bits in smaller pieces, or an error that says why."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np
import pytest
from tests.contract.every_kernel import CASES
from tests.contract.kernel_case import Case, cpu_only
from tests.contract.test_every_kernel import arrays, assert_same_bits, run
from tests.support import kernels, n_gpus

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(n_gpus() < 1, reason="needs a GPU")]

#: Kernels that are called again with less memory, wherever it was that the device had none left.
WITHIN_MEMORY = {
    "distribution.ks_sums",
    "kernel_sums.kernel_sums",
    "projection.discriminants",
    "sinkhorn.cost_deviations",
    "sinkhorn.transport_costs",
}

#: The same, but for the sums of columns in it: another kernel, with pieces of its own.
PARTLY_WITHIN_MEMORY = {"energy.pair_sums"}

#: What does not fit on the device stays on the host, and is read and computed there: other last bits.
ON_THE_HOST = {"neighbors.signature_blocks"}

#: What arguments that a case itself puts on the device are too large for is CuPy's to say.
ARGUMENTS_ON_THE_DEVICE = {"resampling.accumulate"}


class Allocator:
    """CuPy's memory pool, of which one allocation fails."""

    def __init__(self, fails: int = -1) -> None:
        self.fails, self.n_calls = fails, 0
        self._cupy = import_module("cupy")

    def __call__(self, n_bytes: int) -> Any:
        self.n_calls += 1
        if self.n_calls - 1 == self.fails:
            raise self._cupy.cuda.memory.OutOfMemoryError(n_bytes, 0, 0)
        return self._cupy.get_default_memory_pool().malloc(n_bytes)

    def run(self, case: Case) -> list[Any]:
        found, resources = kernels("cuda")
        with self._cupy.cuda.using_allocator(self):
            result = case.call(found, resources)
        return arrays(result)


def outcome(failing: Allocator, case: Case) -> list[Any] | MemoryError:
    try:
        return failing.run(case)
    except MemoryError as error:
        return error


def assert_equal(found: list[Any], expected: list[Any], case: Case) -> None:
    if case.kernel not in ON_THE_HOST:
        assert_same_bits(found, expected)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("part", [0.0, 0.3, 0.7, 1.0])
@pytest.mark.parametrize("case", [case for case in CASES if not cpu_only(case.kernel)], ids=str)
def test_an_allocation_fails(case: Case, part: float) -> None:
    expected = run(case, "cuda")
    whole = Allocator()
    assert_same_bits(whole.run(case), expected)
    if not whole.n_calls:
        pytest.skip("allocates nothing")
    failing = Allocator(round(part * (whole.n_calls - 1)))
    found = outcome(failing, case)
    if isinstance(found, list):
        assert_equal(found, expected, case)
    else:
        assert case.kernel not in WITHIN_MEMORY
        assert case.kernel in ARGUMENTS_ON_THE_DEVICE or "MiB free, which is not enough for" in str(found)
    assert failing.n_calls > failing.fails


@pytest.mark.parametrize(
    "case",
    [case for case in CASES if case.kernel in WITHIN_MEMORY | PARTLY_WITHIN_MEMORY and "float32" in case.variant],
    ids=str,
)
def test_no_allocation_succeeds(case: Case) -> None:
    class Full(Allocator):
        def __call__(self, n_bytes: int) -> Any:
            self.n_calls += 1
            raise self._cupy.cuda.memory.OutOfMemoryError(n_bytes, 0, 0)

    full = Full()
    with pytest.raises(MemoryError, match="not enough for"):
        full.run(case)
    assert full.n_calls > 1, "not tried again"
