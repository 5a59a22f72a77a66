"""Distances between two matrices of cells: the part of `Distance` that needs no AnnData."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple, overload

import numpy as np
import pandas as pd

from ptg.data import InputError, as_matrix, check_choice, check_flag, entry_point
from ptg.distance.evaluate import Bootstrap
from ptg.distance.layout import ListLayout
from ptg.distance.sample import Sample
from ptg.distance.tool import Cells, DistanceTool
from ptg.execute import to_host

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ptg.data import Matrix
    from ptg.distance.intervals import BootstrapDraws
    from ptg.execute import Run


class MeanVar(NamedTuple):
    """Mean and population variance of a distance over bootstrap draws."""

    mean: float
    variance: float


class ArrayDistances(DistanceTool):
    """`__call__`, `bootstrap` and `compare_distance`."""

    @entry_point
    def __call__(self, X: Matrix, Y: Matrix) -> float:
        """Compute the distance between two groups of cells.

        Parameters
        ----------
        X, Y
            Cells x columns, dense or sparse, on the host or on a GPU.

        Returns
        -------
        The distance; for ``r2_distance`` X is the truth and Y the prediction.

        Raises
        ------
        InputError
            Not matrices of finite numbers with the same columns.

        Examples
        --------
        >>> import numpy as np, ptg
        >>> ptg.Distance("euclidean")(np.array([[0.0, 0.0]]), np.array([[3.0, 4.0]]))
        5.0
        """
        return self._value(X, Y)

    @overload
    def bootstrap(
        self,
        X: Matrix,
        Y: Matrix,
        *,
        n_bootstrap: int = ...,
        random_state: int = ...,
        return_draws: Literal[False] = ...,
    ) -> MeanVar: ...

    @overload
    def bootstrap(
        self, X: Matrix, Y: Matrix, *, n_bootstrap: int = ..., random_state: int = ..., return_draws: Literal[True]
    ) -> tuple[MeanVar, BootstrapDraws]: ...

    @entry_point
    def bootstrap(
        self, X: Matrix, Y: Matrix, *, n_bootstrap: int = 100, random_state: int = 0, return_draws: bool = False
    ) -> MeanVar | tuple[MeanVar, BootstrapDraws]:
        """Compute mean and variance of the distance over resamples of both groups.

        Parameters
        ----------
        X, Y
            Cells x columns, dense or sparse, on the host or on a GPU.
        n_bootstrap
            Number of resamples. Each draws as many cells as the group has, with replacement.
        random_state
            Seed; the same seed gives the same resamples on any device.
        return_draws
            Return also the draws, from which `BootstrapDraws.interval` makes confidence intervals.

        Returns
        -------
        MeanVar: mean and population variance (divided by `n_bootstrap`) of the distance. With `return_draws` a tuple
        of it and `BootstrapDraws` with one column, ``"distance"``.

        Notes
        -----
        A resample holds some cells more than once, at distance 0 of each other. The mean over resamples of the unbiased
        energy distance is therefore near the biased one; the distance itself is what the other methods return.
        """
        self._metric.require_pairs()
        resampling = Bootstrap.checked(True, n_bootstrap, random_state, return_draws)
        cells = _two(X, Y)
        values = self._evaluate(cells, _THE_PAIR, resampling, None, False)
        assert values.variances is not None
        found = MeanVar(float(values.means[0]), float(values.variances[0]))
        if values.draws is None:
            return found
        return found, self._draws(cells, _THE_PAIR, values.draws, pd.Index(["distance"]), None)

    @entry_point
    def compare_distance(
        self,
        pert: Matrix,
        pred: Matrix,
        ctrl: Matrix,
        mode: str = "simple",
        fit_to_pert_and_ctrl: bool = False,
    ) -> float:
        """Score a prediction of perturbed cells: its distance to the truth, relative to that of control cells.

        Parameters
        ----------
        pert
            Real perturbed cells, the truth: cells x columns, dense or sparse.
        pred
            Predicted perturbed cells.
        ctrl
            Control cells, the baseline: what a prediction of no effect would look like.
        mode
            ``"simple"``, or ``"scaled"``: `pert` and `pred` are first scaled column by column, so that the smallest and
            the largest value of the control cells become 0 and 1 (a constant column is shifted only). As in pertpy, the
            control cells themselves are not scaled.
        fit_to_pert_and_ctrl
            Take the smallest and the largest value of real perturbed and control cells together.

        Returns
        -------
        ``d(pert, pred) / d(ctrl, pred)``. 0 is a perfect prediction; 1 one that is as far from the truth as it is from
        control. NaN where both distances are 0, infinite where the prediction is the control cells themselves.

        Raises
        ------
        InputError
            Not matrices of finite numbers with the same columns, or an unknown mode.

        Notes
        -----
        The baseline is the distance of the *prediction* to control, as in pertpy 1.4.0, not the distance of the truth
        to control: a prediction can also lower its score by moving away from control in a wrong direction.

        Examples
        --------
        >>> import numpy as np, ptg
        >>> truth, predicted, control = np.array([[4.0]]), np.array([[3.0]]), np.array([[0.0]])
        >>> round(ptg.Distance("euclidean").compare_distance(truth, predicted, control), 3)
        0.333
        """
        scaled = check_choice("mode", mode, ["simple", "scaled"]) == "scaled"
        together = check_flag("fit_to_pert_and_ctrl", fit_to_pert_and_ctrl)
        named = {"pert": pert, "pred": pred, "ctrl": ctrl}
        truth, predicted, control = (as_matrix(cells, name) for name, cells in named.items())
        for cells, name in ((predicted, "pred"), (control, "ctrl")):
            if cells.shape[1] != truth.shape[1]:
                raise InputError(
                    f"pert has {truth.shape[1]} columns and {name} has {cells.shape[1]}. "
                    "Pass matrices with the same columns."
                )
        if scaled:
            low, width = _ranges([truth, control] if together else [control])
            truth, predicted = ((_dense(cells) - low) / width for cells in (truth, predicted))
        to_truth, to_control = (self._value(cells, predicted) for cells in (truth, control))
        with np.errstate(divide="ignore", invalid="ignore"):
            return float(np.divide(to_truth, to_control))

    def _value(self, X: Matrix, Y: Matrix) -> float:
        self._metric.require_pairs()
        return float(self._evaluate(_two(X, Y), _THE_PAIR, None, None, False).means[0])


_THE_PAIR = ListLayout(np.array([0]), np.array([1]))


def _two(X: Matrix, Y: Matrix) -> Cells:
    def load(run: Run) -> Sample:
        x, y = (as_matrix(cells, name, bring=run.to_device) for cells, name in ((X, "X"), (Y, "Y")))
        return Sample.of_two(x, y)

    return Cells((X, Y), load)


def _dense(cells: Matrix) -> NDArray[np.float64]:
    host = to_host(cells)
    dense: NDArray[Any] = host if isinstance(host, np.ndarray) else host.toarray()
    return dense.astype(np.float64)


def _ranges(matrices: list[Matrix]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Smallest value of each column over all matrices, and how far the largest is from it; 1 for a constant one."""
    dense = [_dense(cells) for cells in matrices]
    low = np.min([cells.min(axis=0) for cells in dense], axis=0)
    width = np.max([cells.max(axis=0) for cells in dense], axis=0) - low
    return low, np.where(width == 0, 1.0, width)
