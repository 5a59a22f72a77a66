"""ptg: perturbation screens, from guide counts to distances, on a CPU or a GPU."""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version as _version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ptg import datasets, plot
    from ptg.data import InputError
    from ptg.distance import BootstrapDraws, Distance, DistanceTest, MeanVar
    from ptg.execute import settings
    from ptg.guides import GuideAssignment
    from ptg.mixscape import Mixscale, Mixscape

__version__ = _version("ptg")
__all__ = [
    "BootstrapDraws",
    "Distance",
    "DistanceTest",
    "GuideAssignment",
    "InputError",
    "MeanVar",
    "Mixscale",
    "Mixscape",
    "__version__",
    "datasets",
    "plot",
    "settings",
]

# Imported on first use, so that `import ptg` costs nothing.
_HOME = {
    "BootstrapDraws": "ptg.distance",
    "Distance": "ptg.distance",
    "DistanceTest": "ptg.distance",
    "GuideAssignment": "ptg.guides",
    "InputError": "ptg.data",
    "MeanVar": "ptg.distance",
    "Mixscale": "ptg.mixscape",
    "Mixscape": "ptg.mixscape",
    "settings": "ptg.execute",
}


def __getattr__(name: str) -> Any:
    if name in {"datasets", "plot"}:
        return import_module(f"ptg.{name}")
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'ptg' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
