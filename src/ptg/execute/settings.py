"""Defaults that hold for a whole process."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from ptg.data import InputError, check_integer


def _available_threads() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def available_memory() -> int:
    """Return the bytes that can be allocated now, or a cautious guess where the platform does not say.

    Memory that only caches files counts: after reading a large file little else is left of a Linux machine's.
    """
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        kibibytes = next(line.split()[1] for line in lines if line.startswith("MemAvailable:"))
        return int(kibibytes) << 10
    except (OSError, StopIteration, ValueError):  # not Linux
        return 4 << 30


@dataclass
class Settings:
    """Process-wide defaults, available as ``ptg.settings``.

    Attributes
    ----------
    device
        ``"auto"`` (a GPU where there is one, else the CPU), ``"cpu"``, ``"cuda"`` or ``"cuda:1"``.
    n_threads
        Threads of CPU work; None takes all that the process may use.
    memory
        Bytes that temporaries may take; None takes a quarter of what is free, at most 2 GiB, on a CPU, and half of what
        is free on a GPU.

    Examples
    --------
    >>> import ptg
    >>> ptg.settings.n_threads = 1
    >>> ptg.settings.n_threads = None
    """

    device: str = "auto"
    n_threads: int | None = None
    memory: int | None = None

    def resolved_threads(self) -> int:
        """Return the number of threads to use now."""
        if self.n_threads is None:
            return _available_threads()
        return check_integer("settings.n_threads", self.n_threads, minimum=1)

    def resolved_memory(self) -> int:
        """Return the number of bytes that temporaries may take now."""
        if self.memory is None:
            return min(max(available_memory() // 4, 64 << 20), 2 << 30)
        return self._given_memory(self.memory)

    def resolved_device_memory(self, devices: tuple[int, ...]) -> int:
        """Return the number of bytes that temporaries may take on each of some GPUs."""
        import cupy

        if self.memory is not None:
            return self._given_memory(self.memory)
        pool = cupy.get_default_memory_pool()
        free = []
        for device in devices:
            with cupy.cuda.Device(device):
                free.append(cupy.cuda.runtime.memGetInfo()[0] + pool.free_bytes())
        return int(min(free)) // 2

    def _given_memory(self, memory: int) -> int:
        if memory < 1 << 20:
            raise InputError(f"settings.memory={memory!r} is less than 1 MiB. Pass a number of bytes, or None.")
        return int(memory)


#: The settings of this process.
settings = Settings()
