"""Passes over the kernel matrix of a pair of groups: its start, its entries, its products with the scalings.

Exponents are in units of epsilon. With u, v the cells of the two groups, each centred on its group, the kernel is
``K = exp(p + q + 2 u v' / epsilon)``: p and q are the potentials absorbed into it, less ``|u|²`` and ``|v|²``. Rows are
taken in blocks of `BLOCK`, whether K is kept or made anew, so that its bits are the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ptg.kernels.cpu.compilation import jit
from ptg.kernels.cpu.exponential import exponentials, power_scratch
from ptg.kernels.cpu.products import aligned_empty, multiply

if TYPE_CHECKING:
    from numpy.typing import NDArray

BLOCK = 64
"""Rows of the kernel that are made together."""
_TILE = 512
"""Columns that are multiplied at once, at most."""


class Factors(NamedTuple):
    """What the exponents are made of.

    Attributes
    ----------
    rows
        (n_panels, n, n_columns of a panel): the cells of the rows, centred.
    columns
        (n_panels, n_tiles, n_columns of a panel, width): the cells of the columns, transposed, a tile at a time.
    factor
        Two over epsilon, of the cells' dtype.
    """

    rows: NDArray[Any]
    columns: NDArray[Any]
    factor: Any


class Scratch(NamedTuple):
    """Memory of one thread: a tile of products, its float64 sum over panels, and what `exponentials` needs."""

    tile: NDArray[Any]
    total: NDArray[np.float64]
    bits: NDArray[Any]
    powers: NDArray[Any]


def tiled(cells: NDArray[Any]) -> NDArray[Any]:
    """Transpose cells, (n_panels, m, k), into tiles of equal width, padded with zeros."""
    n_panels, m, k = cells.shape
    n_tiles = -(-m // _TILE)
    width = -(-m // (16 * n_tiles)) * 16
    tiles = aligned_empty((n_panels * n_tiles * k, width), cells.dtype).reshape(n_panels, n_tiles, k, width)
    for i in range(n_tiles):
        part = cells[:, i * width : (i + 1) * width].transpose(0, 2, 1)
        tiles[:, i, :, : part.shape[2]] = part
        tiles[:, i, :, part.shape[2] :] = 0
    return tiles


def make_scratch(factors: Factors, m: int) -> Scratch:
    """Allocate the scratch of a thread for rows of `m` entries."""
    shape = (BLOCK, factors.columns.shape[3])
    total = np.empty(shape if len(factors.rows) > 1 else (0, 0))
    return Scratch(aligned_empty(shape, factors.rows.dtype), total, *power_scratch(m, factors.rows.dtype))


@jit
def _add_panel(tile, total, is_first):  # type: ignore[no-untyped-def]
    """Add the products of a panel to those before, and set them to the sum."""
    for i in range(tile.shape[0]):
        for j in range(tile.shape[1]):
            total[i, j] = tile[i, j] if is_first else total[i, j] + tile[i, j]
            tile[i, j] = total[i, j]


@jit
def _fill_exponents(factors, first, scratch, out):  # type: ignore[no-untyped-def]
    """Fill `out` with ``factor * u v'`` for the rows from `first` on."""
    n_rows, m = out.shape
    width = factors.columns.shape[3]
    n_panels = factors.rows.shape[0]
    for c in range(factors.columns.shape[1]):
        start, stop = c * width, min(m, (c + 1) * width)
        tile = scratch.tile[:n_rows]
        for panel in range(n_panels):
            multiply(factors.rows[panel, first : first + n_rows], factors.columns[panel, c], tile)
            if n_panels > 1:
                _add_panel(tile, scratch.total, panel == 0)
        for i in range(n_rows):
            row, products = out[i], tile[i]
            for j in range(start, stop):
                row[j] = factors.factor * products[j - start]


# Without NaN the largest of several values is the same in any order, and vectors can find it.
@jit(fastmath={"nnan", "nsz", "reassoc"})
def _largest_sum(x, y):  # type: ignore[no-untyped-def]
    largest = x[0] + y[0]
    for j in range(x.size):
        largest = max(largest, x[j] + y[j])
    return largest


@jit
def start_rows(factors, first, scratch, guess, state):  # type: ignore[no-untyped-def]
    """Fill ``state = (out, p, largest)`` for the rows from `first` on, of which `out` holds all or one block.

    `out` gets the exponents of K without p and q, p what makes the largest of ``out + p + guess`` 0 in each row, and
    `largest` the maximum of itself and of ``out + p`` in each column.
    """
    out, p, largest = state
    one_block = out.shape[0] < p.size
    for i in range(0, p.size, BLOCK):
        n_rows = min(BLOCK, p.size - i)
        block = out[:n_rows] if one_block else out[i : i + n_rows]
        _fill_exponents(factors, first + i, scratch, block)
        for r in range(n_rows):
            row = block[r]
            most = _largest_sum(row, guess)
            p[i + r] = -most
            for j in range(row.size):
                largest[j] = max(largest[j], row[j] - most)


@jit
def fill_kernel(scratch, first, potentials, out):  # type: ignore[no-untyped-def]
    """Turn the exponents of K without ``potentials = (p, q)``, in `out`, into K. Its rows are those from `first` on."""
    p, q = potentials
    for i in range(out.shape[0]):
        row, at = out[i], p[first + i]
        for j in range(row.size):
            row[j] = (row[j] + at) + q[j]
        exponentials(row, scratch.bits[: row.size], scratch.powers[: row.size])


@jit
def remake_kernel(factors, first, scratch, potentials, out):  # type: ignore[no-untyped-def]
    """Fill `out` with K for the rows from `first` on."""
    for i in range(0, out.shape[0], BLOCK):
        block = out[i : i + BLOCK]
        _fill_exponents(factors, first + i, scratch, block)
        fill_kernel(scratch, first + i, potentials, block)


# Reordered sums may use vectors; the order is fixed when the function is compiled.
@jit(fastmath={"contract", "reassoc"})
def scale_rows(kernel, mass, scaled, sums, column_sums):  # type: ignore[no-untyped-def]
    """Fill ``sums = K scaled`` and add ``(mass / sums) K`` to `column_sums`: one pass over K, sums in float64."""
    m = kernel.shape[1]
    n_fours = kernel.shape[0] // 4 * 4
    for i in range(0, n_fours, 4):
        k0, k1, k2, k3 = kernel[i], kernel[i + 1], kernel[i + 2], kernel[i + 3]
        s0, s1, s2, s3 = 0.0, 0.0, 0.0, 0.0
        for j in range(m):
            x = scaled[j]
            s0 += k0[j] * x
            s1 += k1[j] * x
            s2 += k2[j] * x
            s3 += k3[j] * x
        sums[i], sums[i + 1], sums[i + 2], sums[i + 3] = s0, s1, s2, s3
        c0, c1, c2, c3 = mass[i] / s0, mass[i + 1] / s1, mass[i + 2] / s2, mass[i + 3] / s3
        for j in range(m):
            column_sums[j] += c0 * k0[j] + c1 * k1[j] + c2 * k2[j] + c3 * k3[j]
    for i in range(n_fours, kernel.shape[0]):
        row, total = kernel[i], 0.0
        for j in range(m):
            total += row[j] * scaled[j]
        sums[i] = total
        c = mass[i] / total
        for j in range(m):
            column_sums[j] += c * row[j]


@jit
def scale_remade_rows(factors, first, scratch, potentials, state):  # type: ignore[no-untyped-def]
    """Do what `scale_rows` does, ``state = (block, mass, scaled, sums, column_sums)``, with K made anew in `block`."""
    block, mass, scaled, sums, column_sums = state
    for i in range(0, mass.size, BLOCK):
        stop = min(i + BLOCK, mass.size)
        rows = block[: stop - i]
        remake_kernel(factors, first + i, scratch, potentials, rows)
        scale_rows(rows, mass[i:stop], scaled, sums[i:stop], column_sums)
