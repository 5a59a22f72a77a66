"""Contract of the `projection` kernels: perturbation directions, the mixture along them, and discriminant axes.

Notation. The *signature* of a target's cells and of its controls is looked at over the target's marker genes alone.
With `scale`, gene ``j`` is centred and divided by its sample standard deviation (n - 1) over the target's cells and the
controls together; a gene that does not vary is only centred. Values above `clip` are then set to `clip`. The
*direction* is the mean of the perturbed cells minus the mean of the controls, and a cell's *score* is its projection on
it, ``z . v / |v|^2``: 0 and 1 apart between the two means.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from ptg.kernels.contract.resources import Resources

if TYPE_CHECKING:
    import scipy.sparse as sp
    from numpy.typing import NDArray

#: Outcomes of one target; everything but `OK` says why its cells have no classes or scores.
OK = 0
NO_DIRECTION = 1
"""Perturbed and control cells have the same mean: there is nothing to project on."""
CONTROL_CONSTANT = 2
"""Fewer than two controls, or their scores do not vary."""
PERTURBED_CONSTANT = 3
"""Fewer than two perturbed cells, or their scores do not vary."""
FEW_PERTURBED = 4
"""The mixture left fewer than `min_perturbed` perturbed cells: all count as not perturbed, posteriors are kept."""
ILL_DEFINED = 5
"""The variance of the perturbed component fell to zero."""


class TargetColumns(NamedTuple):
    """Marker columns of the signature for a batch of targets that share their controls. Every array is finite.

    Attributes
    ----------
    control
        (n_columns, n_controls) float64, C order: one row per gene that is a marker of any target in the batch.
    columns
        (n_markers in all,) int64: the rows of `control` that are the markers of each target, target after target.
    marker_offsets
        (n_targets + 1,) int64: target `t` has ``columns[marker_offsets[t]:marker_offsets[t + 1]]``.
    values
        float64, flat: for each target its (n_markers, n_cells) block in C order, target after target.
    value_offsets
        (n_targets + 1,) int64 into `values`.
    cell_offsets
        (n_targets + 1,) int64: the cells of the targets, target after target.
    controls_before
        (n_cells in all,) int64, ascending within a target: how many controls precede a cell in the data. Only the
        seeding of the mixture depends on the order of cells.
    """

    control: NDArray[Any]
    columns: NDArray[Any]
    marker_offsets: NDArray[Any]
    values: NDArray[Any]
    value_offsets: NDArray[Any]
    cell_offsets: NDArray[Any]
    controls_before: NDArray[Any]


class MixtureRule(NamedTuple):
    """How perturbed cells are told from the others.

    Attributes
    ----------
    n_rounds
        Rounds of direction, mixture and assignment at most.
    min_perturbed
        With fewer perturbed cells a target counts as without effect.
    weighted
        Multiply the two densities of the posterior by the mixing weights (pertpy) or not (Seurat).
    tol
        EM stops when the mean log-likelihood changes by less than this.
    max_iter
        EM steps per round at most.
    reg_covar
        Added to the variance of the perturbed component.
    draws
        Three uniform numbers in [0, 1) that seed k-means++, the same for every target and round.
    """

    n_rounds: int
    min_perturbed: int
    weighted: bool
    tol: float
    max_iter: int
    reg_covar: float
    draws: tuple[float, float, float]


class ClassifiedTargets(NamedTuple):
    """Result of `classify_targets`; cells in the order of the batch.

    Attributes
    ----------
    posterior
        (n_cells,) float64: probability of the perturbed component in the last round; 0 where there was none.
    perturbed
        (n_cells,) bool: posterior > 0.5, and false throughout unless the target's status is `OK`.
    scores
        (n_cells,) float64: score along the first round's direction; NaN without a direction.
    control_sample
        (n_targets, n_sample) int64: positions of controls at evenly spaced ranks of the first round's scores, in the
        order of the data; -1 without a direction.
    control_scores
        (n_targets, n_sample) float64: their scores.
    n_rounds
        (n_targets,) int64: rounds that ran.
    converged
        (n_targets,) bool: the classes settled within the rounds, and EM within its steps in the last one.
    status
        (n_targets,) int64: one of the constants above.
    """

    posterior: NDArray[Any]
    perturbed: NDArray[Any]
    scores: NDArray[Any]
    control_sample: NDArray[Any]
    control_scores: NDArray[Any]
    n_rounds: NDArray[Any]
    converged: NDArray[Any]
    status: NDArray[Any]


class ScoredTargets(NamedTuple):
    """Result of `score_targets`; cells in the order of the batch.

    Attributes
    ----------
    standardised
        (n_cells,) float64: score minus the controls' mean, over the controls' standard deviation (n - 1); 0 where the
        target's status is not `OK`.
    scores, control_sample, control_scores
        As in `ClassifiedTargets`, along the one direction there is.
    status
        (n_targets,) int64: `OK`, `NO_DIRECTION` or `CONTROL_CONSTANT`.
    """

    standardised: NDArray[Any]
    scores: NDArray[Any]
    control_sample: NDArray[Any]
    control_scores: NDArray[Any]
    status: NDArray[Any]


class Discriminants(NamedTuple):
    """Result of `discriminants`.

    Attributes
    ----------
    coordinates
        (n_cells, n_kept) float64, `n_kept` at most the number of classes - 1; each column's sign is such that the
        largest entry of its loadings is positive.
    loadings
        (n_axes, n_kept) float64: ``coordinates = (projection - its prior-weighted class mean) @ loadings``.
    """

    coordinates: NDArray[Any]
    loadings: NDArray[Any]


class ProjectionKernels(Protocol):
    """Signatures that every backend's `projection` module has."""

    def classify_targets(
        self,
        batch: TargetColumns,
        rule: MixtureRule,
        *,
        scale: bool,
        clip: float,
        n_sample: int,
        resources: Resources,
    ) -> ClassifiedTargets:
        """Separate perturbed from unperturbed cells of every target by a mixture along its direction.

        A round projects target and control cells on the direction of the cells perturbed so far (all at first) and fits
        ``w0 N(m0, s0^2) + w1 N(m1, s1^2)`` to all scores by EM. The first component is the controls' own mean and
        sample variance and stays; the second starts from the perturbed cells', the weights from the shares of two
        clusters of k-means (k-means++ with two trials, Lloyd until the labels repeat or the squared shift of the
        centres is at most 1e-4 of the variance); the first cluster's share goes to the first component, whichever
        that cluster is. Cells whose posterior exceeds 0.5 are perturbed. Rounds end when the classes repeat.

        Parameters
        ----------
        batch
            The marker columns. Targets may have no cells or no markers: `NO_DIRECTION` or `PERTURBED_CONSTANT`.
        rule
            See `MixtureRule`.
        scale, clip
            See the head of this module; `clip` may be infinite.
        n_sample
            Controls whose first scores are returned; all when there are fewer.
        resources
            Threads and memory; a target's result depends on neither, nor on the other targets of the batch.

        Returns
        -------
        See `ClassifiedTargets`. Sums run in the order of the data, in float64.
        """

    def score_targets(
        self, batch: TargetColumns, *, scale: bool, clip: float, n_sample: int, resources: Resources
    ) -> ScoredTargets:
        """Score the cells of every target along its direction, standardised by the controls.

        Parameters
        ----------
        batch, scale, clip, n_sample, resources
            As in `classify_targets`; the direction is that of all cells of a target.

        Returns
        -------
        See `ScoredTargets`.
        """

    def principal_axes(
        self,
        control: NDArray[Any] | sp.csr_matrix[Any],
        cells: NDArray[Any] | sp.csr_matrix[Any],
        offsets: NDArray[Any],
        n_axes: NDArray[Any],
        *,
        resources: Resources,
    ) -> NDArray[Any]:
        """Leading principal axes of each target's cells together with the controls, genes scaled to unit variance.

        Parameters
        ----------
        control
            (n_controls, n_genes) float32 or float64, dense or canonical CSR; never densified whole.
        cells
            (n_cells, n_genes): the cells of the targets, target after target; layout as `control`.
        offsets
            (n_targets + 1,) int64 into the rows of `cells`.
        n_axes
            (n_targets,) int64: axes to find for each target, fewer than its genes and its cells with the controls.
        resources
            Threads and memory.

        Returns
        -------
        (n_genes, sum of n_axes) float64: unit eigenvectors of the correlation matrix (sample covariance after scaling;
        a gene without variance has loading 0), largest eigenvalue first, the largest entry positive.
        """

    def discriminants(
        self,
        matrix: NDArray[Any] | sp.csr_matrix[Any],
        codes: NDArray[Any],
        axes: NDArray[Any],
        *,
        tol: float,
        resources: Resources,
    ) -> Discriminants:
        """Linear discriminants of ``matrix @ axes``: scikit-learn's `LinearDiscriminantAnalysis` with solver "svd".

        Parameters
        ----------
        matrix
            (n_cells, n_genes) float32 or float64, dense or canonical CSR; never densified whole.
        codes
            (n_cells,) int64: class of each cell, every class 0..C-1 with at least one cell, more cells than classes.
        axes
            (n_genes, n_axes) float64.
        tol
            Singular values below this (within classes), or below this times the largest (between classes), are zero.
        resources
            Threads and memory.

        Returns
        -------
        See `Discriminants`; priors are the classes' shares of the cells, and the within-class covariance is divided by
        the number of cells, as scikit-learn 1.9 does (older versions: cells minus classes, which rescales all columns).
        """
