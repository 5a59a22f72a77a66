"""What a kernel may use while it runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


class Progress(Protocol):
    """Told by a kernel how far it is."""

    def start(self, total: float) -> None:
        """Announce the amount of work, in any unit."""

    def advance(self, done: float) -> None:
        """Report more work done, in the same unit."""


class _NoProgress:
    def start(self, total: float) -> None:
        """Ignore the total."""

    def advance(self, done: float) -> None:
        """Ignore the step."""


NO_PROGRESS: Progress = _NoProgress()


@dataclass(frozen=True)
class Resources:
    """Bounds for one kernel call; results never depend on them.

    Attributes
    ----------
    n_threads
        Threads of a CPU kernel.
    memory
        Bytes that temporaries may take, all threads together.
    progress
        Told how far the kernel is.
    devices
        CUDA device numbers of a CUDA kernel; empty on a CPU.
    """

    n_threads: int = 1
    memory: int = 1 << 30
    progress: Progress = NO_PROGRESS
    devices: tuple[int, ...] = ()
