"""Contract of the `sinkhorn` kernels: entropic optimal transport between groups of cells.

The cost of moving cell x to cell y is ``C = |x - y|²`` (squared Euclidean). Without weights every cell of a group has
the same mass, ``1 / n``. With weights a cell of a draw has ``w / sum of w over its group``, which is what a resample
would give if it were spelled out; cells of weight 0 take no part at all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    import scipy.sparse as sp
    from numpy.typing import NDArray

    from ptg.kernels.contract.resources import Resources


class Transport(NamedTuple):
    """Cost of the entropic transport of every pair, and how its solver ended.

    Each field has the shape (n_pairs,), or (n_draws, n_pairs) with weights.

    Attributes
    ----------
    cost
        float64: ``<P, C> + epsilon KL(P | a b')``; NaN for a pair with an empty group (or one of weight 0) or an
        epsilon of NaN, and for one without a finite dual, where epsilon is far too small for the type of the cells. For
        a pair that has not converged, the value of the dual at the last potentials: a lower bound.
    n_iterations
        int64: iterations done, at most `max_iter`; 0 where the cost is constant or NaN.
    marginal_error
        float64, L1: how far the plan's marginal is from the wanted one, on the side updated last but one; the other
        side's marginal is exact. From 0 to 2. For a group paired with itself the larger of this and of
        ``sum(a |f - g|) / epsilon``: its plan hardly tells whether f is g where cells are far from each other.
    converged
        bool: ``marginal_error <= tol``. False where the cost is NaN.
    """

    cost: NDArray[Any]
    n_iterations: NDArray[Any]
    marginal_error: NDArray[Any]
    converged: NDArray[Any]


class SinkhornKernels(Protocol):
    """Signatures that every backend's `sinkhorn` module has."""

    def cost_deviations(
        self,
        cells: NDArray[Any] | sp.csr_matrix[Any],
        offsets: NDArray[Any],
        left: NDArray[Any],
        right: NDArray[Any],
        *,
        weights: NDArray[Any] | None = None,
        resources: Resources,
    ) -> NDArray[Any]:
        r"""Compute the population standard deviation of all costs of a pair of groups, for many pairs.

        With a and b the masses of the cells of l and r:

        .. math:: \sigma_{lr}^2 = \sum_{i \in l} \sum_{j \in r} a_i b_j (C_{ij} - \bar C)^2

        Parameters
        ----------
        cells
            (n_cells, n_columns) float32 or float64, finite: C-ordered, or canonical CSR. Rows are sorted by group.
        offsets
            (n_groups + 1,) integers from 0 to n_cells: group `g` is ``cells[offsets[g]:offsets[g + 1]]``.
        left, right
            (n_pairs,) group numbers, in any order; pairs may repeat, and a group may be paired with itself (all n²
            costs count then, the zeros between a cell and itself too).
        weights
            (n_draws, n_cells) non-negative numbers of any type, for instance how often a resample holds a cell.
        resources
            Temporaries fit in ``resources.memory``, except for what is in proportion to cells, result, n_columns² (of
            every group for up to 128 columns) or the dense cells of two groups a thread.

        Returns
        -------
        (n_pairs,) float64, or (n_draws, n_pairs) with weights. NaN if a group is empty or has no weight. Exactly 0
        where the cost is constant up to rounding: one cell against one cell, all cells of both groups equal.

        Notes
        -----
        In float64 for either type of cells, to a relative error of 1e-10. No pass over the costs is needed. With
        ``u = x - mean(l)``, ``v = y - mean(r)``, ``d = mean(l) - mean(r)``,

        .. math:: C_{ij} - |d|^2 = (|u_i|^2 + 2 d u_i) + (|v_j|^2 - 2 d v_j) - 2 u_i v_j

        where the three terms are uncorrelated under a b', so that with M(l) the covariance (population) of the
        n_columns + 1 values ``(u, |u|²)`` and S(l) that of u alone

        .. math:: \sigma_{lr}^2 = (2d, 1) M(l) (2d, 1)' + (-2d, 1) M(r) (-2d, 1)' + 4 \operatorname{tr}(S(l) S(r))

        of which no term is negative: nothing cancels. ``tr(S(l) S(r))`` is also the mean of ``(u_i v_j)²``, which is
        cheaper for few cells of many columns.
        """

    def transport_costs(
        self,
        cells: NDArray[Any] | sp.csr_matrix[Any],
        offsets: NDArray[Any],
        left: NDArray[Any],
        right: NDArray[Any],
        *,
        epsilon: NDArray[Any],
        weights: NDArray[Any] | None = None,
        tol: float,
        max_iter: int,
        relaxation: float,
        resources: Resources,
    ) -> Transport:
        r"""Find the cost of the entropic optimal transport between two groups of cells, for many pairs of groups.

        .. math::

            \min_P \sum_{ij} P_{ij} C_{ij} + \epsilon \sum_{ij} P_{ij} \log \frac{P_{ij}}{a_i b_j}
            \quad\text{with } P 1 = a, P' 1 = b

        Parameters
        ----------
        cells, offsets, left, right, weights
            As in `cost_deviations`. Pairs may repeat, with the same epsilon or another.
        epsilon
            float64, (n_pairs,), or (n_draws, n_pairs) with weights: strength of the entropy, in the unit of the costs.
            0 stands for a cost that is constant up to rounding: the plan is a b' then, and nothing is iterated.
        tol
            A pair is finished when its `marginal_error` is not above this.
        max_iter
            Largest number of iterations, at least 1. An iteration updates the potentials of both groups once; one that
            was taken back, or done again after potentials were absorbed, counts too.
        relaxation
            Over-relaxation of the iteration, between 0 and 2 without the ends: with T(g) the potential that a plain
            iteration makes of g, ``g + relaxation (T(g) - g)``. 1 is plain Sinkhorn. Above 1 a step is tried, and taken
            back, like an accelerated one.
        resources
            Temporaries fit in ``resources.memory`` (but for what is in proportion to cells, result, or the dense cells
            of two groups a thread): a matrix of all pairs of cells of two groups is held only where it fits, and
            otherwise made anew, by tiles, in every iteration.

        Returns
        -------
        Transport.

        Notes
        -----
        The cost is the dual at potentials (f, g) of which one side was updated last, so that the plan
        ``P = a b' exp((f + g - C) / epsilon)`` sums to 1::

            sum(a f) + sum(b g)

        It never exceeds the minimum, falls short of it by the square of the marginal error, to first order, and is the
        minimum at the fixed point.

        *How it is found is the backend's own*, as long as the fixed point is plain Sinkhorn's. What holds for all:

        - The potentials are float64, and the sums over cells too. ``exp((f + g - C) / epsilon)`` may be float32 for
          float32 cells, as long as potentials are absorbed into it before scalings leave the range where entries that
          underflowed could matter. Products ``x y'`` are of cells centred on their own group, so that groups far from
          each other, or from 0, lose no digits: ``C = |d|² + (|u|² + 2 d u) + (|v|² - 2 d v) - 2 u v``, of which all
          but the last term join the potentials.
        - A start that can neither underflow nor overflow: with ``g = 0`` or a guess, ``f_i = min_j (C_ij - g_j)`` and
          then ``g_j = min_i (C_ij - f_i)`` give ``exp((f + g - C) / epsilon) <= 1`` with a 1 in every row and column.
        - Accelerated steps (Anderson's) are tried from the potentials that an iteration has made, and taken back, if
          the dual is below what the plain step is known to reach: ``sum(a f) + sum(b T(g))`` before it.
        - The value of (l, r) and that of (r, l) have the same bits, for the same epsilon. Values do not depend on the
          other pairs or draws, on threads, memory or devices.

        - A group that is paired with itself has ``f = g`` at the fixed point. Its plain step is half of one, from g to
          ``(g + T(g)) / 2`` with T(g) the row potential: it never lowers the dual, which is concave and the same for
          (f, g) and (g, f), and it is done in a few iterations where the usual step takes thousands, because the plan
          of cells far from each other is hardly more than the identity. Relaxation and acceleration are as for others.

        Groups of one cell, of equal cells, and equal groups are nothing special.

        Values of float64 cells with a `tol` of 1e-5 have a relative error below 1e-6, mostly of 1e-10; that of float32
        cells is 1e-5 at most, relative to the mean cost. Marginal errors below 1e-7 may be out of reach in float32.
        """
