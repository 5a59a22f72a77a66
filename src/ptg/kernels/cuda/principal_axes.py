"""Leading principal axes of many targets with the controls that they share.

The correlation matrix of a target with the controls is never formed: a product with it is one with the scatter matrix
of the controls, which all targets of a group take together, and two with the target's own standardised cells. Groups,
blocks and their sizes depend on the data alone, so that the bits do not depend on the devices; nor on the memory, from
8 GiB on.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import cupy as cp
import numpy as np

from ptg.kernels.cuda.devices import on_devices
from ptg.kernels.cuda.eigen import leading_eigenvectors, subspace_size
from ptg.kernels.cuda.matrix_parts import Part, fill_rows
from ptg.kernels.cuda.memory import reports_memory
from ptg.kernels.cuda.rows import RowReader
from ptg.kernels.cuda.source import kernel

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ptg.kernels.contract.resources import Resources

_GROUP = 256
"""Targets at once: a step for one takes as long as for many."""

_GROUP_BYTES = 2 << 30
"""Memory of the cells of a group, and of the vectors of a group; a target that exceeds it is taken alone."""

_FORMED = 16_384
"""Genes up to which a scatter matrix is formed (2 GiB); beyond, the cells are applied to vectors instead."""

_SHARE = 4
"""Of the memory, the part that each of the three may take: less than the above on small devices."""


@reports_memory
def principal_axes(
    control: Any, cells: Any, offsets: NDArray[Any], n_axes: NDArray[Any], *, resources: Resources
) -> NDArray[Any]:
    """Leading principal axes of each target's cells with the controls; see the contract."""
    offsets, n_axes = cp.asnumpy(offsets).astype(np.int64), cp.asnumpy(n_axes).astype(np.int64)
    n_genes = control.shape[1]
    first_axis = np.concatenate([[0], np.cumsum(n_axes)])
    axes = np.empty((n_genes, int(first_axis[-1])))
    limit = min(_GROUP_BYTES, resources.memory // _SHARE)
    groups = _groups(np.diff(offsets), n_axes, n_genes, limit)
    resources.progress.start(float(len(groups)))

    def compute(share: list[NDArray[np.int64]]) -> None:
        if not share:
            return
        controls, targets = _Rows(control, resources), _Rows(cells, resources)
        is_formed = n_genes <= _FORMED and 8 * n_genes * n_genes <= resources.memory // _SHARE
        pool = _Pool([controls.all()], is_formed=is_formed)
        for group in share:
            starts, sizes = offsets[group], np.diff(offsets)[group]
            if _own_bytes(int(sizes[0]), n_genes) > limit:
                # A single target with too many cells to be kept dense: they join the controls.
                found = _group_axes(
                    pool.with_part(targets.part(int(starts[0]), int(starts[0] + sizes[0]))),
                    targets,
                    starts,
                    np.zeros(1, dtype=np.int64),
                    n_axes[group],
                )
            else:
                found = _group_axes(pool, targets, starts, sizes, n_axes[group])
            columns = [np.arange(first_axis[target], first_axis[target + 1]) for target in group]
            axes[:, np.concatenate(columns)] = found.get()
            resources.progress.advance(1.0)

    n_devices = len(resources.devices)
    on_devices(compute, [groups[number::n_devices] for number in range(n_devices)], resources.devices)
    return axes


def _groups(sizes: NDArray[np.int64], n_axes: NDArray[np.int64], n_genes: int, limit: int) -> list[NDArray[np.int64]]:
    """Targets that are computed together: of similar size, since all are padded to the largest; the largest first."""
    wanted = np.flatnonzero(n_axes)
    if not len(wanted):
        return []
    vectors_bytes = 16 * n_genes * subspace_size(int(n_axes.max()))
    most = min(_GROUP, max(limit // vectors_bytes, 1))
    groups: list[list[int]] = []
    for target in wanted[np.argsort(-sizes[wanted], kind="stable")].tolist():
        fits = bool(groups) and (len(groups[-1]) + 1) * _own_bytes(int(sizes[groups[-1][0]]), n_genes) <= limit
        if fits and len(groups[-1]) < most:
            groups[-1].append(target)
        else:
            groups.append([target])
    return [np.array(group) for group in groups]


def _own_bytes(n_cells: int, n_genes: int) -> int:
    """Memory of the standardised cells of one target."""
    return 8 * (n_cells + 1) * n_genes


class _Rows:
    """A dense or CSR matrix on the current device."""

    def __init__(self, matrix: Any, resources: Resources) -> None:
        self.n_rows, self.n_columns = matrix.shape
        self.rows = RowReader(matrix, resources).load(0, self.n_rows)

    def part(self, first: int, stop: int) -> Part:
        """Rows `first` to ``stop - 1``."""
        return Part(self.rows, first, stop, self.n_columns)

    def all(self) -> Part:
        """Every row."""
        return self.part(0, self.n_rows)


class _Pool:
    """Cells whose scatter matrix several targets share.

    Attributes
    ----------
    n
        Number of cells.
    mean, squares
        (n_genes,) mean and centred sum of squares.
    """

    def __init__(self, parts: list[Part], *, is_formed: bool) -> None:
        self._parts, self._is_formed = parts, is_formed
        self.n = sum(part.n for part in parts)
        self.mean: Any = 0.0
        for block in self._blocks():
            self.mean = self.mean + block.sum(axis=0) / max(self.n, 1)
        self.squares: Any = 0.0
        self._scatter: Any = None
        for block in self._blocks():
            centred = block - self.mean
            self.squares = self.squares + (centred * centred).sum(axis=0)
            if is_formed:
                product = centred.T @ centred
                self._scatter = product if self._scatter is None else self._scatter + product

    def with_part(self, part: Part) -> _Pool:
        """Return the pool with more cells in it."""
        return _Pool([*self._parts, part], is_formed=self._is_formed)

    def _blocks(self) -> Iterator[Any]:
        for part in self._parts:
            yield from part.blocks()

    def times(self, vectors: Any) -> Any:
        """Multiply the rows of `vectors` by the scatter matrix."""
        if self._scatter is not None:
            return vectors @ self._scatter
        result = cp.zeros(vectors.shape)
        for block in self._blocks():
            centred = block - self.mean
            result += (vectors @ centred.T) @ centred
        return result


class _Group:
    """Correlation matrices of some targets, each with the pool."""

    def __init__(self, pool: _Pool, cells: _Rows, starts: NDArray[np.int64], sizes: NDArray[np.int64]) -> None:
        self._pool = pool
        n_rows, n_genes = int(sizes.max()) + 1, cells.n_columns
        self._cells = cp.zeros((len(sizes), n_rows, n_genes))
        number = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        wanted = np.repeat(starts, sizes) + number
        places = np.repeat(np.arange(len(sizes)) * n_rows, sizes) + number
        fill_rows(cells.rows, cp.asarray(wanted), cp.asarray(places), self._cells)
        self._factor = cp.empty((len(sizes), n_genes))
        kernel("principal_axes.cu", "standardise_rows")(
            (-(-n_genes // 128), len(sizes)),
            (128,),
            (
                self._cells,
                cp.asarray(sizes.astype(np.int32)),
                np.int64(n_rows),
                np.int64(n_genes),
                pool.mean,
                pool.squares,
                np.float64(pool.n),
                self._factor,
            ),
        )

    @property
    def active(self) -> Any:
        """(n_targets, n_genes): genes that vary."""
        return self._factor > 0

    def times(self, vectors: Any) -> Any:
        """Multiply each target's vectors (n_targets, any number, n_genes) by its correlation matrix."""
        factor = self._factor[:, None]
        scaled = (vectors * factor).reshape(-1, vectors.shape[2])
        result = self._pool.times(scaled).reshape(vectors.shape) * factor
        inner = cp.matmul(self._cells, vectors.transpose(0, 2, 1))
        result += cp.matmul(inner.transpose(0, 2, 1), self._cells)
        return result


def _group_axes(
    pool: _Pool, cells: _Rows, starts: NDArray[np.int64], sizes: NDArray[np.int64], n_axes: NDArray[np.int64]
) -> Any:
    """(n_genes, axes of the group's targets) on the current device."""
    matrices = _Group(pool, cells, starts, sizes)
    vectors = leading_eigenvectors(matrices.times, matrices.active, n_axes)
    wanted = np.arange(vectors.shape[1]) < n_axes[:, None]
    return signed(vectors[cp.asarray(wanted)].T)


def signed(vectors: Any) -> Any:
    """Turn each column so that its largest entry is positive."""
    if not vectors.size:
        return vectors
    largest = cp.abs(vectors).argmax(axis=0)
    entries = vectors[largest, cp.arange(vectors.shape[1])]
    return cp.ascontiguousarray(vectors * cp.where(entries < 0, -1.0, 1.0))
