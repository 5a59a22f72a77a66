"""Which pairs of groups are solved together, and where their numbers lie. NumPy only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ptg.kernels.cuda.pieces import cut_runs

if TYPE_CHECKING:
    from numpy.typing import NDArray

TASK = np.dtype(
    [
        ("kernel", "i8"),
        ("rows", "i8"),
        ("columns", "i8"),
        ("vectors", "i8"),
        ("partial", "i8"),
        ("dual", "i8"),
        ("factor", "f8"),
        ("n", "i4"),
        ("m", "i4"),
        ("ld", "i4"),
        ("n_bands", "i4"),
        ("n_duals", "i4"),
        ("row_set", "i4"),
        ("column_set", "i4"),
        ("unused", "i4"),
    ],
    align=True,
)

STATE = np.dtype(
    [
        ("reached", "f8"),
        ("dual", "f8"),
        ("error", "f8"),
        ("iterations", "i4"),
        ("seen", "i4"),
        ("tried", "i4"),
        ("done", "i4"),
    ],
    align=True,
)


class Shape(NamedTuple):
    """How a pass lays out rows: values a lane of a warp holds, and warps that share a row."""

    values: int
    warps: int

    @property
    def columns(self) -> int:
        """Columns of the widest pair that it takes."""
        return 32 * self.values * self.warps

    @property
    def band(self) -> int:
        """Rows of a block of threads."""
        return 128 if self.warps == 1 else 32

    @property
    def threads(self) -> int:
        """Threads of a block."""
        return 128 if self.warps == 1 else 32 * self.warps


SHAPES = {
    np.dtype(np.float32): [
        Shape(4, 1),
        Shape(8, 1),
        Shape(12, 1),
        Shape(16, 1),
        Shape(16, 2),
        Shape(16, 4),
        Shape(16, 8),
    ],
    np.dtype(np.float64): [Shape(4, 1), Shape(8, 1), Shape(8, 2), Shape(8, 4), Shape(8, 8)],
}

N_VECTORS = 7
N_CHANGES = 16
N_PRODUCTS = 64


def make_tasks(
    sets: NDArray[np.int64], bounds: NDArray[np.int64], epsilon: NDArray[np.float64], shapes: list[Shape]
) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Describe the solution of pairs of sets, (n_pairs, 2), with their larger set as rows.

    Returns
    -------
    tasks
        (n_pairs,) of `TASK`; where their numbers lie is not yet known.
    shape
        (n_pairs,): number of the narrowest of the shapes that takes the columns, ``len(shapes)`` if none does.
    """
    sizes = np.diff(bounds)
    first, second = sets.min(axis=1), sets.max(axis=1)
    swaps = sizes[second] > sizes[first]
    rows, columns = np.where(swaps, second, first), np.where(swaps, first, second)
    tasks = np.zeros(len(sets), dtype=TASK)
    tasks["row_set"], tasks["column_set"] = rows, columns
    tasks["rows"], tasks["columns"] = bounds[rows], bounds[columns]
    tasks["n"], tasks["m"] = sizes[rows], sizes[columns]
    tasks["ld"] = -(-sizes[columns] // 8) * 8
    tasks["factor"] = 2.0 * np.log2(np.e) / epsilon
    shape = np.searchsorted([shape.columns for shape in shapes], sizes[columns])
    band = np.array([*(shape.band for shape in shapes), 1])[shape]
    tasks["n_bands"] = np.where(shape < len(shapes), -(-sizes[rows] // band), 1)
    tasks["n_duals"] = np.where(shape < len(shapes), tasks["n_bands"], sizes[rows])
    return tasks, shape


def task_bytes(tasks: NDArray[Any], itemsize: int) -> NDArray[np.int64]:
    """Bytes that the numbers of each task take on a device."""
    n, ld, bands = (tasks[name].astype(np.int64) for name in ("n", "ld", "n_bands"))
    vectors = ld * (8 * (bands + N_VECTORS) + itemsize * (1 + N_CHANGES))
    sums: NDArray[np.int64] = n * ld * itemsize + vectors + 8 * (bands + N_PRODUCTS) + STATE.itemsize + TASK.itemsize
    return sums


def place(tasks: NDArray[Any]) -> NDArray[Any]:
    """Lay the numbers of some tasks side by side; return the tasks with their places."""
    placed = tasks.copy()
    ld, bands = tasks["ld"].astype(np.int64), tasks["n_bands"].astype(np.int64)
    for name, size in (
        ("kernel", tasks["n"] * ld),
        ("vectors", ld),
        ("partial", bands * ld),
        ("dual", tasks["n_duals"].astype(np.int64)),
    ):
        placed[name] = np.cumsum(size) - size
    return placed


def cut_waves(sizes: NDArray[np.int64], memory: int) -> list[tuple[int, int]]:
    """Cut tasks into runs (first, stop) that take `memory` bytes together."""
    return cut_runs(np.concatenate([[0], np.cumsum(sizes)]), memory)
