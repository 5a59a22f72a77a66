"""Which device is chosen where CuPy is missing, broken, or there without a GPU: no GPU is needed to see that."""

from __future__ import annotations

import builtins
import subprocess
import sys
from importlib.util import find_spec
from types import ModuleType, SimpleNamespace

import pytest

import ptg
from ptg.data import InputError
from ptg.execute import device, open_run
from ptg.execute.device import why_no_gpu


class CUDARuntimeError(RuntimeError):
    """Stands for CuPy's."""


def cupy_with(count_or_error: int | Exception) -> ModuleType:
    """Return a module that looks like CuPy on a machine with so many GPUs, or where counting them fails."""

    def get_device_count() -> int:
        if isinstance(count_or_error, Exception):
            raise count_or_error
        return count_or_error

    module = ModuleType("cupy")
    runtime = SimpleNamespace(getDeviceCount=get_device_count, CUDARuntimeError=CUDARuntimeError)
    module.cuda = SimpleNamespace(runtime=runtime)
    return module


#: What is there, and the words that tell the user.
WITHOUT_GPU = {
    "not installed": (None, "CuPy is not installed; install ptg[cuda12] or ptg[cuda13]."),
    "cannot be imported": (ImportError("libcuda.so.1: no such file"), "CuPy cannot be imported (libcuda.so.1: no"),
    "no driver": (cupy_with(CUDARuntimeError("cudaErrorInsufficientDriver")), "finds no GPU (cudaErrorInsufficient"),
    "no GPU": (cupy_with(0), "CuPy finds no GPU."),
}


@pytest.fixture(params=WITHOUT_GPU)
def words(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    found, words = WITHOUT_GPU[request.param]
    monkeypatch.setattr(device, "find_spec", lambda name: None if found is None else name)
    if isinstance(found, Exception):

        def fail(name: str, *arguments: object, **options: object) -> ModuleType:
            if name == "cupy":
                raise found
            return importer(name, *arguments, **options)

        importer = builtins.__import__
        monkeypatch.setattr(builtins, "__import__", fail)
    elif found is not None:
        monkeypatch.setitem(sys.modules, "cupy", found)
    return words


def test_auto_is_the_cpu_and_says_nothing(words: str) -> None:
    with open_run("work") as run:
        assert run.kernels.name == "cpu"
        assert run.resources.devices == ()


@pytest.mark.parametrize("name", ["cuda", "cuda:1"])
def test_a_gpu_that_is_asked_for_is_an_error_that_says_why(words: str, name: str) -> None:
    with pytest.raises(InputError) as caught:
        ptg.Distance("edistance", device=name)
    assert f"device={name!r} cannot be used: " in str(caught.value)
    assert words in str(caught.value)
    assert "Pass device='cpu' or 'auto'." in str(caught.value)


def test_a_gpu_is_taken_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "find_spec", lambda name: name)
    monkeypatch.setitem(sys.modules, "cupy", cupy_with(1))
    assert why_no_gpu() == ""


@pytest.mark.skipif(find_spec("cupy") is None or not why_no_gpu(), reason="needs CuPy on a machine without a GPU")
def test_results_do_not_depend_on_an_idle_cupy() -> None:
    """The same call with CuPy installed, and with CuPy hidden."""
    code = """
import sys, warnings
warnings.simplefilter("error")
if sys.argv[1] == "hidden":
    sys.modules["cupy"] = None
    import importlib.util, ptg.execute.device as device
    device.find_spec = lambda name: None
import ptg
from tests.support import small_screen
print(ptg.Distance("edistance").onesided_distances(small_screen(), "perturbation", "NT").to_dict())
"""
    found = [
        subprocess.run([sys.executable, "-c", code, which], capture_output=True, text=True, check=True).stdout
        for which in ("there", "hidden")
    ]
    assert found[0] == found[1]
