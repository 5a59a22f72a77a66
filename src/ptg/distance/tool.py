"""What the parts of `Distance` have in common: find cells, and ask for the distances of pairs of groups."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd

from ptg.data import as_matrix, check_flag, find_matrix
from ptg.distance.evaluate import Bootstrap, PairValues, evaluate
from ptg.distance.intervals import BootstrapDraws, acceleration
from ptg.distance.sample import Sample
from ptg.execute import Run, open_run, to_host

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

    from ptg.data import Groups
    from ptg.distance.layout import Layout
    from ptg.distance.metrics import Metric
    from ptg.execute.device import MultiGpu


class Cells(NamedTuple):
    """Where the cells of a call are, and how they become a sample.

    Attributes
    ----------
    stored
        The caller's matrices.
    load
        Checks them and brings them to the device of a run.
    """

    stored: tuple[Any, ...]
    load: Callable[[Run], Sample]


class DistanceTool:
    """A metric, where the cells are, and a device; `Distance` fills them in."""

    _metric: Metric
    metric: str
    layer_key: str | None
    obsm_key: str | None
    device: str | None

    def _take_over(self, other: DistanceTool) -> None:
        """Measure as another tool does."""
        self._metric, self.metric = other._metric, other.metric
        self.layer_key, self.obsm_key, self.device = other.layer_key, other.obsm_key, other.device

    def _find(self, adata: AnnData, groups: Groups) -> Cells:
        values, name = find_matrix(adata, layer=self.layer_key, obsm=self.obsm_key, argument="layer_key")
        return Cells((values,), lambda run: Sample.of_groups(as_matrix(values, name, bring=run.to_device), groups))

    @contextmanager
    def _open(self, cells: Cells, multi_gpu: MultiGpu, show_progressbar: bool) -> Iterator[tuple[Sample, Run]]:
        show = check_flag("show_progressbar", show_progressbar)
        device = self._metric.device(self.device)
        with open_run(self.metric, device=device, multi_gpu=multi_gpu, show_progressbar=show, near=cells.stored) as run:
            yield cells.load(run), run

    def _evaluate(
        self,
        cells: Cells,
        layout: Layout,
        bootstrap: Bootstrap | None,
        multi_gpu: MultiGpu,
        show_progressbar: bool,
    ) -> PairValues:
        with self._open(cells, multi_gpu, show_progressbar) as (sample, run):
            left, right = layout.pairs(run.arrays)
            distinct = layout.distinct
            return evaluate(self._metric, sample, left, right, bootstrap=bootstrap, run=run, distinct=distinct)

    def _draws(
        self, cells: Cells, layout: Layout, draws: NDArray[Any], index: pd.Index[Any], multi_gpu: MultiGpu
    ) -> BootstrapDraws:
        """Put draws together with what intervals need besides."""

        def accelerations() -> NDArray[Any]:
            with self._open(cells, multi_gpu, False) as (sample, run):
                left, right = (to_host(side) for side in layout.pairs(run.arrays))
                return acceleration(self._metric, sample, left, right, run)

        population = self._metric.plug_in()
        with self._open(cells, multi_gpu, False) as (sample, run):
            left, right = layout.pairs(run.arrays)
            observed, plug_in = (
                to_host(evaluate(metric, sample, left, right, bootstrap=None, run=run, distinct=layout.distinct).means)
                for metric in (self._metric, population)
            )
        return BootstrapDraws(
            pd.DataFrame(draws, columns=index, index=pd.RangeIndex(len(draws), name="draw")),
            pd.Series(observed, index=index, name=self.metric),
            pd.Series(plug_in, index=index, name=self.metric),
            accelerations,
        )
