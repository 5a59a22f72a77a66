"""What holds for every kernel: the same signature on both sides, the same bits each time, the same numbers on a GPU."""

from __future__ import annotations

from importlib import import_module
from inspect import signature
from itertools import chain
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from tests.contract.every_kernel import CASES
from tests.contract.kernel_case import Case, cpu_only, declared_kernels
from tests.support import BACKENDS, kernels, n_gpus

from ptg.execute.arrays import to_gpu
from ptg.kernels.contract import Backend, Resources

#: Parameters of which a backend takes arrays of its device, too.
ON_DEVICE = {"cells", "matrix", "control", "reference", "query", "values", "profiles", "weights", "indices", "counts"}


def arrays(result: Any) -> list[np.ndarray]:
    """All arrays of a result, on the host."""
    if isinstance(result, tuple):
        return list(chain.from_iterable(arrays(part) for part in result))
    if sp.issparse(result):
        return [result.data, result.indices, result.indptr]
    return [np.asarray(result.get() if hasattr(result, "get") else result)]


def skip_without(kernel: str, backend: str) -> None:
    if backend == "cuda" and cpu_only(kernel):
        pytest.skip(f"{kernel} is on the CPU only: {cpu_only(kernel)}")


def run(case: Case, backend: str, **bounds: Any) -> list[np.ndarray]:
    skip_without(case.kernel, backend)
    found, resources = kernels(backend, **bounds)
    return arrays(case.call(found, resources))


def taking_from(gpu: int, kernel: Any) -> Any:
    """Wrap a kernel of CUDA: the matrices and weights that it is given lie on one of the GPUs."""
    device = import_module("cupy").cuda.Device

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        call = signature(kernel).bind(*args, **kwargs)
        with device(gpu):
            for name in ON_DEVICE & call.arguments.keys():
                if isinstance(call.arguments[name], (np.ndarray, sp.csr_matrix)):
                    call.arguments[name] = to_gpu(call.arguments[name], Resources())
            device(gpu).synchronize()
        return kernel(*call.args, **call.kwargs)

    return wrapped


def assert_same_bits(found: list[np.ndarray], expected: list[np.ndarray]) -> None:
    assert len(found) == len(expected)
    for left, right in zip(found, expected, strict=True):
        assert left.dtype == right.dtype
        assert left.tobytes() == right.tobytes()


def test_every_kernel_has_a_case() -> None:
    assert declared_kernels() == {case.kernel for case in CASES}, "add cases to every_kernel.py"


@pytest.mark.parametrize("other", BACKENDS)
@pytest.mark.parametrize("name", sorted(declared_kernels()))
def test_signatures_are_those_of_the_contract(other: str, name: str) -> None:
    skip_without(name, other)
    module, function = name.split(".")
    contract = import_module(f"ptg.kernels.contract.{module}")
    (protocol,) = [value for key, value in vars(contract).items() if key.endswith("Kernels")]
    found = signature(getattr(getattr(Backend(other), module), function)).parameters.values()
    expected = list(signature(getattr(protocol, function)).parameters.values())[1:]  # without self
    assert [(p.name, p.kind, p.default) for p in found] == [(p.name, p.kind, p.default) for p in expected]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_ten_runs_give_the_same_bits(backend: str, case: Case) -> None:
    first = run(case, backend, n_threads=2)
    for _ in range(9):
        assert_same_bits(run(case, backend, n_threads=2), first)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_little_memory_gives_the_same_bits(backend: str, case: Case) -> None:
    assert_same_bits(run(case, backend, memory=1 << 20), run(case, backend, memory=1 << 30))


@pytest.mark.smallest
@pytest.mark.parametrize("other", BACKENDS[1:])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_backends_agree(other: str, case: Case) -> None:
    for found, expected in zip(run(case, other), run(case, "cpu"), strict=True):
        assert found.shape == expected.shape
        if case.tolerance and expected.dtype.kind == "f":
            finite = np.abs(expected[np.isfinite(expected)])
            atol = case.tolerance * float(np.max(finite, initial=0.0))
            np.testing.assert_allclose(found, expected, rtol=case.tolerance, atol=atol)
        else:
            np.testing.assert_array_equal(found, expected)


@pytest.mark.gpu
@pytest.mark.skipif(n_gpus() < 2, reason="needs two GPUs")
@pytest.mark.parametrize("case", CASES, ids=str)
def test_several_gpus_give_the_bits_of_one(case: Case) -> None:
    expected = run(case, "cuda", devices=(0,))
    for devices in ((1,), (0, 1), (1, 0)):
        assert_same_bits(run(case, "cuda", devices=devices), expected)


@pytest.mark.gpu
@pytest.mark.skipif(n_gpus() < 2, reason="needs two GPUs")
@pytest.mark.parametrize("gpu", [0, 1])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_arrays_may_lie_on_any_gpu(case: Case, gpu: int, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = run(case, "cuda", devices=(0,))
    module, function = case.kernel.split(".")
    kernels_of_module = getattr(Backend("cuda"), module)
    monkeypatch.setattr(kernels_of_module, function, taking_from(gpu, getattr(kernels_of_module, function)))
    for devices in ((0,), (1,), (0, 1), (1, 0)):
        assert_same_bits(run(case, "cuda", devices=devices), expected)
