"""How well a logistic regression tells groups apart."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ptg.data import InputError, check_integer, check_number, listed, warn
from ptg.distance.metrics.explicit import ExplicitMetric
from ptg.distance.metrics.registry import MetricRecord, Option, register
from ptg.kernels.cpu.threads import run_tasks

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ptg.data import Matrix
    from ptg.distance.sample import Sample
    from ptg.execute import Run

_SOURCE = "10.1101/2023.12.26.572833"
_HELD_OUT = 0.2

_MAX_ITER = Option(
    "max_iter",
    1000,
    (),
    "steps of the fit, scikit-learn's lbfgs with its default penalty",
    check=partial(check_integer, minimum=1),
    accepts="a whole number of at least 1",
)
_TOL = Option(
    "tol",
    1e-4,
    (),
    "largest gradient of the penalised log-likelihood at which the fit ends, scikit-learn's default",
    check=partial(check_number, minimum=0.0, maximum=1.0, open_ends=True),
    accepts="a number between 0 and 1",
)


class _Probabilities(NamedTuple):
    """Class probabilities of some cells, (n_cells, n_classes), and whether the fit had converged."""

    values: NDArray[np.float64]
    converged: bool


class _ClassifierMetric(ExplicitMetric):
    """A metric of class probabilities. With the options `max_iter` and `tol`."""

    def _fit(self, train: Matrix, classes: NDArray[np.int64], test: Matrix) -> _Probabilities:
        from sklearn.linear_model import LogisticRegression

        max_iter = self.options["max_iter"]
        model = LogisticRegression(max_iter=max_iter, tol=self.options["tol"]).fit(train, classes)
        return _Probabilities(model.predict_proba(test), bool((model.n_iter_ < max_iter).all()))

    def _fit_all(
        self, tasks: list[Any], fit: Callable[[Any], _Probabilities | None], names_of: Callable[[Any], Any], run: Run
    ) -> list[NDArray[np.float64] | None]:
        """Call `fit` on every task in threads; one warning lists those that had not converged."""
        from sklearn.exceptions import ConvergenceWarning

        with warnings.catch_warnings():
            # It would come once per fit, and from another thread.
            warnings.simplefilter("ignore", ConvergenceWarning)
            found = run_tasks(fit, tasks, run.resources)
        not_converged = [
            names_of(task) for task, fitted in zip(tasks, found, strict=True) if fitted and not fitted.converged
        ]
        if not_converged:
            warn(
                f"{len(not_converged)} fit(s) of {self.record.name} had not converged after max_iter="
                f"{self.options['max_iter']} steps: {listed(not_converged)}. Pass a larger max_iter."
            )
        return [None if fitted is None else fitted.values for fitted in found]


def _rows(cells: Matrix, rows: NDArray[np.int64]) -> Matrix:
    taken: Matrix = cells[rows].astype(np.float64)
    return taken


@register(
    MetricRecord(
        name="classifier_proba",
        formula="mean probability of Y for a fifth of its cells, in a logistic regression of X against the others",
        source=_SOURCE,
        needs="cells",
        symmetric=False,
        zero_self=False,
        best_value=0.5,
        on_gpu=False,
        seeded=True,
        options=(
            Option(
                "random_state",
                0,
                (),
                "seed of the choice of cells that are held out",
                check=partial(check_integer, minimum=0),
                accepts="a whole number of at least 0",
            ),
            _MAX_ITER,
            _TOL,
        ),
    )
)
class ClassifierProba(_ClassifierMetric):
    """Probability that a classifier gives to the right one of two groups: between 0 and 1, and 1 if they are far apart.

    For groups that do not differ it is near the part of Y among the cells it was fitted to, which is a half for equal
    sizes. The held-out cells are chosen by ``numpy.random.default_rng(random_state)`` from Y's cells in the order of
    the data: a fifth, at least one. pertpy takes a new seed in every call. In a resample a cell may be among those held
    out and among the others.

    The default `tol` is scikit-learn's, and pertpy's. It ends the fit where the third digit still depends on rounding;
    with 1e-8 the result is that of the optimum.
    """

    undefined_because = "have one cell, and so none to fit with besides the one held out"

    def _of_cells(
        self, sample: Sample, left: NDArray[np.int64], right: NDArray[np.int64], run: Run
    ) -> NDArray[np.float64]:
        offsets, names = sample.offsets, sample.names

        def fit(pair: tuple[int, int]) -> _Probabilities | None:
            x = np.arange(offsets[pair[0]], offsets[pair[0] + 1])
            y = np.arange(offsets[pair[1]], offsets[pair[1] + 1])
            held_out = self._held_out(len(y))
            kept = y[~held_out]
            if not len(kept):
                return None
            train = _rows(sample.cells, np.concatenate([x, kept]))
            classes = np.repeat([0, 1], [len(x), len(kept)])
            return self._fit(train, classes, _rows(sample.cells, y[held_out]))

        pairs = list(zip(left.tolist(), right.tolist(), strict=True))
        found = self._fit_all(pairs, fit, lambda pair: (names[pair[0]], names[pair[1]]), run)
        return np.array([np.nan if of_pair is None else of_pair[:, 1].mean() for of_pair in found])

    def _held_out(self, n_cells: int) -> NDArray[np.bool_]:
        rng = np.random.default_rng(self.options["random_state"])
        held_out = np.zeros(n_cells, dtype=bool)
        held_out[rng.choice(n_cells, max(1, int(n_cells * _HELD_OUT)), replace=False)] = True
        return held_out

    def undefined_groups(self, sample: Sample, run: Run) -> NDArray[np.bool_]:  # noqa: ARG002
        """Mark groups of one cell."""
        return np.asarray(sample.sizes < 2)


@register(
    MetricRecord(
        name="classifier_cp",
        formula="1 - mean probability of X over the control's cells, in a logistic regression of all other groups",
        source=_SOURCE,
        needs="cells",
        symmetric=False,
        zero_self=False,
        on_gpu=False,
        pairwise=False,
        options=(_MAX_ITER, _TOL),
    )
)
class ClassifierClassProjection(_ClassifierMetric):
    """How little the control looks like a group, to a classifier that knows the compared groups but not the control.

    The classes are the groups that the call compares with the same control: with `groups=` those, in contrasts those
    with the same reference (and the same levels). The distances to one control add up to the number of groups less one.
    The cells are those of the layer or embedding that was named; pertpy takes adata.X whatever the keys say, and all
    groups of the data whatever `groups` says.
    """

    undefined_because = "have no defined projection"

    def _of_cells(
        self, sample: Sample, left: NDArray[np.int64], right: NDArray[np.int64], run: Run
    ) -> NDArray[np.float64]:
        controls, position = np.unique(right, return_inverse=True)
        pairs_of = [np.flatnonzero(position == number) for number in range(len(controls))]
        for control, pairs in zip(controls, pairs_of, strict=True):
            if len(np.unique(left[pairs])) < 2:
                raise InputError(
                    "metric='classifier_cp' tells groups apart, but only "
                    f"{sample.names[left[pairs[0]]]!r} is compared with "
                    f"{sample.names[control]!r}. Compare two groups or more with a control."
                )

        def fit(number: int) -> _Probabilities:
            groups = np.unique(left[pairs_of[number]])
            bounds = [(int(sample.offsets[group]), int(sample.offsets[group + 1])) for group in groups]
            train = _rows(sample.cells, np.concatenate([np.arange(*bound) for bound in bounds]))
            classes = np.repeat(groups, [stop - start for start, stop in bounds])
            of_control = np.arange(sample.offsets[controls[number]], sample.offsets[controls[number] + 1])
            return self._fit(train, classes, _rows(sample.cells, of_control))

        tasks = list(range(len(controls)))
        found = self._fit_all(tasks, fit, lambda number: sample.names[controls[number]], run)
        values = np.empty(len(left))
        for pairs, probabilities in zip(pairs_of, found, strict=True):
            assert probabilities is not None
            of_class = np.searchsorted(np.unique(left[pairs]), left[pairs])
            values[pairs] = 1.0 - probabilities.mean(axis=0)[of_class]
        return values

    def undefined_groups(self, sample: Sample, run: Run) -> NDArray[np.bool_]:  # noqa: ARG002
        """Mark none."""
        return np.zeros(len(sample.names), dtype=bool)
