"""The cases of `distance_cases` on the Papalexi cells; tolerances are the project's."""

from __future__ import annotations

import warnings
from pathlib import Path

import anndata as ad
import numpy as np
import pytest
from tests.parity.distance_cases import CASES, CONTROL, Case, read_cells

from ptg.distance.metrics import available


@pytest.fixture(scope="module")
def folder(reference: Path) -> Path:
    return reference / "golden" / "distances"


@pytest.fixture(scope="module")
def cells(reference: Path) -> ad.AnnData:
    return read_cells(reference)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.label} {case.cells}")
def test_values(case: Case, cells: ad.AnnData, folder: Path) -> None:
    expected = case.expected(folder)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*mahalanobis.*'SPI1' have a singular covariance")
        warnings.filterwarnings("ignore", ".*had not converged after max_iter=100 steps: 'NT'")
        found = case.found(cells, list(expected.index))
    difference = case.difference(found, expected)
    assert difference.size >= len(expected) - 1
    assert (difference <= case.rtol).all(), difference.max()
    left_out = found.loc[list(case.left_out)].drop(columns=list(case.left_out))
    assert left_out.isna().all(axis=None)


@pytest.mark.parametrize("case", [case for case in CASES if available()[case.metric].pairwise and not case.left_out])
def test_onesided_values(case: Case, cells: ad.AnnData, folder: Path) -> None:
    expected = case.expected(folder)
    found = case.distance().onesided_distances(cells, "perturbation", CONTROL, groups=list(expected.index))
    others = expected.index != CONTROL
    np.testing.assert_allclose(found[others], expected.loc[others, CONTROL], rtol=case.rtol)


def test_another_seed_is_within_the_spread_of_unseeded_calls(cells: ad.AnnData, folder: Path) -> None:
    """pertpy called twenty times without a seed: mean and standard deviation."""
    import pandas as pd

    import ptg

    spread = pd.read_csv(folder / "classifier_proba_unseeded_spread.csv").set_index("Y_group")
    for seed in (1, 2):
        square = ptg.Distance("classifier_proba", random_state=seed).contrast_distances(
            cells, pd.DataFrame({"perturbation": CONTROL, "reference": spread.index})
        )
        score = (square["classifier_proba"].to_numpy() - spread["mean"]) / spread["sd"]
        assert (np.abs(score) < 4).all()


def test_every_metric_is_compared() -> None:
    """But for the one that pertpy does not have."""
    assert {case.metric for case in CASES} == set(available()) - {"sinkhorn_divergence"}
