"""The metrics: one file per family, one decorated class per metric. A new file here is found by itself."""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

from ptg.distance.metrics.registry import Metric, MetricRecord, Option, available, make_metric, register

for _family in iter_modules(__path__):
    import_module(f"{__name__}.{_family.name}")

__all__ = ["Metric", "MetricRecord", "Option", "available", "make_metric", "register"]
