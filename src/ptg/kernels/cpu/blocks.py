"""Dense blocks of dense or CSR cells."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ptg.kernels.cpu.compilation import jit

if TYPE_CHECKING:
    import scipy.sparse as sp
    from numpy.typing import NDArray


def column_panels(n_columns: int, width: int) -> list[slice]:
    """Cut the columns into panels of some width, at least one."""
    return [slice(start, min(start + width, n_columns)) for start in range(0, max(n_columns, 1), width)]


def dense_block(cells: NDArray[Any] | sp.csr_matrix[Any], rows: slice, panel: slice, dtype: Any) -> NDArray[Any]:
    """Return rows, some columns of them, in C order: a view where the cells are that already."""
    if isinstance(cells, np.ndarray):
        return np.ascontiguousarray(cells[rows, panel], dtype=dtype)
    block = np.zeros((rows.stop - rows.start, panel.stop - panel.start), dtype=dtype)
    _densify((cells.data, cells.indices, cells.indptr), rows.start, panel.start, block)
    return block


@jit
def _densify(csr, first_row, first_column, out):  # type: ignore[no-untyped-def]
    data, indices, indptr = csr
    for i in range(out.shape[0]):
        start, stop = indptr[first_row + i], indptr[first_row + i + 1]
        p = start + np.searchsorted(indices[start:stop], first_column)
        while p < stop and indices[p] < first_column + out.shape[1]:
            out[i, indices[p] - first_column] = data[p]
            p += 1
