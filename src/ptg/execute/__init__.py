"""Where work runs: device, threads, memory, progress."""

from ptg.execute.run import Run, array_module, open_run, to_host
from ptg.execute.settings import available_memory, settings

__all__ = ["Run", "array_module", "available_memory", "open_run", "settings", "to_host"]
