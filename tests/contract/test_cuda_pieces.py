"""How work is cut for a device: no GPU is needed for that."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

pytest.importorskip("cupy", reason="CuPy is not installed")

from ptg.kernels.cuda.moments import _Run
from ptg.kernels.cuda.pieces import cut_runs, share_out

COSTS = [[], [5], [0, 0, 0], [1, 2, 3, 4], [9, 1, 1, 1, 9, 1], [0, 7, 0, 0, 7, 0]]


@pytest.mark.parametrize("costs", COSTS)
@pytest.mark.parametrize("limit", [0, 1, 3, 8, 100])
def test_runs_cover_all_items_and_keep_the_limit(costs, limit):
    cumulative = np.cumsum([0, *costs]) + 11
    runs = cut_runs(cumulative, limit)
    assert [item for first, stop in runs for item in range(first, stop)] == list(range(len(costs)))
    for first, stop in runs:
        assert stop == first + 1 or sum(costs[first:stop]) <= limit
    for (first, stop), (_, after) in pairwise(runs):
        assert sum(costs[first : stop + 1]) > limit, f"{first}:{stop} and {after - 1} would fit in one run"


@pytest.mark.parametrize("costs", COSTS)
@pytest.mark.parametrize("n_shares", [1, 2, 3, 8])
def test_shares_cover_all_items_and_are_balanced(costs, n_shares):
    cumulative = np.cumsum([0, *costs])
    shares = share_out(cumulative, n_shares)
    assert len(shares) == n_shares
    assert [item for first, stop in shares for item in range(first, stop)] == list(range(len(costs)))
    for first, stop in shares:
        assert sum(costs[first:stop]) <= sum(costs) / n_shares + max(costs, default=0)


def test_segments_are_those_of_the_cpu():
    from ptg.kernels.cpu.moments import _segments

    offsets = np.array([0, 0, 1, 3, 3, 60, 2500, 4548, 4548])
    whole = _Run.of_groups(offsets, 0, len(offsets) - 1)
    np.testing.assert_array_equal(whole.bounds, _segments(offsets))
    parts = [_Run.of_groups(offsets, first, stop) for first, stop in ((0, 0), (0, 5), (5, 6), (6, 8))]
    assert np.concatenate([part.bounds[:-1] for part in parts]).tolist() == whole.bounds[:-1].tolist()
    for part in (whole, *parts):
        assert part.n_segments == part.first_segment[-1] == len(part.group_of_segment)
        for number, (first, stop) in enumerate(pairwise(part.first_segment)):
            begin, end = offsets[part.first + number], offsets[part.first + number + 1]
            assert part.sizes[number] == end - begin
            if stop > first:
                assert part.bounds[first] == begin
                assert part.bounds[stop] == end
                assert (part.group_of_segment[first:stop] == number).all()
                assert np.diff(part.bounds[first : stop + 1]).max() <= 1024
