"""The GPUs of this machine, as a benchmark sees them: what they are, what they could reach, what memory is taken."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import threading
from importlib.util import find_spec
from types import TracebackType
from typing import Any

#: Special-function results (square roots) per clock and multiprocessor, on every architecture since sm_75.
_SPECIAL_FUNCTIONS = 16
#: Operations (a multiplication and an addition are two) per clock and multiprocessor of dense FP16 tensor products
#: with float32 sums, by compute capability; from NVIDIA's architecture papers. Others are not reported.
_TENSOR_OPERATIONS = {75: 1024, 80: 2048, 86: 512, 89: 512, 90: 4096, 100: 8192, 120: 512}
_CLOCK_RATE = 13  # cudaDevAttrClockRate, in kHz
_INTERVAL = 0.003


def found() -> bool:
    """Whether CuPy is installed and finds a GPU."""
    if find_spec("cupy") is None:
        return False
    import cupy

    try:
        return bool(cupy.cuda.runtime.getDeviceCount())
    except cupy.cuda.runtime.CUDARuntimeError:
        return False


def start() -> None:
    """Start the GPU, so that no row's first call pays for that, and give back what making the data took."""
    import cupy

    cupy.zeros(1).get()
    cupy.get_default_memory_pool().free_all_blocks()


def synchronize() -> None:
    """Wait for the work on the current GPU, if anything has run there."""
    cupy = sys.modules.get("cupy")
    if cupy is not None and found():
        cupy.cuda.Device().synchronize()


def describe() -> dict[str, Any]:
    """Name, number, driver and limits of the GPUs; empty without one."""
    if not found():
        return {}
    import cupy

    runtime = cupy.cuda.runtime
    properties = runtime.getDeviceProperties(0)
    name, n_processors = properties["name"].decode(), int(properties["multiProcessorCount"])
    per_second = n_processors * runtime.deviceGetAttribute(_CLOCK_RATE, 0) * 1e3
    capability = 10 * properties["major"] + properties["minor"]
    return {
        "name": name,
        "count": runtime.getDeviceCount(),
        "memory_bytes": int(properties["totalGlobalMem"]),
        "compute_capability": capability,
        "multiprocessors": n_processors,
        "square_roots_per_second": _SPECIAL_FUNCTIONS * per_second,
        "tensor_operations_per_second": _TENSOR_OPERATIONS.get(capability, 0) * per_second,
        "driver": _driver(),
        "cuda": runtime.runtimeGetVersion(),
    }


def short_name(gpu: dict[str, Any]) -> str:
    """Name of a GPU for the name of a file: ``"h200"`` for ``"NVIDIA H200"``."""
    words = re.sub(r"[^a-z0-9]+", "-", gpu.get("name", "no-gpu").lower().replace("nvidia", "")).strip("-")
    return words or "gpu"


def _driver() -> str:
    command = shutil.which("nvidia-smi")
    if command is None:
        return "unknown"
    question = [command, "--query-gpu=driver_version", "--format=csv,noheader"]
    answer = subprocess.run(question, capture_output=True, text=True, check=False, timeout=30)
    return answer.stdout.split("\n")[0].strip() or "unknown"


class PeakMemory:
    """Largest amount of device memory taken while the block runs, on all GPUs together, above what was taken before.

    Whatever allocates counts, CuPy's pool or another library's, because the driver is asked, every few milliseconds.
    Pools keep what they have taken, so a short peak is seen, too.
    """

    def __init__(self) -> None:
        self.bytes = 0
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._before = 0

    def __enter__(self) -> PeakMemory:
        """Begin to watch, if there is a GPU."""
        if found():
            self._before = self._taken()
            self._thread = threading.Thread(target=self._watch, daemon=True)
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Look a last time."""
        if self._thread is not None:
            self._ended.set()
            self._thread.join()
            self.bytes = max(self.bytes, self._taken() - self._before)

    def _watch(self) -> None:
        while not self._ended.wait(_INTERVAL):
            self.bytes = max(self.bytes, self._taken() - self._before)

    @staticmethod
    def _taken() -> int:
        import cupy

        taken = 0
        for number in range(cupy.cuda.runtime.getDeviceCount()):
            with cupy.cuda.Device(number):
                free, total = cupy.cuda.runtime.memGetInfo()
            taken += total - free
        return taken
