"""Kernels of the energy sums that another card would choose, on the card that is there."""

from __future__ import annotations

import numpy as np
import pytest
from tests.contract.test_energy import CASES, all_pairs, in_layout, slow_sums, tolerance
from tests.support import BACKENDS, kernels

from ptg.execute import to_host


@pytest.mark.parametrize("backend", BACKENDS[1:])
@pytest.mark.parametrize("name", ["ragged", "one cell each", "duplicates", "offset 1e4", "large group first"])
@pytest.mark.parametrize("memory", [1 << 16, 1 << 30])
def test_the_kernel_of_every_card(backend: str, name: str, memory: int) -> None:
    import cupy as cp

    from ptg.kernels.cuda.energy_fragments import fragment_sums, mma_variant

    case = CASES[name]
    left, right = all_pairs(len(case.offsets) - 1)
    _, resources = kernels(backend, memory=memory)
    cells = in_layout(case.cells, "dense", np.float32)
    expected = slow_sums(name, np.float32, left, right)[0]
    for fragments in (1, 2):
        variant = mma_variant(cells.shape[1], fragments=fragments)
        pairs = (cp.asarray(left), cp.asarray(right))
        found = to_host(fragment_sums(cells, case.offsets, pairs, resources=resources, variant=variant))
        np.testing.assert_allclose(found, expected, **tolerance(np.float32, expected))
        assert np.array_equal(found == 0, expected == 0)
