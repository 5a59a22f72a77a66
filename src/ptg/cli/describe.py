"""What went into an analysis, in words: files, parameters, versions."""

from __future__ import annotations

import inspect
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from anndata import AnnData

    from ptg.cli.pipeline import ScreenSettings

_ONLY_NAMES = frozenset(
    {
        "assigned_guides_key", "copy", "mixscape_class_global", "multiple_grna_assigned_key",
        "multiple_grna_assignment_string", "new_class_name", "no_grna_assigned_key", "only_return_results", "output",
        "output_layer", "show_progressbar",
    }
)  # fmt: skip
"""Arguments that name results or choose where they go, and change no number."""


def describe_inputs(rna: AnnData, guides: AnnData | None) -> dict[str, str]:
    """Say what went in."""
    inputs = {"Expression": f"{rna.n_obs:,} cells x {rna.n_vars:,} genes"}
    if guides is not None:
        inputs["Guides"] = f"{guides.n_obs:,} cells x {guides.n_vars:,} guides"
    return inputs


def describe_parameters(settings: ScreenSettings, from_guides: bool) -> dict[str, str]:
    """List what was chosen for this analysis."""
    values = {name: "none" if value is None else str(value) for name, value in asdict(settings).items()}
    if not from_guides:
        values.pop("guide_target")
    values["labels"] = "assigned guides (Poisson-Gaussian mixture)" if from_guides else "given in the expression file"
    return values


def describe_defaults(metric: str, from_guides: bool) -> dict[str, str]:
    """List the defaults that the steps were run with, read from their signatures."""
    from ptg.data import log_normalize
    from ptg.distance.metrics import available
    from ptg.guides import GuideAssignment
    from ptg.mixscape import Mixscape

    steps: dict[str, Any] = {
        "normalisation": log_normalize,
        "guides": GuideAssignment.assign_mixture_model,
        "signature": Mixscape.perturbation_signature,
        "mixscape": Mixscape.mixscape,
        "mixscale": Mixscape.mixscale,
        "lda": Mixscape.lda,
    }
    if not from_guides:
        steps.pop("guides")
    values = {}
    for step, function in steps.items():
        for name, parameter in inspect.signature(function).parameters.items():
            if isinstance(parameter.default, (bool, int, float, str)) and name not in _ONLY_NAMES:
                values[f"{step}: {name}"] = str(parameter.default)
    values.update({f"distance: {option.name}": option.default for option in available()[metric].options})
    return values


def installed_versions() -> dict[str, str]:
    """Versions of ptg and of the packages that its numbers depend on."""
    import platform
    from importlib.metadata import version

    names = ("ptg", "numpy", "scipy", "pandas", "anndata", "scikit-learn", "numba")
    return {**{name: version(name) for name in names}, "python": platform.python_version()}
