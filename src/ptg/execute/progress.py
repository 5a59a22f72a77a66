"""A progress bar for work that takes more than a moment."""

from __future__ import annotations

import sys
import threading
import time
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress

_PATIENCE = 0.5
"""Seconds before a bar appears: short work shows none."""


def _watched() -> bool:
    return sys.stderr.isatty() or "ipykernel" in sys.modules


class ProgressBar:
    """A bar on standard error, or nothing when nobody watches. Satisfies ``kernels.contract.Progress``.

    A task may run several kernels: each announces its own total, and the bar grows by it. Threads may share a bar.
    """

    def __init__(self, description: str, *, show: bool) -> None:
        self._description = description
        self._show = show and _watched()
        self._total = 0.0
        self._done = 0.0
        self._started = time.monotonic()
        self._bar: RichProgress | None = None
        self._lock = threading.Lock()

    def start(self, total: float) -> None:
        """Add to the amount of work."""
        with self._lock:
            self._total += total

    def advance(self, done: float) -> None:
        """Report more work done."""
        with self._lock:
            self._done += done
            if not self._show:
                return
            if self._bar is None and time.monotonic() - self._started > _PATIENCE:
                self._bar = self._open()
            if self._bar is not None:
                self._bar.update(self._bar.task_ids[0], total=self._total, completed=self._done)

    def _open(self) -> RichProgress:
        from rich.console import Console
        from rich.progress import Progress

        bar = Progress(console=Console(stderr=True), transient=True)
        bar.add_task(self._description, total=self._total)
        bar.start()
        return bar

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
