"""Marker columns of the signature, batch after batch of targets, within the memory there is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ptg.kernels.contract.projection import TargetColumns

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ptg.mixscape.screen import Split
    from ptg.mixscape.signature_source import SignatureSource


@dataclass(frozen=True)
class Batch:
    """Some targets of a split, and what the kernels take.

    Attributes
    ----------
    targets
        Labels, in the order of the columns.
    cells
        Positions of their cells, target after target.
    columns
        See `TargetColumns`.
    """

    targets: list[int]
    cells: NDArray[np.int64]
    columns: TargetColumns

    def of_target(self, position: int) -> slice:
        """Where the cells of one target are in `cells`."""
        offsets = self.columns.cell_offsets
        return slice(int(offsets[position]), int(offsets[position + 1]))


def batches(
    source: SignatureSource, split: Split, markers: dict[int, NDArray[np.int64]], memory: int
) -> Iterator[Batch]:
    """Read the marker columns of all targets and their controls.

    The controls' columns are read once for all targets of a batch, each gene once: a batch ends where they would take
    more than half of `memory`.

    Parameters
    ----------
    source
        The signature.
    split
        Where targets and controls are.
    markers
        Positions of each target's markers, at least one; by label.
    memory
        Bytes.
    """
    # Read as cells x genes, kept as genes x cells: two copies for a moment.
    most = max(memory // 2 // (16 * max(len(split.control_cells), 1)), 1)
    members: list[int] = []
    genes: set[int] = set()
    for target, own in markers.items():
        wider = genes.union(own.tolist())
        if members and len(wider) > most:
            yield _read(source, split, members, markers)
            members, wider = [], set(own.tolist())
        members.append(target)
        genes = wider
    if members:
        yield _read(source, split, members, markers)


def _read(source: SignatureSource, split: Split, targets: list[int], markers: dict[int, NDArray[np.int64]]) -> Batch:
    genes = np.unique(np.concatenate([markers[target] for target in targets]))
    cells = [split.cells[target] for target in targets]
    values = [_by_gene(source, split.cells[target], markers[target]) for target in targets]
    columns = TargetColumns(
        control=_by_gene(source, split.control_cells, genes),
        columns=np.concatenate([np.searchsorted(genes, markers[target]) for target in targets]),
        marker_offsets=_offsets([len(markers[target]) for target in targets]),
        values=np.concatenate([block.ravel() for block in values]),
        value_offsets=_offsets([block.size for block in values]),
        cell_offsets=_offsets([len(positions) for positions in cells]),
        controls_before=np.concatenate([np.searchsorted(split.control_cells, positions) for positions in cells]),
    )
    return Batch(targets, np.concatenate(cells), columns)


def _by_gene(source: SignatureSource, cells: NDArray[np.int64], genes: NDArray[np.int64]) -> NDArray[Any]:
    return np.ascontiguousarray(source.columns(cells, genes).T)


def _offsets(sizes: list[int]) -> NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
