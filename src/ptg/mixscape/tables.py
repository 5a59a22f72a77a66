"""What mixscape and mixscale leave in `uns`: scores for density plots, and one row per target and split."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from ptg.kernels.contract import projection as outcome
from ptg.mixscape.screen import stored_name

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ptg.kernels.contract.projection import ClassifiedTargets, ScoredTargets
    from ptg.mixscape.columns import Batch
    from ptg.mixscape.screen import Screen, Split

#: Controls whose scores are kept for each target and split: enough for a density, whatever the number of controls.
N_SAMPLE = 1000

#: Why a target has no classes or scores although it has markers.
REASONS = {
    outcome.OK: "",
    outcome.NO_DIRECTION: "its cells do not differ from the controls in the signature of its marker genes",
    outcome.CONTROL_CONSTANT: "the controls' scores do not vary",
    outcome.PERTURBED_CONSTANT: "the scores of its cells do not vary",
    outcome.FEW_PERTURBED: "",  # tested, with the result that no cell is perturbed
    outcome.ILL_DEFINED: "the mixture collapsed on a few cells",
}


class ScoreFrames:
    """Scores by target and split, as pertpy keeps them in ``uns["mixscape"]``."""

    def __init__(self, obs_names: pd.Index[Any], pert_key: str, screen: Screen) -> None:
        self._obs_names = obs_names
        self._pert_key = pert_key
        self._keys = [stored_name(name) for name in screen.names]
        self._labels = pd.Index(screen.names)
        self._control = screen.control
        self.frames: dict[str, dict[str, pd.DataFrame]] = {}

    def add(self, split: Split, batch: Batch, result: ClassifiedTargets | ScoredTargets) -> None:
        """Add the targets of a batch that have scores."""
        scores = _scores(split, batch, result)
        label = np.where(scores.is_control, self._control, np.repeat(batch.targets, np.diff(scores.offsets)))
        # One frame for all, of which each target has a part: a thousand frames take longer to make than the scores.
        columns = {"pvec": scores.pvec, self._pert_key: self._labels.take(label).array}
        scored = pd.DataFrame(columns, index=self._obs_names[scores.cells])
        bounds = scores.offsets.tolist()
        for target, start, stop in zip(batch.targets, bounds[:-1], bounds[1:], strict=True):
            if start < stop:
                frame = scored.iloc[start:stop]
                self.frames.setdefault(self._keys[target], {})[stored_name(split.name)] = frame


class _Scores(NamedTuple):
    """Scores of each target's cells and a sample of the controls, in the order of the data; none without a direction.

    Target `k` of the batch has ``cells[offsets[k]:offsets[k + 1]]``.
    """

    cells: NDArray[np.int64]
    pvec: NDArray[np.float64]
    is_control: NDArray[np.bool_]
    offsets: NDArray[np.int64]


def _scores(split: Split, batch: Batch, result: ClassifiedTargets | ScoredTargets) -> _Scores:
    sampled = result.control_sample >= 0
    n_own, n_sampled = np.diff(batch.columns.cell_offsets), sampled.sum(axis=1)
    n_own = np.where(n_sampled > 0, n_own, 0)
    own = np.repeat(n_sampled > 0, np.diff(batch.columns.cell_offsets))
    cells = np.concatenate([batch.cells[own], split.control_cells[result.control_sample[sampled]]])
    values = np.concatenate([result.scores[own], result.control_scores[sampled]])
    each = np.arange(len(n_own))
    target = np.concatenate([np.repeat(each, n_own), np.repeat(each, n_sampled)])
    # Two ascending runs, which a stable sort merges.
    order = np.argsort(target * len(split.codes) + cells, kind="stable")
    offsets = np.concatenate([[0], np.cumsum(n_own + n_sampled)])
    return _Scores(cells[order], values[order], order >= n_own.sum(), offsets)


def target_table(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """One row per target and split, indexed by target."""
    table = pd.DataFrame(rows)
    table.index = pd.Index(table.pop("target").astype(str), name="target")
    return table
