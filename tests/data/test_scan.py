from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

from ptg.data import scan


@pytest.fixture(params=["one piece", "many pieces", "as on a GPU"])
def pieces(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "as on a GPU":
        monkeypatch.setattr(scan, "is_gpu_array", lambda values: True)
        monkeypatch.setattr(scan, "array_module", lambda values: np)
    elif request.param == "many pieces":
        monkeypatch.setattr(scan, "_PIECE", 7)
        monkeypatch.setattr(scan, "_FEWEST", 1)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("bad", [None, np.nan, np.inf, -np.inf])
def test_finite(pieces: None, bad: float | None, order: str, dtype: type) -> None:
    values = np.asarray(np.random.default_rng(0).normal(size=(13, 11)), dtype=dtype, order=order)
    for place in ((0, 0), (12, 10), (6, 1)):
        changed = values.copy(order="K")
        if bad is not None:
            changed[place] = bad
        assert scan.is_finite(changed) == (bad is None)


def test_opposite_infinities_are_not_finite(pieces: None) -> None:
    assert not scan.is_finite(np.array([1.0, np.inf, 0.0, -np.inf]))
    assert scan.is_finite(np.empty(0))


@pytest.mark.parametrize("seed", range(8))
def test_canonical_is_what_scipy_says(pieces: None, seed: int) -> None:
    """Empty rows, rows of any length; then two neighbouring entries swapped or made equal, at every place."""
    matrix = sp.random(12, 9, density=0.3 + 0.01 * seed, format="csr", random_state=seed)
    matrix.sort_indices()
    matrix = sp.vstack([matrix[:3], sp.csr_matrix((2, 9)), matrix[3:], sp.csr_matrix((1, 9))], format="csr")
    assert scan.is_canonical(matrix)
    verdicts = set()
    for place in range(matrix.nnz - 1):
        for equal in (False, True):
            indices = matrix.indices.copy()
            if equal:
                indices[place] = indices[place + 1]
            else:
                indices[[place, place + 1]] = indices[[place + 1, place]]
            changed = sp.csr_matrix((matrix.data, indices, matrix.indptr), shape=matrix.shape)
            expected = sp.csr_matrix((matrix.data, indices, matrix.indptr), shape=matrix.shape).has_canonical_format
            assert scan.is_canonical(changed) == expected
            verdicts.add(bool(expected))
    assert verdicts == {False, True}
