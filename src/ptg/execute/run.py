"""Open a run: the kernels of a device and what they may use."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any

from ptg.data import gpu_of, is_gpu_array, is_sparse
from ptg.execute.arrays import to_gpu, to_host
from ptg.execute.device import MultiGpu, resolve_device
from ptg.execute.progress import ProgressBar
from ptg.execute.settings import settings
from ptg.kernels.contract import Backend, Resources

if TYPE_CHECKING:
    from ptg.data import Matrix


@dataclass(frozen=True)
class Run:
    """One computation: which kernels, and the resources to pass to each of them.

    Attributes
    ----------
    kernels, resources
        See there.
    reports
        What the computation has to say besides its result, for whoever opened it.
    """

    kernels: Backend
    resources: Resources
    reports: list[Any] = field(default_factory=list)

    @property
    def arrays(self) -> Any:
        """The array module of the device: numpy, or cupy. Work that is large only in numbers is done with it."""
        return import_module("cupy" if self.resources.devices else "numpy")

    def to_device(self, matrix: Matrix) -> Any:
        """Return a matrix as arrays of `arrays`, sparse or dense as it is; without a copy where it is there already."""
        return to_gpu(matrix, self.resources) if self.resources.devices else to_host(matrix)

    def near(self, matrix: Matrix) -> Any:
        """As `to_device`, but leave a large matrix of the host there, for kernels that bring it piece by piece."""
        on_host = bool(self.resources.devices) and not is_gpu_array(matrix)
        if on_host and _n_bytes(matrix) > self.resources.memory // 4:
            return matrix
        return self.to_device(matrix)


def _n_bytes(matrix: Any) -> int:
    parts = (matrix.data, matrix.indices, matrix.indptr) if is_sparse(matrix) else (matrix,)
    return sum(int(part.nbytes) for part in parts)


@contextmanager
def open_run(
    description: str,
    *,
    device: str | None = None,
    multi_gpu: MultiGpu = None,
    show_progressbar: bool = True,
    near: Iterable[Any] = (),
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
    near
        The matrices to compute on. The first of them that lives on a GPU makes this the first GPU of the run, where
        neither `device` nor `multi_gpu` names one.

    Examples
    --------
    >>> with open_run("distances", device="cpu") as run:
    ...     run.kernels.name
    'cpu'
    """
    gpus = (gpu_of(matrix) for matrix in near)
    backend, devices = resolve_device(device, multi_gpu, near=next((gpu for gpu in gpus if gpu is not None), None))
    memory = settings.resolved_device_memory(devices) if devices else settings.resolved_memory()
    with _current(devices), ProgressBar(description, show=show_progressbar) as progress:
        yield Run(backend, Resources(settings.resolved_threads(), memory, progress, devices))


def _current(devices: tuple[int, ...]) -> Any:
    """Make the first of the devices the current one, and the caller's again afterwards."""
    return import_module("cupy").cuda.Device(devices[0]) if devices else nullcontext()
