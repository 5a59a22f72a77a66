"""Contract of the `mixture` kernels: which cells have which guide.

Counts are the CSR arrays of a cells x guides matrix: non-negative whole numbers of any numeric dtype, at most 2^31 - 1.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ptg.kernels.contract.resources import Resources


class FitStatus(IntEnum):
    """How the fit of a guide ended."""

    FITTED = 0
    TOO_FEW_CELLS = 1
    """Less than two cells have a count."""
    COUNTS_BELOW_TWO = 2
    """No count is larger than 1."""
    NO_MAXIMUM = 3
    """The joint has no interior maximum with the Normal above the Poisson."""
    NOT_CONVERGED = 4
    """The steps were used up before such a maximum was reached."""


class CountHistograms(NamedTuple):
    """The nonzero counts of every guide: distinct values and how many cells have each.

    Attributes
    ----------
    values
        (n_bins,) int64: the counts of guide 0, ascending, then those of guide 1, ...
    multiplicities
        (n_bins,) int64: number of cells with that count, at least 1.
    offsets
        (n_guides + 1,) int64: guide `g` has bins ``offsets[g]`` to ``offsets[g + 1] - 1``, none if no cell counts it.
    """

    values: NDArray[Any]
    multiplicities: NDArray[Any]
    offsets: NDArray[Any]

    @property
    def max_counts(self) -> NDArray[Any]:
        """(n_guides,) int64: the largest count of each guide, 0 where no cell counts it."""
        result = np.zeros(len(self.offsets) - 1, dtype=np.int64)
        counted = np.diff(self.offsets) > 0
        result[counted] = self.values[self.offsets[1:][counted] - 1]
        return result

    @property
    def n_cells(self) -> NDArray[Any]:
        """(n_guides,) int64: the number of cells that count each guide."""
        total = np.concatenate([[0], np.cumsum(self.multiplicities)])
        return np.asarray(np.diff(total[self.offsets]), dtype=np.int64)


class MixtureFit(NamedTuple):
    """The mixture of every guide, each field of shape (n_guides,).

    Attributes
    ----------
    poisson_rate
        Rate of the Poisson, on the log2 scale of the counts; float64 like all parameters, NaN where not fitted.
    normal_mean, normal_std
        Mean and standard deviation of the Normal, on the log2 scale.
    normal_weight
        Share of the Normal; the Poisson has the rest.
    loss
        Minus the log joint at the maximum, natural log, without the constants of the priors.
    n_iterations
        int64: EM and Newton steps of the start that led to the maximum; 0 where not fitted.
    status
        int64: a `FitStatus`.
    """

    poisson_rate: NDArray[Any]
    normal_mean: NDArray[Any]
    normal_std: NDArray[Any]
    normal_weight: NDArray[Any]
    loss: NDArray[Any]
    n_iterations: NDArray[Any]
    status: NDArray[Any]


class Assignments(NamedTuple):
    """Which guides each cell has, as a CSR pattern (the values are ones).

    Attributes
    ----------
    indptr
        (n_cells + 1,) int64.
    indices
        (indptr[-1],) guides, in the order and the dtype of the counts.
    """

    indptr: NDArray[Any]
    indices: NDArray[Any]


class MixtureKernels(Protocol):
    """Signatures that every backend's `mixture` module has."""

    def count_histograms(
        self, indices: NDArray[Any], counts: NDArray[Any], n_guides: int, *, resources: Resources
    ) -> CountHistograms:
        """Count how many cells have each count of each guide.

        Parameters
        ----------
        indices, counts
            (n_entries,) guide and count of every entry, in any order; one entry per cell and guide. Zeros are ignored.
        n_guides
            Number of guides; ``indices`` are smaller.
        resources
            Entries are taken in blocks whose temporaries fit in ``resources.memory``.

        Returns
        -------
        CountHistograms. Exact, hence the same for any order of the entries.
        """

    def fit_mixture(
        self, histograms: CountHistograms, *, max_iter: int, tol: float, resources: Resources
    ) -> MixtureFit:
        """Fit the Poisson-Normal mixture of every guide to its nonzero counts.

        Parameters
        ----------
        histograms
            See `CountHistograms`.
        max_iter
            Largest number of steps from one start, EM and Newton together.
        tol
            EM hands over to Newton early when no parameter changes by more than this in a step.
        resources
            Guides are independent of each other; they are shared out to threads.

        Returns
        -------
        MixtureFit.

        Notes
        -----
        With y = log2(count) the joint of a guide is the product over its cells of::

            w Normal(y; mu, sd) + (1 - w) rate^y e^-rate / Gamma(y + 1)

        and of the priors (1 - w, w) ~ Dirichlet(0.9, 0.1), mu ~ Normal(3, 2), sd ~ LogNormal(2, 1) and
        rate ~ LogNormal(0, 1), as densities of these parameters. The estimate is its highest local maximum with
        mu > rate strictly inside the box 1e-3 < w < 1 - 1e-3, 0.05 < sd < 50, 1e-4 < rate < 50, -5 < mu < 20. Outside,
        the joint is unbounded (w towards 0) or has spikes on single counts (sd towards 0).

        Each of a few fixed starts takes EM steps, which never lower the joint, and is polished by Newton steps to a
        relative error of the loss below 1e-12. A start gives one window of the range of y to the Normal and the rest
        to the Poisson; the range is cut into equal parts, and every run of parts is a window. Guides of up to seven
        distinct counts also start from a wide Normal on each window that ends with the largest count: narrow ones end
        on single counts, outside the box, where all of the signal has nearly the same count.
        """

    def mixture_thresholds(
        self, fit: MixtureFit, max_counts: NDArray[Any], *, posterior_threshold: float, resources: Resources
    ) -> NDArray[Any]:
        """Find the count from which a cell has the guide.

        Parameters
        ----------
        fit
            See `MixtureFit`.
        max_counts
            (n_guides,) int64: the largest count of each guide.
        posterior_threshold
            Probability of the Normal that has to be exceeded, between 0 and 1.
        resources
            Unused by a CPU.

        Returns
        -------
        (n_guides,) float64: the smallest t in 1, 2, ..., max_counts with P(Normal | log2 t) > posterior_threshold; NaN
        where there is none or the guide is not fitted.
        """

    def assign_above(
        self,
        indptr: NDArray[Any],
        indices: NDArray[Any],
        counts: NDArray[Any],
        thresholds: NDArray[Any],
        *,
        resources: Resources,
    ) -> Assignments:
        """Give each cell the guides whose count reaches the guide's threshold.

        Parameters
        ----------
        indptr, indices, counts
            CSR arrays of the counts, (n_cells + 1,), (n_entries,), (n_entries,).
        thresholds
            (n_guides,) float64, positive; NaN assigns the guide to no cell.
        resources
            Cells are shared out to threads.

        Returns
        -------
        Assignments. An entry is kept if ``count >= threshold``.
        """

    def max_guide(
        self, indptr: NDArray[Any], indices: NDArray[Any], counts: NDArray[Any], *, resources: Resources
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """Find the guide with the largest count of each cell.

        Parameters
        ----------
        indptr, indices, counts
            CSR arrays of the counts. Entries of a cell may be in any order, and zeros may be stored.
        resources
            Cells are shared out to threads.

        Returns
        -------
        guides
            (n_cells,) int64: the guide, of several with the largest count the one of smallest index; -1 for a cell
            without counts.
        largest
            (n_cells,) float64: its count, 0 for a cell without counts.
        """
