"""Open a run: the kernels of a device and what they may use."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from ptg.execute.device import MultiGpu, resolve_device
from ptg.execute.progress import ProgressBar
from ptg.execute.settings import settings
from ptg.kernels.contract import Backend, Resources


@dataclass(frozen=True)
class Run:
    """One computation: which kernels, and the resources to pass to each of them."""

    kernels: Backend
    resources: Resources


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
    with ProgressBar(description, show=show_progressbar) as progress:
        yield Run(backend, Resources(settings.resolved_threads(), memory, progress, devices))
