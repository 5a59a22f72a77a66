"""What every kernel promises, whatever the backend: one file here for each kernel module.

Each file holds a Protocol with the signatures of one kernel module (shapes, dtypes, units, what happens to empty
groups and ties). ``ptg.kernels.cpu.<module>`` and ``ptg.kernels.cuda.<module>`` both satisfy it, and
``tests/contract/test_<module>.py`` runs every kernel of every backend against a slow float64 definition.

Common to all kernels: inputs are not modified; float64 input is computed in float64, float32 input is multiplied in
float32 or better; sums are float64 and in a fixed order, so that the same call gives the same bits; results are
float64.
"""

from ptg.kernels.contract.backend import Backend
from ptg.kernels.contract.resources import NO_PROGRESS, Progress, Resources

__all__ = ["NO_PROGRESS", "Backend", "Progress", "Resources"]
