"""What the times were taken on."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def describe() -> dict[str, str | int]:
    """Processor, cores that this process may use, memory and system."""
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "system": f"{platform.system()} {platform.machine()}",
        "load_before": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else -1,
    }


def identity(machine: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return what two runs on the same kind of machine have in common."""
    gpu = machine.get("gpu") or {}
    return (machine["processor"], machine["cores"], *(gpu.get(name) for name in ("name", "count", "driver")))


def _processor() -> str:
    """Model name of the processor; virtual machines often hide it, so family and model numbers are kept too."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    fields: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        fields.setdefault(name.strip(), value.strip())
    name = fields.get("model name", platform.machine())
    if "cpu family" in fields and "model" in fields:
        name += f" (family {fields['cpu family']}, model {fields['model']})"
    return name
