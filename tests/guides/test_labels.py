from __future__ import annotations

import numpy as np
import pytest

from ptg.guides.labels import combination_labels, guide_labels
from ptg.kernels.contract.mixture import Assignments


def assignments(cells: list[list[int]]) -> Assignments:
    indptr = np.cumsum([0, *(len(cell) for cell in cells)])
    return Assignments(indptr, np.array([guide for cell in cells for guide in cell], dtype=np.int32))


def slow_labels(cells: list[list[int]], names: np.ndarray, most: int) -> list[str]:
    return ["+".join(names[cell]) or "negative" if len(cell) <= most else "multiple" for cell in cells]


@pytest.mark.parametrize("most", [1, 2, 5, 100])
def test_combinations(most):
    rng = np.random.default_rng(most)
    cells = [sorted(rng.choice(9, rng.integers(0, 8), replace=False).tolist()) for _ in range(2000)]
    names = np.array([f"g{i}" for i in range(9)], dtype=object)
    found = combination_labels(assignments(cells), names, none="negative", multiple="multiple", joiner="+", most=most)
    expected = slow_labels(cells, names, most)
    assert list(found) == expected
    assert found.categories.tolist() == sorted(set(expected))


def test_equal_texts_of_different_guides_are_one_label():
    names = np.array(["a", "b", "a+b"], dtype=object)
    found = combination_labels(assignments([[0, 1], [2], []]), names, none="-", multiple="*", joiner="+", most=5)
    assert list(found) == ["a+b", "a+b", "-"]
    assert found.categories.tolist() == ["-", "a+b"]


def test_no_cell_has_a_guide():
    found = combination_labels(
        assignments([[], []]), np.array(["a"], dtype=object), none="-", multiple="*", joiner="+", most=5
    )
    assert list(found) == ["-", "-"]


def test_one_guide_each():
    found = guide_labels(np.array([1, -1, 0, 1]), np.array(["z", "a", "m"], dtype=object), none="Negative")
    assert list(found) == ["a", "Negative", "z", "a"]
    assert found.categories.tolist() == ["Negative", "a", "z"]
