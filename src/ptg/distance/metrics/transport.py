"""Entropic optimal transport: the Wasserstein distance of the field's software, and the Sinkhorn divergence."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from ptg.data import check_integer, check_number
from ptg.distance.diagnostics import SolverReport
from ptg.distance.metrics.registry import Metric, MetricRecord, Option, register
from ptg.kernels.contract.sinkhorn import Transport

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ptg.distance.sample import Sample
    from ptg.execute import Run


def _check_positive(argument: str, value: object) -> float:
    return check_number(argument, value, minimum=0.0, open_ends=True)


def _check_epsilon(argument: str, value: object) -> float | None:
    return None if value is None else _check_positive(argument, value)


_OPTIONS = (
    Option(
        "epsilon",
        None,
        (),
        "strength of the entropy, in the unit of the cost; by default epsilon_scale standard deviations of the cost, "
        "for each pair and resample",
        check=_check_epsilon,
        accepts="a positive number or None",
    ),
    Option(
        "epsilon_scale",
        0.05,
        (),
        "epsilon in standard deviations of the cost of the pair",
        check=_check_positive,
        accepts="a positive number",
    ),
    Option(
        "tol",
        1e-5,
        (),
        "a pair is finished when its marginal error (L1) is not above this",
        check=_check_positive,
        accepts="a positive number",
    ),
    Option(
        "max_iter",
        2000,
        (),
        "iterations of a pair at most",
        check=partial(check_integer, minimum=1),
        accepts="a whole number of at least 1",
    ),
    Option(
        "relaxation",
        1.0,
        (),
        "over-relaxation of the iteration; 1 is plain Sinkhorn",
        check=partial(check_number, minimum=0.0, maximum=2.0, open_ends=True),
        accepts="a number between 0 and 2",
    ),
)


class _TransportMetric(Metric):
    """A metric made of costs of entropic transports."""

    undefined_because = "have no defined distance"

    def _epsilon(
        self, sample: Sample, left: Any, right: Any, weights: NDArray[Any] | None, run: Run
    ) -> NDArray[np.float64]:
        """Return epsilon of each pair, (n_pairs,) or (n_draws, n_pairs)."""
        if self.options["epsilon"] is not None:
            shape = (len(left),) if weights is None else (len(weights), len(left))
            given: NDArray[np.float64] = run.arrays.full(shape, self.options["epsilon"])
            return given
        deviations = run.kernels.sinkhorn.cost_deviations(
            sample.cells, sample.offsets, left, right, weights=weights, resources=run.resources
        )
        scaled: NDArray[np.float64] = deviations * self.options["epsilon_scale"]
        return scaled

    def _transport(
        self,
        sample: Sample,
        pairs: tuple[Any, Any],
        epsilon: NDArray[np.float64],
        weights: NDArray[Any] | None,
        run: Run,
    ) -> Transport:
        solver = {name: self.options[name] for name in ("tol", "max_iter", "relaxation")}
        return run.kernels.sinkhorn.transport_costs(
            sample.cells,
            sample.offsets,
            *pairs,
            epsilon=epsilon,
            weights=weights,
            resources=run.resources,
            **solver,
        )

    def undefined_groups(self, sample: Sample, run: Run) -> NDArray[np.bool_]:  # noqa: ARG002 - others need kernels
        """Mark no group: every group of at least one cell has a distance to every other."""
        return np.zeros(len(sample.names), dtype=bool)


@register(
    MetricRecord(
        name="wasserstein",
        formula="min <P, C> + epsilon KL(P | a b') over P with marginals a = 1/n, b = 1/m; C_ij = ||X_i - Y_j||_2²",
        source="10.48550/arXiv.1306.0895",
        needs="cells",
        zero_self=False,
        iterative=True,
        invariances=frozenset({"translation", "rotation"}),
        options=_OPTIONS,
    )
)
class Wasserstein(_TransportMetric):
    """Cost of the entropic optimal transport between the cells of two groups.

    With the default epsilon this is OTT's `reg_ot_cost` at convergence, which pertpy and rapids_singlecell call
    Wasserstein distance: a squared distance, and not 0 for two equal samples (`sinkhorn_divergence` is).

    Notes
    -----
    `tol` bounds how far the plan's marginal is from uniform (L1, the criterion of OTT, where it is 1e-3). The value
    falls short of the minimum by about the square of that: by less than 1e-6 of it with the default of 1e-5, mostly by
    1e-10. A pair that has not come so far after `max_iter` iterations keeps its value, which is then a lower bound; one
    warning lists such pairs and ``Distance.diagnostics`` has their errors.

    A resample weighs cells by how often it holds them; its epsilon is that of the resample spelled out.
    """

    def values(
        self,
        sample: Sample,
        left: NDArray[np.int64],
        right: NDArray[np.int64],
        *,
        weights: NDArray[Any] | None = None,
        run: Run,
    ) -> NDArray[np.float64]:
        """Compute the costs."""
        epsilon = self._epsilon(sample, left, right, weights, run)
        found = self._transport(sample, (left, right), epsilon, weights, run)
        run.reports.append(SolverReport.of(left, right, epsilon, found))
        return found.cost


@register(
    MetricRecord(
        name="sinkhorn_divergence",
        formula="W(X, Y) - (W(X, X) + W(Y, Y)) / 2, W being `wasserstein`, all three with the epsilon of (X, Y)",
        source="10.48550/arXiv.1810.08278",
        needs="cells",
        nonnegative=False,
        iterative=True,
        invariances=frozenset({"translation", "rotation"}),
        options=_OPTIONS,
    )
)
class SinkhornDivergence(_TransportMetric):
    """The entropic transport cost without its bias: 0 for equal samples.

    Notes
    -----
    It is not negative, but for what `tol` leaves open (1e-6 of the transport costs, which are larger than their
    difference). Options and diagnostics are those of `wasserstein`; the latter are the worst of the three transports.
    """

    def values(
        self,
        sample: Sample,
        left: NDArray[np.int64],
        right: NDArray[np.int64],
        *,
        weights: NDArray[Any] | None = None,
        run: Run,
    ) -> NDArray[np.float64]:
        """Compute the three transports of each pair in one call."""
        arrays, n = run.arrays, len(left)
        epsilon = self._epsilon(sample, left, right, weights, run)
        pairs = arrays.concatenate([left, left, right]), arrays.concatenate([right, left, right])
        found = self._transport(sample, pairs, arrays.concatenate([epsilon] * 3, axis=-1), weights, run)
        by_kind = [Transport(*(field[..., i : i + n] for field in found)) for i in (0, n, 2 * n)]
        for transport in by_kind:
            run.reports.append(SolverReport.of(left, right, epsilon, transport))
        between, x, y = (transport.cost for transport in by_kind)
        divergence: NDArray[np.float64] = between - (x + y) / 2.0
        return divergence
