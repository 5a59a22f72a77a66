"""Marker columns of the signature, batch after batch of targets, within the memory there is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ptg.kernels.contract.matrices import Blocks
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
    # Beside the controls' columns there may be as much again of what they are computed from.
    most = max(memory // 2 // (16 * max(len(split.control_cells), 1)), 1)
    members: list[int] = []
    seen, n_seen = np.zeros(source.shape[1], dtype=bool), 0
    for target, own in markers.items():
        n_new = len(own) - int(np.count_nonzero(seen[own]))
        if members and n_seen + n_new > most:
            yield _read(source, split, members, markers)
            members, n_seen, n_new = [], 0, len(own)
            seen[:] = False
        members.append(target)
        seen[own] = True
        n_seen += n_new
    if members:
        yield _read(source, split, members, markers)


def _read(source: SignatureSource, split: Split, targets: list[int], markers: dict[int, NDArray[np.int64]]) -> Batch:
    """Read all targets and, last, the controls, which have the markers of all of them."""
    own = [markers[target] for target in targets]
    is_marker = np.zeros(source.shape[1], dtype=bool)
    is_marker[np.concatenate(own)] = True
    genes = np.flatnonzero(is_marker)
    is_control = np.zeros(source.shape[0], dtype=bool)
    is_control[split.control_cells] = True
    cells = [split.cells[target] for target in targets]
    wanted = blocks_of([*cells, split.control_cells], [*own, genes])
    values, offsets = source.read(wanted), wanted.value_offsets
    of_targets = wanted.rows[: wanted.row_offsets[-2]]
    columns = TargetColumns(
        control=values[offsets[-2] :].reshape(len(genes), len(split.control_cells)),
        columns=(np.cumsum(is_marker) - 1)[wanted.columns[: wanted.column_offsets[-2]]],
        marker_offsets=wanted.column_offsets[:-1],
        values=values[: offsets[-2]],
        value_offsets=offsets[:-1],
        cell_offsets=wanted.row_offsets[:-1],
        controls_before=np.cumsum(is_control)[of_targets],
    )
    return Batch(targets, of_targets, columns)


def blocks_of(cells: list[NDArray[np.int64]], genes: list[NDArray[np.int64]]) -> Blocks:
    """Blocks of some genes in some cells each."""
    return Blocks(np.concatenate(cells), _offsets(cells), np.concatenate(genes), _offsets(genes))


def _offsets(parts: list[NDArray[np.int64]]) -> NDArray[np.int64]:
    return np.cumsum([0, *map(len, parts)], dtype=np.int64)
