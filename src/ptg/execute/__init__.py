"""Where work runs: device, threads, memory, progress."""

from ptg.data import array_module
from ptg.execute.arrays import place_like, to_host
from ptg.execute.run import Run, open_run
from ptg.execute.settings import available_memory, settings

__all__ = ["Run", "array_module", "available_memory", "open_run", "place_like", "settings", "to_host"]
