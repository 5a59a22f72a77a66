"""Compile the `.cu` files beside this one, once per device and option set."""

from __future__ import annotations

import hashlib
import os
from functools import cache
from pathlib import Path
from typing import Any
from uuid import uuid4

import cupy as cp
import numpy as np
from cupy.cuda import nvrtc

_FOLDER = Path(__file__).parent
_STANDARD = "-std=c++17"

_C_TYPES = {
    "bool": "bool",
    "int8": "signed char",
    "uint8": "unsigned char",
    "int16": "short",
    "uint16": "unsigned short",
    "int32": "int",
    "uint32": "unsigned int",
    "int64": "long long",
    "uint64": "unsigned long long",
    "float32": "float",
    "float64": "double",
}


def read_source(name: str) -> str:
    """Text of a `.cu` file, with `#include "..."` of its neighbours replaced by their text."""
    lines = (_FOLDER / name).read_text(encoding="utf-8").splitlines()
    include = '#include "'
    return "\n".join(
        read_source(line.removeprefix(include).rstrip('"')) if line.startswith(include) else line for line in lines
    )


def type_options(**dtypes: Any) -> tuple[str, ...]:
    """Options that define C types: ``type_options(Value=array.dtype)`` is ``("-DValue=float",)`` for float32."""
    return tuple(f"-D{name}={_C_TYPES[np.dtype(dtype).name]}" for name, dtype in dtypes.items())


@cache
def _module(name: str, options: tuple[str, ...]) -> Any:
    return cp.RawModule(code=read_source(name), options=(_STANDARD, *options), backend="nvrtc")


def kernel(name: str, function: str, options: tuple[str, ...] = ()) -> Any:
    """Kernel of a `.cu` file for the current device; CuPy keeps the compiled code on disk."""
    return _module(name, options).get_function(function)


def cubin(name: str, options: tuple[str, ...], architecture: str) -> bytes:
    """Machine code of a `.cu` file for one architecture, e.g. ``"sm_90a"``. Needs no GPU."""
    program = nvrtc.createProgram(read_source(name), name, [], [])
    try:
        nvrtc.compileProgram(program, (f"--gpu-architecture={architecture}", _STANDARD, *options))
        code: bytes = nvrtc.getCUBIN(program)
    except nvrtc.NVRTCError as error:
        raise RuntimeError(f"{name} does not compile for {architecture}:\n{nvrtc.getProgramLog(program)}") from error
    finally:
        nvrtc.destroyProgram(program)
    return code


@cache
def _architecture_module(name: str, options: tuple[str, ...], architecture: str) -> Any:
    """CuPy compiles for `sm_90`, never `sm_90a`, so code with `wgmma` goes through a file of machine code."""
    text = "\0".join([read_source(name), architecture, str(nvrtc.getVersion()), *options])
    folder = Path(os.environ.get("CUPY_CACHE_DIR", Path.home() / ".cupy" / "kernel_cache"))
    path = folder / f"ptg_{hashlib.sha256(text.encode()).hexdigest()}.cubin"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(f".{uuid4().hex}")  # threads and processes may compile the same at the same time
        partial.write_bytes(cubin(name, options, architecture))
        partial.replace(path)
    return cp.RawModule(path=str(path))


def architecture_kernel(name: str, function: str, options: tuple[str, ...], architecture: str) -> Any:
    """Kernel that uses instructions of one architecture alone."""
    return _architecture_module(name, options, architecture).get_function(function)


def capability() -> int:
    """Compute capability of the current device, e.g. 90."""
    return int(cp.cuda.Device().compute_capability)
