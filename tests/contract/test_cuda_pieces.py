"""How work is cut for a device: no GPU is needed for that."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import scipy.sparse as sp
from tests.support import BACKENDS, kernels

pytest.importorskip("cupy", reason="CuPy is not installed")

from ptg.kernels.contract import Resources
from ptg.kernels.cuda.moments import _Run
from ptg.kernels.cuda.pieces import cut_runs, share_out
from ptg.kernels.cuda.rows import RowReader

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


MATRICES = {
    "dense float64": (np.zeros((30, 20)), 8),
    "dense float32": (np.zeros((30, 20), dtype=np.float32), 4),
    "csr": (sp.csr_matrix(np.tile(np.arange(20, dtype=np.float32) % 2, (30, 1))), 8),
}


@pytest.mark.parametrize("name", MATRICES)
@pytest.mark.parametrize("memory", [1, 79, 80, 4000, 1 << 20])
def test_as_many_values_of_the_host_as_memory_holds(name, memory):
    matrix, bytes_of_value = MATRICES[name]
    reader = RowReader(matrix, Resources(memory=memory))
    n_entries = int(reader.starts[-1])
    assert reader.entries_at_once == min(n_entries, max(memory // bytes_of_value, 1))


@pytest.mark.parametrize("device", BACKENDS[1:])
@pytest.mark.parametrize("kernel", ["moments", "ranksum"])
def test_no_more_of_a_matrix_is_on_the_device(device, kernel, monkeypatch):
    brought = []

    def load(reader, first, last):
        brought.append((last - first) * 20)
        return load_all(reader, first, last)

    load_all = RowReader.load
    monkeypatch.setattr(RowReader, "load", load)
    matrix = np.random.default_rng(0).normal(size=(300, 20))
    offsets = np.arange(0, 301, 50)
    results = []
    for memory in (8000, 1 << 30):
        brought.clear()
        found, resources = kernels(device, memory=memory)
        if kernel == "moments":
            results.append(found.moments.group_sums(matrix, offsets, resources=resources))
        else:
            order = np.arange(300)
            results.append(found.ranksum.u_statistics(matrix, order, offsets, order[:60], resources=resources))
        assert 0 < max(brought) <= max(memory // 8, 50 * 20)
    np.testing.assert_array_equal(*results)
