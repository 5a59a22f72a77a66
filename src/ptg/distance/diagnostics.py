"""How the pairs of groups of a call were solved, where a metric iterates."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import pandas as pd

from ptg.data import listed, warn
from ptg.execute import to_host

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ptg.distance.metrics import Metric
    from ptg.distance.sample import Sample
    from ptg.execute import Run
    from ptg.kernels.contract.sinkhorn import Transport

Evaluation = TypeVar("Evaluation", bound=Callable[..., Any])


@dataclass(frozen=True)
class SolverReport:
    """What a metric says about some pairs: arrays (n_pairs,) on the host, the worst over draws.

    Attributes
    ----------
    left, right
        Group numbers.
    n_draws
        How many draws there were, 1 without any.
    epsilon
        Sum over the draws.
    """

    left: NDArray[np.int64]
    right: NDArray[np.int64]
    n_draws: int
    epsilon: NDArray[np.float64]
    n_iterations: NDArray[np.int64]
    marginal_error: NDArray[np.float64]
    converged: NDArray[np.bool_]

    @classmethod
    def of(cls, left: Any, right: Any, epsilon: Any, transport: Transport) -> SolverReport:
        """Take what a kernel returned, (n_pairs,) or (n_draws, n_pairs)."""
        epsilon, n_iterations, error, converged = (
            np.atleast_2d(to_host(values)) for values in (epsilon, *transport[1:])
        )
        unfinished = np.count_nonzero(~converged, axis=0)
        worst = n_iterations.max(axis=0), error.max(axis=0), unfinished == 0
        return cls(to_host(left), to_host(right), len(epsilon), epsilon.sum(axis=0), *worst)

    def table(self) -> pd.DataFrame:
        """Return the report with a row for each pair."""
        return pd.DataFrame(vars(self))


def diagnosed(evaluation: Evaluation) -> Evaluation:
    """Wrap ``evaluation(metric, sample, ..., run=run)``: set `metric.diagnostics`, warn of unfinished pairs."""

    @wraps(evaluation)
    def wrapped(metric: Metric, sample: Sample, *arguments: Any, run: Run, **keywords: Any) -> Any:
        n_before = len(run.reports)
        result = evaluation(metric, sample, *arguments, run=run, **keywords)
        metric.diagnostics = _diagnostics(run.reports[n_before:], sample.names)
        _warn_of_unconverged(metric)
        return result

    return wrapped  # type: ignore[return-value]


def _diagnostics(reports: list[SolverReport], names: list[Any]) -> pd.DataFrame | None:
    """Put reports together: one row for each pair."""
    if not reports:
        return None
    parts = pd.concat([report.table() for report in reports])
    together = parts.groupby(["left", "right"], sort=False, as_index=False).agg(
        {
            "epsilon": "sum",
            "n_draws": "sum",
            "n_iterations": "max",
            "marginal_error": "max",
            "converged": "all",
        }
    )
    labels = np.array(names, dtype=object)
    return pd.DataFrame(
        {
            "X": labels[together["left"]],
            "Y": labels[together["right"]],
            "epsilon": together["epsilon"] / together["n_draws"],
            "n_iterations": together["n_iterations"],
            "marginal_error": together["marginal_error"],
            "converged": together["converged"],
        }
    )


def _warn_of_unconverged(metric: Metric) -> None:
    if metric.diagnostics is None or metric.diagnostics["converged"].all():
        return
    unfinished = metric.diagnostics[~metric.diagnostics["converged"]]
    pairs = [f"{x} and {y}" for x, y in zip(unfinished["X"], unfinished["Y"], strict=True)]
    warn(
        f"{len(pairs)} {metric.record.name} value(s) have not converged: those of {listed(pairs)}. They are what the "
        "last iteration gave. Raise max_iter or tol; the attribute `diagnostics` has the marginal errors."
    )


def warn_of_unfinished_permutations(metric: Metric, reports: list[SolverReport]) -> None:
    """Warn if distances for permuted labels have not converged, whose groups have no names."""
    unfinished = sum(int(np.count_nonzero(~report.converged)) for report in reports)
    if unfinished:
        total = sum(len(report.converged) for report in reports)
        warn(
            f"{unfinished} of {total} {metric.record.name} value(s) for permuted labels have not converged. They are "
            "what the last iteration gave. Raise max_iter or tol."
        )
