"""Mann-Whitney U against one control group, on GPUs: see `ptg.kernels.contract.ranksum`."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import cupy as cp
import numpy as np

from ptg.kernels.cuda.devices import on_devices
from ptg.kernels.cuda.download import Downloads
from ptg.kernels.cuda.matrices import take_rows
from ptg.kernels.cuda.memory import reports_memory, with_fitting_size
from ptg.kernels.cuda.pieces import cut_runs, share_out
from ptg.kernels.cuda.rows import DeviceRows, RowPieces, RowReader, is_on_host
from ptg.kernels.cuda.source import kernel
from ptg.kernels.cuda.transfer import to_device

if TYPE_CHECKING:
    import scipy.sparse as sp
    from numpy.typing import NDArray

    from ptg.kernels.contract.resources import Resources

_THREADS = 256
_FEWEST_ENTRIES = 1 << 20
_NODE = 8
"""Values of a node of a search tree, as in `ranksum.cu`."""

_GENE = np.dtype([("first_node", np.int64), ("n", np.int32), ("below_zero", np.int32)])
"""What `ranksum.cu` knows of a gene's controls."""

_BYTES_PER_CONTROL = 72
"""Temporaries per nonzero value of a control: the value, its gene, two sorts with their permutations, a search tree."""

_BYTES_PER_RESULT = 32


@reports_memory
def u_statistics(
    matrix: NDArray[Any] | sp.csr_matrix[Any],
    order: NDArray[np.int64],
    offsets: NDArray[np.int64],
    control: NDArray[np.int64],
    *,
    out: Any = None,
    resources: Resources,
) -> NDArray[np.float64]:
    """Mann-Whitney U of every group against the control: see the contract."""
    shape = (len(offsets) - 1, matrix.shape[1])
    result: NDArray[np.float64] = np.empty(shape) if out is None else out
    if 0 in {*shape, len(order), len(control)}:
        result[...] = 0.0
        return result
    matrix, cells = _rows_of_interest(matrix, _Cells.on_host(order, offsets, control), resources)
    reader = RowReader(matrix, resources)

    def compute(entries: int) -> None:
        _RankSums(reader, cells, entries, resources).u_statistics(result)

    with_fitting_size(compute, reader.entries_at_once, smallest=_FEWEST_ENTRIES, what="stored values at once")
    return result


class _Cells(NamedTuple):
    """Rows of the groups, one group after another, and of the control."""

    order: NDArray[np.int64]
    offsets: NDArray[np.int64]
    control: NDArray[np.int64]

    @classmethod
    def on_host(cls, *arrays: Any) -> _Cells:
        return cls(*(np.asarray(cp.asnumpy(array), dtype=np.int64) for array in arrays))

    @property
    def group_of(self) -> NDArray[np.int32]:
        sizes = np.diff(self.offsets)
        return np.repeat(np.arange(len(sizes)), sizes).astype(np.int32)


def _rows_of_interest(matrix: Any, cells: _Cells, resources: Resources) -> tuple[Any, _Cells]:
    """Leave out the other rows of a matrix on the host, if that spares half of it the way to the device."""
    wanted = np.zeros(matrix.shape[0], dtype=bool)
    wanted[cells.order] = wanted[cells.control] = True
    if 2 * np.count_nonzero(wanted) > len(wanted) or not is_on_host(matrix):
        return matrix, cells
    position = np.cumsum(wanted) - 1
    some = take_rows(matrix, np.flatnonzero(wanted), resources=resources)
    return some, _Cells(position[cells.order], cells.offsets, position[cells.control])


class _Block(NamedTuple):
    """Genes `first` to ``stop - 1`` and the nonzero values of their controls.

    Attributes
    ----------
    starts
        (n_genes + 1,) int64: the first control of each gene.
    below_zero
        (n_genes,) int64: twice the place of a zero among all controls.
    values, genes
        Nonzero values of controls and their genes, counted from `first`, in any order.
    """

    first: int
    stop: int
    starts: NDArray[np.int64]
    below_zero: NDArray[np.int64]
    values: Any
    genes: Any


class _RankSums:
    """One call. Every device has a share of the rows; a number `k` means ``resources.devices[k]``."""

    def __init__(self, reader: RowReader, cells: _Cells, entries: int, resources: Resources) -> None:
        self._reader, self._cells, self._resources = reader, cells, resources
        self._devices = resources.devices
        shares = share_out(reader.starts, len(self._devices))
        self._pieces = [RowPieces(reader, np.arange(first, stop + 1), entries) for first, stop in shares]

    def u_statistics(self, result: Any) -> None:
        """Fill (n_groups, n_genes)."""
        sizes = np.diff(self._cells.offsets)
        counts = np.stack(self._on_devices(self._count))
        stored = counts.sum(axis=(0, 1))
        cost = np.cumsum(np.append(0, _BYTES_PER_CONTROL * stored + _BYTES_PER_RESULT * len(sizes)))
        blocks = cut_runs(cost, self._resources.memory)
        self._resources.progress.start(float(self._reader.starts[-1] * len(blocks)))
        for first, stop in blocks:
            block = self._block(counts, first, stop)
            parts = self._on_devices(partial(self._place, block))
            with cp.cuda.Device(self._devices[0]):
                twice = to_device(parts[0], self._resources)
                for part in parts[1:]:
                    twice += to_device(part, self._resources)
                zeros = cp.asarray(sizes)[:, None] * cp.asarray(block.below_zero)
                with Downloads(self._resources) as downloads:
                    downloads.start((twice.view(np.int64) + zeros) / 2, result[:, first:stop])

    def _on_devices(self, function: Any) -> Any:
        """Results of ``function(k)`` of every device; on the host if there are several."""

        def call(k: int) -> Any:
            result = function(k)
            if len(self._devices) == 1:
                return result
            return tuple(map(cp.asnumpy, result)) if isinstance(result, tuple) else cp.asnumpy(result)

        return on_devices(call, range(len(self._devices)), self._devices)

    def _count(self, k: int) -> NDArray[np.int64]:
        """(2, n_genes) controls on this device below and above zero."""
        counts = cp.zeros((2, self._reader.n_columns), dtype=np.uint64)
        control = cp.asarray(self._cells.control)
        for _, _, rows in self._pieces[k]:
            self._launch("count_signs", rows, control, (np.int64(len(control)), counts))
        return np.asarray(counts.get().astype(np.int64))

    def _block(self, counts: NDArray[np.int64], first: int, stop: int) -> _Block:
        parts = self._on_devices(lambda k: self._gather(k, counts[k].sum(axis=0)[first:stop], first, stop))
        values, genes = parts[0] if len(parts) == 1 else map(np.concatenate, zip(*parts, strict=True))
        negative, positive = counts.sum(axis=0)[:, first:stop]
        n_zero = len(self._cells.control) - negative - positive
        starts = np.concatenate([[0], np.cumsum(negative + positive)])
        return _Block(first, stop, starts, 2 * negative + n_zero, values, genes)

    def _gather(self, k: int, n_values: NDArray[np.int64], first: int, stop: int) -> tuple[Any, Any]:
        """Nonzero values of this device's controls, and their genes."""
        starts = np.concatenate([[0], np.cumsum(n_values)])
        values = cp.empty(int(starts[-1]), dtype=self._reader.dtype)
        genes = cp.empty(len(values), dtype=np.int32)
        control, filled = cp.asarray(self._cells.control), cp.zeros(stop - first, dtype=np.uint64)
        genes_of_block = (np.int32(first), np.int32(stop), cp.asarray(starts), filled)
        for _, _, rows in self._pieces[k]:
            self._launch("gather_values", rows, control, (np.int64(len(control)), *genes_of_block, values, genes))
        return values, genes

    def _place(self, block: _Block, k: int) -> Any:
        """(n_groups, n_genes) uint64: twice what this device's cells have beyond the place of a zero."""
        genes, trees = self._trees(block)
        order, group_of = cp.asarray(self._cells.order), cp.asarray(self._cells.group_of)
        twice = cp.zeros((len(self._cells.offsets) - 1, block.stop - block.first), dtype=np.uint64)
        arguments = (
            group_of,
            np.int64(len(order)),
            np.int64(len(self._cells.control)),
            np.int32(block.first),
            np.int32(block.stop),
            genes,
            trees,
            twice,
        )
        for first, stop, rows in self._pieces[k]:
            self._launch("place_values", rows, order, arguments)
            self._resources.progress.advance(float(self._pieces[k].n_entries(first, stop)))
        return twice

    def _trees(self, block: _Block) -> tuple[Any, Any]:
        """Return what `ranksum.cu` calls genes and trees."""
        n_values = np.diff(block.starts)
        sizes = _tree_sizes(n_values)
        genes = np.empty(len(sizes), dtype=_GENE)
        genes["first_node"], genes["n"], genes["below_zero"] = np.cumsum(sizes) - sizes, n_values, block.below_zero
        there = cp.asarray(genes.view(np.uint8))
        ranked = _sorted_by_gene(*(to_device(x, self._resources) for x in (block.values, block.genes)))
        trees = cp.empty((int(sizes.sum()), _NODE), dtype=ranked.dtype)
        build = kernel("ranksum.cu", "build_trees", self._reader.options)
        build((len(sizes),), (_THREADS,), (cp.asarray(block.starts), ranked, there, trees))
        return there, trees

    def _launch(self, name: str, rows: DeviceRows, cells: Any, arguments: tuple[Any, ...]) -> None:
        """Run a kernel with a warp for each cell."""
        n_blocks = -(-len(cells) // (_THREADS // 32))
        kernel("ranksum.cu", name, rows.options)((n_blocks,), (_THREADS,), (*rows.arguments, cells, *arguments))


def _tree_sizes(n_values: NDArray[np.int64]) -> NDArray[np.int64]:
    """Count the nodes of search trees with so many values."""
    n_nodes = sizes = -(-n_values // _NODE)
    while np.any(n_nodes > 1):
        n_nodes = np.where(n_nodes > 1, -(-n_nodes // _NODE), 0)
        sizes = sizes + n_nodes
    return sizes


def _sorted_by_gene(values: Any, genes: Any) -> Any:
    """Sort values within each gene, genes ascending."""
    if len(values) == 0:
        return values
    by_value = cp.argsort(values)
    return values[by_value][cp.argsort(genes[by_value])]  # CuPy's argsort is stable
