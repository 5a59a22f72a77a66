from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

from ptg.data import InputError
from ptg.data.embedding import principal_components


def definition(matrix: np.ndarray, n_components: int) -> np.ndarray:
    """Scores from a full singular value decomposition, the largest loading of each component positive."""
    centred = matrix - matrix.mean(axis=0)
    left, singular, right = np.linalg.svd(centred, full_matrices=False)
    sign = np.sign(right[np.arange(len(right)), np.abs(right).argmax(axis=1)])
    return (left * singular * sign)[:, :n_components]


@pytest.fixture
def expression() -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.log1p(rng.poisson(rng.lognormal(0, 1, 40), (120, 40))).astype(np.float64)


@pytest.mark.parametrize("layout", [np.asarray, sp.csr_matrix])
def test_scores_are_those_of_the_decomposition(expression, layout):
    found = principal_components(layout(expression), 8)
    np.testing.assert_allclose(found, definition(expression, 8), rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("layout", [np.asarray, sp.csr_matrix])
def test_every_call_gives_the_same_bits(expression, layout):
    first, second = (principal_components(layout(expression), 5) for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_float32_stays_float32(expression):
    found = principal_components(expression.astype(np.float32), 4)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, definition(expression, 4), rtol=0, atol=1e-4)


@pytest.mark.parametrize(("shape", "n_found"), [((5, 40), 4), ((40, 5), 4), ((2, 2), 1), ((1, 3), 1), ((3, 1), 1)])
def test_components_are_limited_by_the_shape(shape, n_found):
    matrix = np.random.default_rng(1).normal(size=shape)
    assert principal_components(matrix, 50).shape == (shape[0], n_found)
    assert principal_components(sp.csr_matrix(matrix), 50).shape == (shape[0], n_found)


def test_one_gene_is_its_own_component():
    matrix = np.array([[1.0], [2.0], [6.0]])
    np.testing.assert_array_equal(principal_components(matrix, 1), matrix - 3.0)


@pytest.mark.parametrize("n_components", [0, -1, 2.5, True, None])
def test_a_bad_number_is_an_error(expression, n_components):
    with pytest.raises(InputError, match="n_components"):
        principal_components(expression, n_components)


def test_sparse_data_is_never_made_dense(expression, monkeypatch):
    matrix = sp.csr_matrix(expression)
    monkeypatch.setattr(sp.csr_matrix, "toarray", lambda *_: pytest.fail("densified"))
    monkeypatch.setattr(sp.csr_matrix, "todense", lambda *_: pytest.fail("densified"))
    principal_components(matrix, 3)
