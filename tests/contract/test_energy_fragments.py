"""Kernels of the energy sums that another card would choose, on the card that is there."""

from __future__ import annotations

import numpy as np
import pytest
from tests.contract.test_energy import CASES, all_pairs, slow_sums, tolerance
from tests.support import BACKENDS, in_layout, kernels

from ptg.execute import to_host


@pytest.mark.parametrize("backend", BACKENDS[1:])
@pytest.mark.parametrize("name", ["ragged", "one cell each", "duplicates", "offset 1e4", "large group first"])
@pytest.mark.parametrize("memory", [1 << 16, 1 << 30])
def test_the_kernel_of_every_card(backend: str, name: str, memory: int) -> None:
    import cupy as cp

    from ptg.kernels.cuda.energy_fragments import fragment_sums
    from ptg.kernels.cuda.energy_variants import mma_variant

    case = CASES[name]
    left, right = all_pairs(len(case.offsets) - 1)
    _, resources = kernels(backend, memory=memory)
    cells = in_layout(case.cells, "dense", np.float32)
    expected = slow_sums(name, np.float32, left, right)[0]
    pairs = (cp.asarray(left), cp.asarray(right))
    variant = mma_variant(cells.shape[1])
    found = to_host(fragment_sums(cells, case.offsets, pairs, resources=resources, variant=variant))
    np.testing.assert_allclose(found, expected, **tolerance(np.float32))
    assert np.array_equal(found == 0, expected == 0)


@pytest.mark.parametrize("backend", BACKENDS[1:])
@pytest.mark.parametrize("weighted", [False, True])
def test_differences_in_any_number_of_runs(monkeypatch: pytest.MonkeyPatch, backend: str, weighted: bool) -> None:
    """Every pair computed again from differences, all at once or few at a time, has the same bits and is right."""
    import cupy as cp

    from ptg.kernels.cuda import energy_fragments

    case = CASES["ragged"]
    left, right = all_pairs(len(case.offsets) - 1)
    cells = in_layout(case.cells, "dense", np.float32)
    weights = np.random.default_rng(0).integers(0, 3, (130, len(cells))).astype(np.uint8) if weighted else None
    monkeypatch.setattr(energy_fragments, "find_sensitive", lambda sums: cp.flatnonzero(sums[:, 0] >= 0.0))
    rows = (case.offsets[left + 1] > case.offsets[left]) & (case.offsets[right + 1] > case.offsets[right])
    pairs = (cp.asarray(left[rows]), cp.asarray(right[rows]))
    found = []
    for memory in (1 << 12, 1 << 30):
        _, resources = kernels(backend, memory=memory)
        sums = energy_fragments.fragment_sums(cells, case.offsets, pairs, weights=weights, resources=resources)
        found.append(to_host(sums))
    assert np.array_equal(found[0], found[1])
    expected = slow_sums("ragged", np.float32, left[rows], right[rows], weights)
    np.testing.assert_allclose(found[0], expected if weighted else expected[0], rtol=5e-7)


@pytest.mark.parametrize("backend", BACKENDS[1:])
def test_cells_of_one_kind_are_not_computed_again(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import cupy as cp

    from ptg.kernels.cuda import energy_fragments

    found = []
    find = energy_fragments.find_sensitive
    monkeypatch.setattr(energy_fragments, "find_sensitive", lambda sums: found.append(find(sums)) or found[-1])
    cells = np.random.default_rng(0).standard_normal((900, 20)).astype(np.float32)
    cells[450:] += 2.0 * cells.std()  # two kinds, about as far from each other as their cells
    left, right = all_pairs(3)
    _, resources = kernels(backend)
    pairs = (cp.asarray(left), cp.asarray(right))
    energy_fragments.fragment_sums(cells, np.array([0, 300, 450, 900]), pairs, resources=resources)
    assert [len(pairs) for pairs in found] == [0]
