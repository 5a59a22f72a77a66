"""Choose the backend and the devices: `device=` and `multi_gpu=` to kernels."""

from __future__ import annotations

import re
from importlib.util import find_spec
from typing import TypeAlias

from ptg.data import InputError
from ptg.execute.settings import settings
from ptg.kernels.contract import Backend

MultiGpu: TypeAlias = "bool | list[int] | str | None"

_ACCEPTED = "'auto', 'cpu', 'cuda' or 'cuda:1'"


def resolve_device(
    device: str | None, multi_gpu: MultiGpu = None, *, near: int | None = None
) -> tuple[Backend, tuple[int, ...]]:
    """Return the kernels for `device` (None: ``ptg.settings.device``) and the GPUs to use, none on a CPU.

    Parameters
    ----------
    device
        ``"auto"`` (a GPU where one can be used, else the CPU), ``"cpu"``, ``"cuda"`` or ``"cuda:1"``.
    multi_gpu
        None or True: all GPUs; False: the current one; a list of GPU numbers, or such a list as text (``"0,2"``). On a
        CPU every accepted value means the same. ``device="cuda:1"`` uses that GPU alone.
    near
        The GPU that the data are on, if any: it takes the place of the current one.

    Raises
    ------
    InputError
        A name is not one of the accepted ones, or a GPU was asked for that cannot be used.
    """
    device = settings.device if device is None else device
    if not isinstance(device, str) or not re.fullmatch(r"auto|cpu|cuda(:\d+)?", device):
        raise InputError(f"device={device!r} is not accepted. Pass {_ACCEPTED}.")
    listed = _listed_gpus(multi_gpu)
    why_not = "" if device == "cpu" else why_no_gpu()
    if device == "cpu" or (device == "auto" and why_not):
        return Backend("cpu"), ()
    if why_not:
        raise InputError(f"device={device!r} cannot be used: {why_not} Pass device='cpu' or 'auto'.")
    number = device.partition(":")[2]
    if number:
        if listed not in ([], [int(number)]):
            raise InputError(
                f"device={device!r} is one GPU, but multi_gpu={multi_gpu!r} names others. Pass one of them."
            )
        listed = [int(number)]
    return Backend("cuda"), _existing(listed or _default_gpus(multi_gpu, near), device, multi_gpu)


def _listed_gpus(multi_gpu: MultiGpu) -> list[int]:
    """GPU numbers that `multi_gpu` names; empty for None, True and False."""
    if multi_gpu is None or isinstance(multi_gpu, bool):
        return []
    numbers = re.split(r"\s*,\s*", multi_gpu.strip()) if isinstance(multi_gpu, str) else multi_gpu
    well_formed = isinstance(numbers, list) and bool(numbers) and len(set(map(str, numbers))) == len(numbers)
    if not well_formed or not all(re.fullmatch(r"\d+", str(number)) for number in numbers):
        raise InputError(
            f"multi_gpu={multi_gpu!r} is not accepted. "
            "Pass None, True, False, a list of different GPU numbers or text such as '0,2'."
        )
    return [int(number) for number in numbers]


def why_no_gpu() -> str:
    """Say why no GPU can be used; empty if one can."""
    if find_spec("cupy") is None:
        return "CuPy is not installed; install ptg[cuda12] or ptg[cuda13]."
    try:
        import cupy
    except ImportError as error:
        return f"CuPy cannot be imported ({error})."
    try:
        if cupy.cuda.runtime.getDeviceCount():
            return ""
    except cupy.cuda.runtime.CUDARuntimeError as error:
        return f"CuPy finds no GPU ({error})."
    return "CuPy finds no GPU."


def _default_gpus(multi_gpu: MultiGpu, near: int | None) -> list[int]:
    import cupy

    # The one that data or caller are on comes first: results are gathered there.
    first = int(cupy.cuda.runtime.getDevice()) if near is None else near
    if multi_gpu is False:
        return [first]
    return [first, *(number for number in range(cupy.cuda.runtime.getDeviceCount()) if number != first)]


def _existing(numbers: list[int], device: str, multi_gpu: MultiGpu) -> tuple[int, ...]:
    import cupy

    n_devices = cupy.cuda.runtime.getDeviceCount()
    missing = [number for number in numbers if number >= n_devices]
    if missing:
        raise InputError(
            f"device={device!r}, multi_gpu={multi_gpu!r}: there is no GPU {missing[0]}; "
            f"this machine has {n_devices}, numbered from 0."
        )
    return tuple(numbers)
