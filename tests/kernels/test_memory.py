"""Pieces that fit on a device, with a stand-in for CuPy: no GPU is needed."""

from __future__ import annotations

import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

import ptg.kernels
from ptg.kernels.contract import Resources


class OutOfMemoryError(MemoryError):
    """As CuPy's: a MemoryError of its own."""


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Module `ptg.kernels.cuda.memory` on a device with 3 of 8 MiB free."""
    cupy: Any = ModuleType("cupy")
    runtime = SimpleNamespace(memGetInfo=lambda: (3 << 20, 8 << 20), getDevice=lambda: 1)
    cupy.cuda = SimpleNamespace(memory=SimpleNamespace(OutOfMemoryError=OutOfMemoryError), runtime=runtime)
    cupy.get_default_memory_pool = lambda: SimpleNamespace(free_all_blocks=lambda: None)
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    spec = spec_from_file_location("memory_of_a_test", Path(ptg.kernels.__file__).parent / "cuda" / "memory.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Device:
    """Runs out of memory for more than some pieces at a time; remembers what was tried."""

    def __init__(self, capacity: int) -> None:
        self.capacity, self.tried = capacity, list[int]()

    def compute(self, size: int) -> int:
        self.tried.append(size)
        if size > self.capacity:
            raise OutOfMemoryError(f"Out of memory allocating {size} bytes")
        return size


@pytest.mark.parametrize(
    ("capacity", "tried"), [(100, [100]), (99, [100, 50]), (13, [100, 50, 25, 12]), (8, [100, 50, 25, 12, 8])]
)
def test_half_the_size_until_it_fits(memory: Any, capacity: int, tried: list[int]) -> None:
    device = Device(capacity)
    assert memory.with_fitting_size(device.compute, 100, smallest=8, what="rows") == tried[-1]
    assert device.tried == tried


def test_below_the_smallest_size_the_error_says_what_was_needed(memory: Any) -> None:
    device = Device(7)
    with pytest.raises(MemoryError, match="3 of 8 MiB free.*not enough for 8 rows .*allocating 8 bytes") as caught:
        memory.with_fitting_size(device.compute, 100, smallest=8, what="rows")
    assert type(caught.value) is MemoryError  # not the one that is tried again
    assert device.tried == [100, 50, 25, 12, 8]


@pytest.mark.parametrize("error", [ValueError("wrong"), MemoryError("wrong: of the host")])
def test_other_errors_are_not_tried_again(memory: Any, error: Exception) -> None:
    tried = []

    def fail(size: int) -> None:
        tried.append(size)
        raise error

    with pytest.raises(type(error), match="wrong") as caught:
        memory.with_fitting_size(fail, 100, smallest=8, what="rows")
    assert caught.value is error
    assert tried == [100]


def test_sorting_runs_out_of_memory_in_its_own_way(memory: Any) -> None:
    tried = []

    def sort(size: int) -> int:
        tried.append(size)
        if size > 50:
            raise MemoryError("std::bad_alloc")
        return size

    assert memory.with_fitting_size(sort, 100, smallest=8, what="rows") == 50
    assert tried == [100, 50]


def test_what_a_failed_call_held_is_free_for_the_next(memory: Any) -> None:
    class Held:
        alive = 0

        def __init__(self) -> None:
            Held.alive += 1

        def __del__(self) -> None:
            Held.alive -= 1

    def compute(size: int) -> int:
        assert Held.alive == 0
        held = Held()
        if size > 10:
            raise OutOfMemoryError
        del held
        return size

    assert memory.with_fitting_size(compute, 40, smallest=1, what="rows") == 10


@pytest.mark.parametrize(("free", "tries"), [(1 << 30, 1), (200 << 20, 4), (64 << 20, 5)])
def test_a_kernel_is_called_with_less_memory(memory: Any, free: int, tries: int) -> None:
    device = Device(free)

    @memory.within_memory
    def kernel(factor: int, *, resources: Resources) -> int:
        """Summary."""
        assert resources.n_threads == 3
        return factor * device.compute(resources.memory)

    assert kernel.__doc__ == "Summary."
    found = kernel(2, resources=Resources(n_threads=3, memory=1 << 30))
    assert found == 2 * device.tried[-1] <= 2 * free
    assert len(device.tried) == tries
    device.capacity = (64 << 20) - 1
    with pytest.raises(MemoryError, match="not enough for 67108864 bytes of temporaries"):
        kernel(2, resources=Resources(n_threads=3, memory=1 << 30))


def test_a_kernel_without_pieces_says_what_was_needed(memory: Any) -> None:
    device = Device(7)

    @memory.reports_memory
    def kernel(*, resources: Resources) -> int:
        return device.compute(resources.memory)

    with pytest.raises(MemoryError, match="not enough for the arrays of kernel .*allocating 4096 bytes") as caught:
        kernel(resources=Resources(memory=4096))
    assert type(caught.value) is MemoryError
    assert device.tried == [4096]
