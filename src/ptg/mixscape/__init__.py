"""Which cells respond to their perturbation, and how strongly."""

from ptg.mixscape.mixscale import Mixscale
from ptg.mixscape.mixscape import Mixscape
from ptg.mixscape.signature import perturbation_signature

__all__ = ["Mixscale", "Mixscape", "perturbation_signature"]
