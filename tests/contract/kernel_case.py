"""What a case of a kernel is, and the small cells that most cases share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

import numpy as np
from tests.support import in_layout

import ptg.kernels.contract
from ptg.kernels.contract import Backend, Resources

#: Calls one kernel; whatever arrays it returns are compared.
Call = Callable[[Backend, Resources], Any]

OFFSETS = np.array([0, 40, 40, 41, 90])
LEFT, RIGHT = (axis.ravel() for axis in np.mgrid[:4, :4])


@dataclass(frozen=True)
class Case:
    """One call of one kernel.

    Attributes
    ----------
    kernel
        ``"module.function"``.
    variant
        What is special about this call.
    call
        Makes it.
    tolerance
        Relative difference that two backends may have, of the largest value; 0 asks for the same bits.
    """

    kernel: str
    variant: str
    call: Call
    tolerance: float = 0.0

    def __str__(self) -> str:
        return f"{self.kernel}, {self.variant}"


def cpu_only(kernel: str) -> str:
    """Why a kernel exists on the CPU only; empty if it exists on both backends."""
    module = import_module(f"ptg.kernels.contract.{kernel.partition('.')[0]}")
    return getattr(module, "CPU_ONLY", "")


def declared_kernels() -> set[str]:
    """Names of all kernels that the contracts declare."""
    folder = ptg.kernels.contract
    names = set()
    for info in iter_modules(folder.__path__):
        module = import_module(f"{folder.__name__}.{info.name}")
        for name, protocol in vars(module).items():
            if name.endswith("Kernels") and protocol.__module__ == module.__name__:
                functions = [key for key, value in vars(protocol).items() if callable(value) and key[0] != "_"]
                names |= {f"{info.name}.{function}" for function in functions}
    return names


def expression(dtype: type, layout: str, n_columns: int = 9, seed: int = 0) -> Any:
    """90 cells with ties and zeros, in several groups."""
    rng = np.random.default_rng(seed)
    return in_layout(np.log1p(rng.poisson(0.8, (90, n_columns))), layout, dtype)


LAYOUTS = {
    "float32": (np.float32, "dense"),
    "float64": (np.float64, "dense"),
    "float32 csr": (np.float32, "csr"),
    "float64 csr int64": (np.float64, "csr int64"),
}


def weights(n_draws: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 3, (n_draws, 90)).astype(np.uint16)
