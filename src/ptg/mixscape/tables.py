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
        self._screen = screen
        self.frames: dict[str, dict[str, pd.DataFrame]] = {}

    def add(self, split: Split, batch: Batch, result: ClassifiedTargets | ScoredTargets) -> None:
        """Add the targets of a batch that have scores."""
        parts = [_scores(position, split, batch, result) for position in range(len(batch.targets))]
        cells = np.concatenate([part.cells for part in parts])
        names, stop = self._obs_names[cells], 0  # of all targets at once
        for target, part in zip(batch.targets, parts, strict=True):
            start, stop = stop, stop + len(part.cells)
            if start < stop:
                frame = self._frame(part, target, names[start:stop])
                self.frames.setdefault(stored_name(self._screen.names[target]), {})[stored_name(split.name)] = frame

    def _frame(self, part: _Scores, target: int, index: pd.Index[Any]) -> pd.DataFrame:
        names = self._screen.names
        kind = pd.CategoricalDtype([names[target], names[self._screen.control]])
        labels = pd.Categorical.from_codes(part.is_control.astype(np.int8), dtype=kind)
        return pd.DataFrame({"pvec": part.scores, self._pert_key: labels}, index=index)


class _Scores(NamedTuple):
    """Scores of a target's cells and a sample of the controls, in the order of the data; empty without a direction."""

    cells: NDArray[np.int64]
    scores: NDArray[np.float64]
    is_control: NDArray[np.bool_]


def _scores(position: int, split: Split, batch: Batch, result: ClassifiedTargets | ScoredTargets) -> _Scores:
    sample = result.control_sample[position]
    sample = sample[sample >= 0]
    own = batch.of_target(position)
    if not len(sample):
        own = slice(own.start, own.start)
    cells = np.concatenate([batch.cells[own], split.control_cells[sample]])
    scores = np.concatenate([result.scores[own], result.control_scores[position, : len(sample)]])
    order = np.argsort(cells, kind="stable")
    return _Scores(cells[order], scores[order], order >= own.stop - own.start)


def target_table(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """One row per target and split, indexed by target."""
    table = pd.DataFrame(rows)
    table.index = pd.Index(table.pop("target").astype(str), name="target")
    return table
