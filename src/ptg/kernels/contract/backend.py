"""The kernels of one backend, each module loaded when it is first used."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from ptg.kernels.contract.concordance import ConcordanceKernels
    from ptg.kernels.contract.covariance import CovarianceKernels
    from ptg.kernels.contract.density import DensityKernels
    from ptg.kernels.contract.distribution import DistributionKernels
    from ptg.kernels.contract.energy import EnergyKernels
    from ptg.kernels.contract.kernel_sums import KernelSumKernels
    from ptg.kernels.contract.matrices import MatrixKernels
    from ptg.kernels.contract.mixture import MixtureKernels
    from ptg.kernels.contract.moments import MomentKernels
    from ptg.kernels.contract.negative_binomial import NegativeBinomialKernels
    from ptg.kernels.contract.neighbors import NeighborKernels
    from ptg.kernels.contract.permutation import PermutationKernels
    from ptg.kernels.contract.projection import ProjectionKernels
    from ptg.kernels.contract.ranksum import RankSumKernels
    from ptg.kernels.contract.resampling import ResamplingKernels
    from ptg.kernels.contract.sinkhorn import SinkhornKernels


@dataclass(frozen=True)
class Backend:
    """Kernel modules by name, typed by their contracts. `name` is ``"cpu"`` or ``"cuda"``."""

    name: str

    def _module(self, module: str) -> object:
        return import_module(f"ptg.kernels.{self.name}.{module}")

    @property
    def concordance(self) -> ConcordanceKernels:
        """Pairs of columns that two rows order alike."""
        return cast("ConcordanceKernels", self._module("concordance"))

    @property
    def covariance(self) -> CovarianceKernels:
        """Distances in units of a group's covariance."""
        return cast("CovarianceKernels", self._module("covariance"))

    @property
    def density(self) -> DensityKernels:
        """Differences of densities in the plane; on the CPU only."""
        return cast("DensityKernels", self._module("density"))

    @property
    def distribution(self) -> DistributionKernels:
        """Differences of distribution functions."""
        return cast("DistributionKernels", self._module("distribution"))

    @property
    def energy(self) -> EnergyKernels:
        """Sums of cell-to-cell distances."""
        return cast("EnergyKernels", self._module("energy"))

    @property
    def kernel_sums(self) -> KernelSumKernels:
        """Sums of other functions of two cells."""
        return cast("KernelSumKernels", self._module("kernel_sums"))

    @property
    def matrices(self) -> MatrixKernels:
        """Where a matrix is kept, and parts of it."""
        return cast("MatrixKernels", self._module("matrices"))

    @property
    def mixture(self) -> MixtureKernels:
        """Count histograms and the guide mixture."""
        return cast("MixtureKernels", self._module("mixture"))

    @property
    def moments(self) -> MomentKernels:
        """Sums, means and variances by group."""
        return cast("MomentKernels", self._module("moments"))

    @property
    def negative_binomial(self) -> NegativeBinomialKernels:
        """Negative binomial fits and likelihoods; on the CPU only."""
        return cast("NegativeBinomialKernels", self._module("negative_binomial"))

    @property
    def neighbors(self) -> NeighborKernels:
        """Nearest neighbours and averages over them."""
        return cast("NeighborKernels", self._module("neighbors"))

    @property
    def permutation(self) -> PermutationKernels:
        """Random subsets of cells and the distances within them."""
        return cast("PermutationKernels", self._module("permutation"))

    @property
    def projection(self) -> ProjectionKernels:
        """Projections on perturbation directions and their mixture."""
        return cast("ProjectionKernels", self._module("projection"))

    @property
    def ranksum(self) -> RankSumKernels:
        """Wilcoxon rank sums against a control group."""
        return cast("RankSumKernels", self._module("ranksum"))

    @property
    def resampling(self) -> ResamplingKernels:
        """Bootstraps and permutations as cell weights."""
        return cast("ResamplingKernels", self._module("resampling"))

    @property
    def sinkhorn(self) -> SinkhornKernels:
        """Entropic optimal transport."""
        return cast("SinkhornKernels", self._module("sinkhorn"))
