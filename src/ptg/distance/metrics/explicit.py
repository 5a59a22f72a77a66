"""Metrics that take no weights: the cells of a resample are written out."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ptg.distance.metrics.registry import Metric
from ptg.execute import to_host

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ptg.distance.sample import Sample
    from ptg.execute import Run


class ExplicitMetric(Metric):
    """A metric of cells; for a resample it is called with each cell as many times as the resample holds it."""

    @abstractmethod
    def _of_cells(
        self, sample: Sample, left: NDArray[np.int64], right: NDArray[np.int64], run: Run
    ) -> NDArray[np.float64]:
        """Compute the value of each pair of groups."""

    def values(
        self,
        sample: Sample,
        left: NDArray[np.int64],
        right: NDArray[np.int64],
        *,
        weights: NDArray[Any] | None = None,
        run: Run,
    ) -> NDArray[np.float64]:
        """Compute the values; with weights one draw after the other."""
        left, right = to_host(left), to_host(right)
        if weights is None:
            return self._of_cells(sample, left, right, run)
        return np.array([self._of_cells(drawn(sample, draw), left, right, run) for draw in weights])


def drawn(sample: Sample, weights: NDArray[Any]) -> Sample:
    """Repeat every cell as often as a draw holds it; (n_cells,) whole numbers."""
    cells = sample.cells[np.repeat(np.arange(len(weights)), weights)]
    offsets = np.append(0, np.cumsum(weights, dtype=np.int64))[sample.offsets]
    return replace(sample, cells=cells, offsets=offsets)
