"""Squared Euclidean distances from differences: no digits are lost, however close two rows are.

On a Zen 5 core with 512 x 512 results from 50 columns as fast as the product (`products`): 1.9e9 pairs of rows a second
in float32, 0.9e9 in float64. The subtractions go through adders that a product leaves idle.
"""

from __future__ import annotations

from ptg.kernels.cpu.compilation import jit


@jit(fastmath={"contract"})
def _add_four(total, x, y):  # type: ignore[no-untyped-def]
    d0, d1, d2, d3 = x[0] - y[0], x[1] - y[1], x[2] - y[2], x[3] - y[3]
    return d3 * d3 + (d2 * d2 + (d1 * d1 + (d0 * d0 + total)))


# Fused multiply-add is allowed, and nothing else: columns are added one after the other, so that a distance has the
# same bits wherever the two rows stand. The 4 x 4 block is spelled out because numba keeps it in registers only so.
@jit(fastmath={"contract"})
def squared_differences(a, b, out):  # type: ignore[no-untyped-def]
    """Fill ``out[i, j]`` with ``sum_k (a[i, k] - b[k, j])²``: (n, k) and (k, m), C-ordered, float32 or float64."""
    n_steps = a.shape[1] // 4 * 4
    for i in range(0, a.shape[0] // 4 * 4, 4):
        out[i : i + 4] = 0
        r0, r1, r2, r3 = out[i], out[i + 1], out[i + 2], out[i + 3]
        for k in range(0, n_steps, 4):
            b0, b1, b2, b3 = b[k], b[k + 1], b[k + 2], b[k + 3]
            x0 = (a[i, k], a[i, k + 1], a[i, k + 2], a[i, k + 3])
            x1 = (a[i + 1, k], a[i + 1, k + 1], a[i + 1, k + 2], a[i + 1, k + 3])
            x2 = (a[i + 2, k], a[i + 2, k + 1], a[i + 2, k + 2], a[i + 2, k + 3])
            x3 = (a[i + 3, k], a[i + 3, k + 1], a[i + 3, k + 2], a[i + 3, k + 3])
            for j in range(b.shape[1]):
                y = (b0[j], b1[j], b2[j], b3[j])
                r0[j] = _add_four(r0[j], x0, y)
                r1[j] = _add_four(r1[j], x1, y)
                r2[j] = _add_four(r2[j], x2, y)
                r3[j] = _add_four(r3[j], x3, y)
        for k in range(n_steps, a.shape[1]):
            for r in range(i, i + 4):
                for j in range(b.shape[1]):
                    difference = a[r, k] - b[k, j]
                    out[r, j] = difference * difference + out[r, j]
    for i in range(a.shape[0] // 4 * 4, a.shape[0]):
        out[i] = 0
        for k in range(a.shape[1]):
            for j in range(b.shape[1]):
                difference = a[i, k] - b[k, j]
                out[i, j] = difference * difference + out[i, j]
