"""Arrays that look like CuPy's, without CuPy: a stand-in that knows which device is the current one."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from typing import ClassVar

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from ptg.data import (
    InputError,
    array_module,
    as_matrix,
    check_finite,
    current_device,
    dense_rows,
    gpu_of,
    is_gpu_array,
    is_sparse,
    read_matrix,
    sparse_module,
)
from ptg.execute import place_like, to_host


class Device:
    """Context manager like CuPy's: the device is the current one inside."""

    current: ClassVar[list[int]] = [0]

    def __init__(self, number: int) -> None:
        self.id = number

    def __enter__(self) -> None:
        self.current.append(self.id)

    def __exit__(self, *_: object) -> None:
        self.current.pop()


class FakeArray(np.ndarray):
    """A NumPy array that refuses to be computed with while another device is the current one."""

    device = Device(3)

    def __array_ufunc__(self, ufunc, method, *inputs, **kwargs):
        assert Device.current[-1] == self.device.id
        plain = [np.asarray(each) if isinstance(each, FakeArray) else each for each in inputs]
        return np.asarray(getattr(ufunc, method)(*plain, **kwargs)).view(FakeArray)

    def get(self) -> np.ndarray:
        return np.array(self.view(np.ndarray))


FakeArray.__module__ = "cupy"


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch):
    """Install the stand-in as `cupy`, and make arrays of it."""
    module = ModuleType("cupy")
    module.ndarray = FakeArray
    module.asarray = lambda values: np.array(values).view(FakeArray)
    module.ascontiguousarray = lambda values: np.asarray(values, order="C").view(FakeArray)
    module.cuda = SimpleNamespace(runtime=SimpleNamespace(getDevice=lambda: Device.current[-1]))
    monkeypatch.setitem(sys.modules, "cupy", module)
    return module.asarray


VALUES = np.array([[0.0, 1.0, 0.0], [2.0, 0.0, 3.0]])


def test_host_arrays_are_told_apart_without_cupy() -> None:
    for values in (VALUES, sp.csr_matrix(VALUES), sp.coo_array(VALUES), pd.DataFrame(VALUES), [1.0], None):
        assert not is_gpu_array(values)
        assert gpu_of(values) is None
        assert array_module(values) is np
        assert sparse_module(values) is sp
        assert is_sparse(values) == sp.issparse(values)
        with current_device(values):
            pass
        assert to_host(values) is values
        assert place_like(values, VALUES) is values


def test_arrays_stay_where_they_are(fake) -> None:
    given = fake(VALUES.astype(np.float32))
    assert is_gpu_array(given)
    assert gpu_of(given) == 3
    matrix = as_matrix(given, "x")
    assert isinstance(matrix, FakeArray)
    assert matrix.dtype == np.float32
    assert np.shares_memory(matrix, given)
    assert isinstance(as_matrix(fake(VALUES.astype(np.int32)), "x"), FakeArray)
    assert isinstance(dense_rows(matrix, slice(1)), FakeArray)
    assert Device.current == [0]
    assert type(to_host(given)) is np.ndarray
    assert place_like(given, given) is given
    assert type(place_like(given, VALUES)) is np.ndarray


def test_arrays_of_an_anndata_are_brought_before_their_values_are_read(fake) -> None:
    adata = ad.AnnData(obs=pd.DataFrame(index=["a", "b"]), obsm={"emb": VALUES})
    brought = read_matrix(adata, obsm="emb", bring=fake)
    assert isinstance(brought, FakeArray)
    assert np.array_equal(to_host(brought), VALUES)
    assert type(as_matrix(fake(VALUES), "x", bring=to_host)) is np.ndarray


@pytest.mark.parametrize("bring", [None, to_host])
def test_errors_are_those_of_the_host(fake, bring) -> None:
    for values in ([[1.0, np.nan]], [[np.inf, -np.inf]], [1.0], np.zeros((0, 2)), [[1j]], [["a"]]):
        caught = []
        for container in (np.asarray, fake):
            with pytest.raises(InputError) as error:
                as_matrix(container(values), "x", bring=bring)
            caught.append(str(error.value))
        assert caught[0] == caught[1]
    assert Device.current == [0]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_finite_values_whose_sum_overflows(fake, dtype) -> None:
    huge = np.full((4, 4), np.finfo(dtype).max)
    for container in (np.asarray, sp.csr_matrix, fake):
        check_finite(container(huge), "x")
