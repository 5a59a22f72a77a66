"""Open a run: the kernels of a device and what they may use."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp

from ptg.execute.device import MultiGpu, resolve_device
from ptg.execute.progress import ProgressBar
from ptg.execute.settings import settings
from ptg.kernels.contract import Backend, Resources

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ptg.data import Matrix


@dataclass(frozen=True)
class Run:
    """One computation: which kernels, and the resources to pass to each of them."""

    kernels: Backend
    resources: Resources

    @property
    def arrays(self) -> Any:
        """The array module of the device: numpy, or cupy. Work that is large only in numbers is done with it."""
        return import_module("cupy" if self.resources.devices else "numpy")

    def to_device(self, matrix: Matrix) -> Any:
        """Return a matrix as an array of `arrays`, sparse or dense as it is; without a copy where it is one."""
        if not self.resources.devices:
            return matrix
        if sp.issparse(matrix):
            return import_module("cupyx.scipy.sparse").csr_matrix(matrix)
        return self.arrays.asarray(matrix)


def array_module(array: Any) -> Any:
    """Return the module that an array belongs to: numpy or cupy."""
    return import_module(type(array).__module__.partition(".")[0])


def to_host(array: Any) -> NDArray[Any]:
    """Return an array of either module as a NumPy array."""
    host: NDArray[Any] = array if isinstance(array, np.ndarray) else array.get()
    return host


@contextmanager
def open_run(
    description: str, *, device: str | None = None, multi_gpu: MultiGpu = None, show_progressbar: bool = True
) -> Iterator[Run]:
    """Choose device, threads and memory, and show progress until the block ends.

    Parameters
    ----------
    description
        What the progress bar says.
    device, multi_gpu
        As in the public API; checked here.
    show_progressbar
        Show a bar, once the work has taken half a second and somebody watches (a terminal or a notebook).

    Examples
    --------
    >>> with open_run("distances", device="cpu") as run:
    ...     run.kernels.name
    'cpu'
    """
    backend, devices = resolve_device(device, multi_gpu)
    memory = settings.resolved_device_memory(devices) if devices else settings.resolved_memory()
    with _current(devices), ProgressBar(description, show=show_progressbar) as progress:
        yield Run(backend, Resources(settings.resolved_threads(), memory, progress, devices))


def _current(devices: tuple[int, ...]) -> Any:
    """Make the first of the devices the current one, and the caller's again afterwards."""
    return import_module("cupy").cuda.Device(devices[0]) if devices else nullcontext()
