"""Choose the backend: `device=` and `multi_gpu=` to kernels."""

from __future__ import annotations

import re
from importlib.util import find_spec
from typing import TypeAlias

from ptg.data import InputError
from ptg.execute.settings import settings
from ptg.kernels.contract import Backend

MultiGpu: TypeAlias = "bool | list[int] | str | None"

_ACCEPTED = "'auto', 'cpu', 'cuda' or 'cuda:1'"


def resolve_backend(device: str | None) -> Backend:
    """Return the kernels for `device` (None: ``ptg.settings.device``).

    Raises
    ------
    InputError
        The name is not one of the accepted ones, or a GPU was asked for that cannot be used.
    """
    device = settings.device if device is None else device
    if not isinstance(device, str) or not re.fullmatch(r"auto|cpu|cuda(:\d+)?", device):
        raise InputError(f"device={device!r} is not accepted. Pass {_ACCEPTED}.")
    if device.startswith("cuda"):
        raise InputError(f"device={device!r} cannot be used: {_why_no_gpu()} Pass device='cpu' or 'auto'.")
    return Backend("cpu")


def _why_no_gpu() -> str:
    if find_spec("ptg.kernels.cuda") is None:
        return "this version of ptg has no CUDA kernels yet."
    return "CuPy is not installed; install ptg[cuda12] or ptg[cuda13]."


def check_multi_gpu(multi_gpu: MultiGpu) -> None:
    """Check the argument that `rapids_singlecell` has; on a CPU every accepted value means the same.

    Parameters
    ----------
    multi_gpu
        None, True, False, a list of GPU numbers, or such a list as text: ``"0,2"``.
    """
    if multi_gpu is None or isinstance(multi_gpu, bool):
        return
    numbers = re.split(r"\s*,\s*", multi_gpu.strip()) if isinstance(multi_gpu, str) else multi_gpu
    well_formed = isinstance(numbers, list) and bool(numbers)
    if not well_formed or not all(re.fullmatch(r"\d+", str(number)) for number in numbers):
        raise InputError(
            f"multi_gpu={multi_gpu!r} is not accepted. "
            "Pass None, True, False, a list of GPU numbers or text such as '0,2'."
        )
