"""Where work runs: device, threads, memory, progress."""

from ptg.execute.run import Run, open_run
from ptg.execute.settings import settings

__all__ = ["Run", "open_run", "settings"]
