"""Where work runs: device, threads, memory, progress."""

from ptg.execute.run import Run, open_run
from ptg.execute.settings import available_memory, settings

__all__ = ["Run", "available_memory", "open_run", "settings"]
