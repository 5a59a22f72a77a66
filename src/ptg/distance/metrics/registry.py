"""The record and the base class of a metric, and the registry of all metrics."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeVar

import numpy as np

from ptg.data import InputError, check_choice, check_options, not_found, warn
from ptg.distance import relabel

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from ptg.distance.relabel import Pools
    from ptg.distance.sample import Sample
    from ptg.execute import Run


@dataclass(frozen=True)
class Option:
    """A keyword of a metric.

    Attributes
    ----------
    name, default
        What users write, and its value if they do not.
    accepted
        The names that it accepts; empty where it takes something else.
    meaning
        What it chooses.
    check
        Called with the name and the value where `accepted` is empty: returns the value in the type that the metric
        relies on, or raises an InputError. What it accepts is `accepts`.
    accepts
        The accepted values in words, for the docs; by default the names.
    """

    name: str
    default: Any
    accepted: tuple[str, ...]
    meaning: str
    check: Callable[[str, object], Any] | None = None
    accepts: str = ""

    def checked(self, value: object) -> Any:
        """Return the value, or raise an InputError."""
        if self.check is not None:
            return self.check(self.name, value)
        return check_choice(self.name, value, self.accepted)

    def describe(self) -> str:
        """Say in words what is accepted."""
        return self.accepts or ", ".join(self.accepted)


@dataclass(frozen=True)
class MetricRecord:
    """What is known about a metric. Errors, the command line, the docs and the property tests are made from it.

    Attributes
    ----------
    name, aliases
        What users may call it; results carry `name`.
    needs
        ``"cells"`` if every cell counts, ``"means"`` if only the group means do, ``"moments"`` if means and variances
        do, ``"counts"`` if every cell counts and the values must be raw counts.
    symmetric
        d(X, Y) = d(Y, X).
    nonnegative
        No value is below 0, with any option.
    nonnegative_estimators
        Values of the option `estimator` for which no value is below 0, where not all have that property.
    zero_self
        d(X, X) = 0.
    law_options
        Options with which the laws hold; with the defaults they hold nearly.
    invariances
        Changes of all cells that leave the distance alone: ``"translation"`` by any vector, ``"constant shift"`` of all
        columns by one number, ``"rotation"``, ``"scaling"`` by a positive number, ``"monotone"`` for an increasing
        function of every column, ``"affine"`` for any invertible linear map.
    iterative
        Values are found by iteration, and are accurate to what the option `tol` asks for, not to rounding.
    on_gpu
        It is computed on a GPU where one is chosen; otherwise on the CPU whatever is chosen.
    seeded
        It draws random numbers, from the option `random_state`, and may depend on the order of the cells.
    pairwise
        It is defined for a pair of groups alone. Otherwise a value depends on the other groups compared with the same
        control, and only one-sided distances and contrasts are offered.
    options
        Its keywords.
    estimators
        The accepted values of the option `estimator`, default first; empty where there is one definition.
    best_value
        The value for groups that do not differ.
    formula
        The definition, x and y being group means of d columns, X and Y cells.
    source
        DOI.
    """

    name: str
    formula: str
    source: str
    needs: Literal["cells", "means", "moments", "counts"]
    aliases: tuple[str, ...] = ()
    symmetric: bool = True
    nonnegative: bool = True
    nonnegative_estimators: tuple[str, ...] = ()
    zero_self: bool = True
    invariances: frozenset[str] = frozenset()
    iterative: bool = False
    options: tuple[Option, ...] = ()
    best_value: float = 0.0
    on_gpu: bool = True
    seeded: bool = False
    pairwise: bool = True
    law_options: tuple[tuple[str, Any], ...] = ()

    @property
    def estimators(self) -> tuple[str, ...]:
        """Accepted values of the option `estimator`."""
        return next((option.accepted for option in self.options if option.name == "estimator"), ())


class Metric(ABC):
    """A metric answers one question: the value of each (group, group) pair.

    Parameters
    ----------
    **options
        The keywords named in the record.
    """

    record: ClassVar[MetricRecord]
    undefined_because: ClassVar[str]
    """Why a group can have no defined value, as a relative clause."""
    diagnostics: pd.DataFrame | None = None
    """How the pairs of the last call were solved, from what `values` put into ``run.reports``; None if nothing."""

    def __init__(self, **options: Any) -> None:
        accepted = {option.name: option for option in self.record.options}
        check_options(f"Distance(metric={self.record.name!r})", options, list(accepted))
        self.options = {name: option.checked(options.get(name, option.default)) for name, option in accepted.items()}

    @abstractmethod
    def values(
        self,
        sample: Sample,
        left: NDArray[np.int64],
        right: NDArray[np.int64],
        *,
        weights: NDArray[Any] | None = None,
        run: Run,
    ) -> NDArray[np.float64]:
        """Compute the distance of each pair of different groups.

        Parameters
        ----------
        sample
            The cells.
        left, right
            (n_pairs,) group numbers: X and Y of each pair.
        weights
            (n_draws, n_cells) resamples: how often each cell counts. They sum to the size of each group.
        run
            Kernels and resources.

        Returns
        -------
        (n_pairs,) or, with weights, (n_draws, n_pairs); NaN where the distance is not defined.
        """

    def permuted_values(self, sample: Sample, pools: Pools, draws: range, *, run: Run) -> NDArray[np.float64]:
        """Compute the distance of X and Y in pools of two groups for permuted labels.

        Parameters
        ----------
        sample
            The cells, on the device of the run.
        pools
            The pairs of groups, and how labels are permuted within each.
        draws
            Numbers of the permutations; number 0 is the labels as they are.
        run
            Kernels and resources.

        Returns
        -------
        (n_pools, n_draws) on the host; NaN where the distance is not defined.

        Notes
        -----
        By default from the cells themselves, or their means where no more is needed. A metric that can do with sums
        over the cells of one side should.
        """
        return relabel.permuted_values(self, sample, pools, draws, run)

    def values_without_each_cell(
        self, sample: Sample, left: int, right: int, *, run: Run
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Compute the distance of two groups without each of their cells in turn (the jackknife).

        Parameters
        ----------
        sample
            The cells, on the device of the run.
        left, right
            Group numbers of X and Y.
        run
            Kernels and resources.

        Returns
        -------
        Distances without each cell of X, and without each cell of Y, on the host.
        """
        return relabel.values_without_each_cell(self, sample, left, right, run)

    def plug_in(self) -> Metric:
        """Return the metric of which a bootstrap draw is an estimate: of the groups, taken as whole populations.

        That is the biased estimator where there is one: a mean over all n² pairs of cells, as of a population.
        """
        if "biased" not in self.record.estimators:
            return self
        return type(self)(**{**self.options, "estimator": "biased"})

    def require_pairs(self) -> None:
        """Raise an InputError where a value of two groups alone is not defined."""
        if not self.record.pairwise:
            raise InputError(
                f"metric={self.record.name!r} is defined by all groups that are compared with one control. "
                "Use onesided_distances or contrast_distances."
            )

    def device(self, asked: str | None) -> str | None:
        """Return where to compute when `asked` for a device; warn where a GPU was named and there is no use for it."""
        if self.record.on_gpu:
            return asked
        if asked is not None and asked.startswith("cuda"):
            warn(f"{self.record.name} is computed on the CPU: it has nothing that a GPU is good for.")
        return "cpu"

    @abstractmethod
    def undefined_groups(self, sample: Sample, run: Run) -> NDArray[np.bool_]:
        """Mark the groups whose distances are not defined; asked only when there was a NaN."""


_METRICS: dict[str, type[Metric]] = {}

MetricClass = TypeVar("MetricClass", bound=type[Metric])


def register(record: MetricRecord) -> Callable[[MetricClass], MetricClass]:
    """Decorate a metric's class with its record and make it known by its name and aliases."""

    def add(metric: MetricClass) -> MetricClass:
        for name in (record.name, *record.aliases):
            if name in _METRICS:
                raise RuntimeError(f"two metrics are called {name!r}")
            _METRICS[name] = metric
        metric.record = record
        return metric

    return add


def available() -> dict[str, MetricRecord]:
    """Return the record of every metric by name, without aliases, in alphabetical order.

    Examples
    --------
    >>> from ptg.distance.metrics import available
    >>> available()["edistance"].estimators
    ('unbiased', 'biased')
    """
    records = {metric.record.name: metric.record for metric in _METRICS.values()}
    return dict(sorted(records.items()))


def make_metric(name: object, options: dict[str, Any]) -> Metric:
    """Build a metric from its name or an alias, and its options."""
    if not isinstance(name, str) or name not in _METRICS:
        raise not_found("metric", name, "the metrics", list(available()), fix=f"Pass one of {', '.join(available())}.")
    return _METRICS[name](**options)
