"""The two parts of the benchmark: a peer, rows, and what a machine must have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.peer import PERTPY, RAPIDS, Peer
from benchmarks.record import Row
from benchmarks.rows import ROWS
from benchmarks.rows_gpu import GPU_ROWS


@dataclass(frozen=True)
class Suite:
    """A peer and the rows that it takes part in.

    Attributes
    ----------
    name
        Chooses the columns of the table.
    rows, peer
        What is measured, beside what.
    compiles
        Run each side a second time, to see how long the first call takes when compiled code is on disk.
    """

    name: str
    rows: tuple[Row, ...]
    peer: Peer
    compiles: bool

    def select(self, names: Sequence[str] | None) -> list[Row]:
        """Return the rows called `names`, or all."""
        known = {row.name: row for row in self.rows}
        unknown = sorted(set(names or ()) - set(known))
        if unknown:
            raise SystemExit(f"--rows: {', '.join(unknown)} not known. Choose from: {', '.join(known)}")
        return [known[name] for name in names] if names else list(self.rows)


CPU = Suite("cpu", ROWS, PERTPY, compiles=True)
GPU = Suite("gpu", GPU_ROWS, RAPIDS, compiles=False)


def find_row(name: str) -> tuple[Suite, Row]:
    """Return the row called `name` and its suite."""
    return next((suite, row) for suite in (CPU, GPU) for row in suite.rows if row.name == name)
