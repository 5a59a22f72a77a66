"""Bootstraps and permutations on a CPU: see `ptg.kernels.contract.resampling`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ptg.kernels.cpu.compilation import jit
from ptg.kernels.cpu.threads import run_tasks

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ptg.kernels.contract.resources import Resources

_NUMBERS_PER_TASK = 1 << 18
"""About 5 ms."""

_LOW = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)
_ONE = np.uint64(1)
_MULTIPLIERS = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_WEYL = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)
_BOOTSTRAP, _PERMUTATION = np.uint64(0), np.uint64(1)


def bootstraps(
    sizes: NDArray[Any], keys: NDArray[Any], first_draw: int, n_draws: int, *, resources: Resources
) -> NDArray[Any]:
    """Draw from every group as many of its cells as it has: see the contract."""
    offsets = _offsets(sizes)
    weights = np.zeros((n_draws, int(offsets[-1])), np.uint16)

    def draw(task: tuple[int, int, int]) -> None:
        group, first, stop = task
        cells = slice(offsets[group], offsets[group + 1])
        _bootstrap(keys[group], first_draw + first, weights[first:stop, cells])

    run_tasks(draw, _tasks(np.diff(offsets), n_draws), resources)
    return weights


def permutations(
    sizes: NDArray[Any],
    n_chosen: NDArray[Any],
    keys: NDArray[Any],
    first_draw: int,
    n_draws: int,
    *,
    resources: Resources,
) -> NDArray[Any]:
    """Choose a given number of cells of every pool: see the contract."""
    offsets = _offsets(sizes)
    weights = np.empty((n_draws, int(offsets[-1])), np.uint16)

    def draw(task: tuple[int, int, int]) -> None:
        pool, first, stop = task
        cells = slice(offsets[pool], offsets[pool + 1])
        _permute(keys[pool], int(n_chosen[pool]), first_draw + first, weights[first:stop, cells])

    run_tasks(draw, _tasks(np.diff(offsets), n_draws), resources)
    return weights


def accumulate(
    values: NDArray[Any], n_before: int, means: NDArray[Any], squares: NDArray[Any], *, resources: Resources
) -> None:
    """Update means and sums of squared deviations by the values of more draws: see the contract."""
    del resources
    _update(values, n_before, means, squares)


@jit
def _update(values, n_before, means, squares):  # type: ignore[no-untyped-def]
    for draw in range(values.shape[0]):
        n = n_before + draw + 1
        for pair in range(values.shape[1]):
            change = values[draw, pair] - means[pair]
            means[pair] += change / n
            squares[pair] += change * (values[draw, pair] - means[pair])


def _offsets(sizes: NDArray[Any]) -> NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)


def _tasks(sizes: NDArray[np.int64], n_draws: int) -> list[tuple[int, int, int]]:
    """Cut groups and draws into (group, first draw, stop)."""
    tasks = []
    for group, size in enumerate(sizes.tolist()):
        at_once = max(1, _NUMBERS_PER_TASK // max(size, 1))
        tasks += [(group, first, min(first + at_once, n_draws)) for first in range(0, n_draws, at_once)]
    return tasks


# Inlined by numba because LLVM does not, and only then makes vectors of the loop below: four times as fast.
@jit(inline="always")
def philox(counter, key):  # type: ignore[no-untyped-def]
    """Philox4x32-10: the words x0 + 2^32 x1 and x2 + 2^32 x3 of a counter of four uint64 below 2^32."""
    c0, c1, c2, c3 = counter
    k0, k1 = key & _LOW, key >> _HALF
    for _ in range(10):
        p0, p1 = _MULTIPLIERS[0] * c0, _MULTIPLIERS[1] * c2
        c0, c1, c2, c3 = (p1 >> _HALF) ^ c1 ^ k0, p1 & _LOW, (p0 >> _HALF) ^ c3 ^ k1, p0 & _LOW
        k0, k1 = (k0 + _WEYL[0]) & _LOW, (k1 + _WEYL[1]) & _LOW
    return c0 | (c1 << _HALF), c2 | (c3 << _HALF)


@jit
def _fill_numbers(first_words, key, out):  # type: ignore[no-untyped-def]
    """Fill the two rows of `out` with the two numbers of every position."""
    for i in range(out.shape[1]):
        position = np.uint64(i)
        counter = (first_words[0], first_words[1], position & _LOW, position >> _HALF)
        out[0, i], out[1, i] = philox(counter, key)


@jit
def _choose(number, n):  # type: ignore[no-untyped-def]
    """floor(number * n / 2^64), for n < 2^32."""
    return ((number >> _HALF) * n + (((number & _LOW) * n) >> _HALF)) >> _HALF


@jit
def _bootstrap(key, first_draw, weights):  # type: ignore[no-untyped-def]
    """Fill the zeros of some draws of a group, (n_draws, size)."""
    n_draws, size = weights.shape
    n = np.uint64(size)
    numbers = np.empty((2, size), np.uint64)
    for pair in range(first_draw // 2, (first_draw + n_draws + 1) // 2):
        _fill_numbers((np.uint64(pair), _BOOTSTRAP), key, numbers)
        for odd in range(2):
            row = 2 * pair + odd - first_draw
            if 0 <= row < n_draws:
                for i in range(size):
                    weights[row, _choose(numbers[odd, i], n)] += 1


@jit
def _permute(key, n_chosen, first_draw, weights):  # type: ignore[no-untyped-def]
    """Fill some draws of a pool, (n_draws, size)."""
    n_draws, size = weights.shape
    marks_chosen = 2 * n_chosen <= size
    n_marked = n_chosen if marks_chosen else size - n_chosen
    mark, background = (1, 0) if marks_chosen else (0, 1)
    numbers = np.empty((2, (n_marked + 1) // 2), np.uint64)
    for row in range(n_draws):
        _fill_numbers((np.uint64(first_draw + row), _PERMUTATION), key, numbers)
        weights[row, :] = background
        for step in range(n_marked):
            last = size - n_marked + step
            cell = np.int64(_choose(numbers[step % 2, step // 2], np.uint64(last) + _ONE))
            # Not marked yet, `last` is marked where `cell` was: without a branch, which nobody could predict.
            weights[row, last] = weights[row, cell]
            weights[row, cell] = mark
