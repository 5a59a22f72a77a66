"""CuPy arrays and cupyx matrices, told from NumPy's and SciPy's without importing CuPy for those who do not use it."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from importlib import import_module
from typing import Any

import scipy.sparse as sp


def is_gpu_array(values: object) -> bool:
    """Tell whether `values` is a CuPy array or a cupyx matrix of any format."""
    return type(values).__module__.partition(".")[0] in {"cupy", "cupyx"}


def is_sparse(values: object) -> bool:
    """Tell whether `values` is a matrix of SciPy or cupyx, of any sparse format."""
    return bool(sp.issparse(values)) or (is_gpu_array(values) and hasattr(values, "tocsr"))


def array_module(values: object) -> Any:
    """Return the module of dense arrays beside `values`, dense or sparse: cupy or numpy."""
    return import_module("cupy" if is_gpu_array(values) else "numpy")


def sparse_module(values: object) -> Any:
    """Return the module of sparse matrices beside `values`, dense or sparse: cupyx.scipy.sparse or scipy.sparse."""
    return import_module("cupyx.scipy.sparse") if is_gpu_array(values) else sp


def gpu_of(values: Any) -> int | None:
    """Return the number of the GPU on which `values` lives, None for the host."""
    return int(_device(values).id) if is_gpu_array(values) else None


def current_device(values: Any) -> AbstractContextManager[Any]:
    """Make the GPU of `values` the current one, and the caller's again afterwards; nothing for the host."""
    return _device(values) if is_gpu_array(values) else nullcontext()


def all_true(mask: Any) -> bool:
    """Tell whether all entries of a Boolean array, of NumPy or CuPy, are True; so for an empty one.

    CuPy has its minimum ready; ``all`` it compiles for three seconds at first use.
    """
    return not mask.size or bool(mask.view("u1").min())


def _device(values: Any) -> Any:
    return values.data.device if is_sparse(values) else values.device
