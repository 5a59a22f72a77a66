"""The metrics of a logistic regression: seeds, classes, convergence."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from sklearn.linear_model import LogisticRegression
from tests.support import assert_unchanged, snapshot

import ptg


def slow_projection(screen: ad.AnnData, groups: list[str], control: str) -> dict[str, float]:
    """All groups but the control in one model, in the order of the data."""
    labels = screen.obs["perturbation"].astype(object).to_numpy()
    cells = screen.obsm["X_pca"].astype(float)
    some = np.isin(labels.astype(str), groups)
    model = LogisticRegression(max_iter=1000).fit(cells[some], labels[some].astype(str))
    means = model.predict_proba(cells[labels == control]).mean(axis=0)
    return {name: 1 - mean for name, mean in zip(model.classes_, means, strict=True)}


@pytest.mark.parametrize("groups", [["A", "B", "C"], ["C", "A"]])
def test_projection_on_the_compared_groups(screen: ad.AnnData, groups: list[str]) -> None:
    before = snapshot(screen)
    found = ptg.Distance("classifier_cp").onesided_distances(screen, "perturbation", "NT", groups=[*groups, "NT"])
    expected = slow_projection(screen, groups, "NT")
    assert list(found.index) == [*groups, "NT"]
    assert found["NT"] == 0
    np.testing.assert_allclose(found[groups], [expected[group] for group in groups], rtol=1e-4)
    np.testing.assert_allclose(found.sum(), len(groups) - 1)
    assert_unchanged(screen, before)


def test_every_control_has_classes_of_its_own(screen: ad.AnnData) -> None:
    distance = ptg.Distance("classifier_cp")
    table = distance.onesided_distances(screen, "perturbation", ["NT", "A"])
    for control in ("NT", "A"):
        np.testing.assert_allclose(table[control], distance.onesided_distances(screen, "perturbation", control))


def test_projection_of_contrasts_is_within_their_levels(screen: ad.AnnData) -> None:
    distance = ptg.Distance("classifier_cp")
    contrasts = distance.create_contrasts(screen, "perturbation", "NT", split_by="replicate")
    found = distance.contrast_distances(screen, contrasts)
    for level, rows in found.groupby("replicate", observed=True):
        part = screen[screen.obs["replicate"] == level]
        one = distance.onesided_distances(part, "perturbation", "NT", groups=["A", "B", "C"])
        np.testing.assert_allclose(rows.set_index("perturbation")["classifier_cp"][one.index], one, rtol=1e-6)


def test_bootstrap_of_a_projection_is_over_explicit_resamples(screen: ad.AnnData) -> None:
    arguments = {"bootstrap": True, "n_bootstrap": 4}
    distance = ptg.Distance("classifier_cp")
    means, variances = distance.onesided_distances(screen, "perturbation", "NT", **arguments, random_state=1)
    again, _ = distance.onesided_distances(screen, "perturbation", "NT", **arguments, random_state=1)
    other, _ = distance.onesided_distances(screen, "perturbation", "NT", **arguments, random_state=2)
    assert means.equals(again)
    assert (means[["A", "B", "C"]] != other[["A", "B", "C"]]).all()
    assert (variances[["A", "B", "C"]] > 0).all()
    np.testing.assert_allclose(means.sum(), 2.0)  # in every draw, so on average


def test_the_seed_decides_which_cells_are_held_out(screen: ad.AnnData) -> None:
    cells = {name: screen.obsm["X_pca"][(screen.obs["perturbation"] == name).to_numpy()] for name in ("NT", "A")}
    found = [ptg.Distance("classifier_proba", random_state=seed)(cells["NT"], cells["A"]) for seed in (0, 0, 1)]
    assert found[0] == found[1] != found[2]
    sparse = ptg.Distance("classifier_proba")(sp.csr_matrix(cells["NT"]), sp.csr_matrix(cells["A"]))
    np.testing.assert_allclose(sparse, found[0], rtol=1e-6)


def test_one_cell_can_be_in_the_first_group_only() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((1, 3)), rng.standard_normal((9, 3))
    assert 0 < ptg.Distance("classifier_proba")(x, y) < 1
    with pytest.warns(UserWarning, match="'Y' have one cell"):
        assert np.isnan(ptg.Distance("classifier_proba")(y, x))


@pytest.mark.parametrize("metric", ["classifier_proba", "classifier_cp"])
def test_fits_that_did_not_converge_are_listed_in_one_warning(screen: ad.AnnData, metric: str) -> None:
    with pytest.warns(UserWarning, match=r"had not converged after max_iter=1 steps.*'NT'") as caught:
        ptg.Distance(metric, max_iter=1).onesided_distances(screen, "perturbation", "NT")
    assert len(caught) == 1
    assert caught[0].filename == __file__


def test_strangers_look_like_neither() -> None:
    """Cells between two groups, in a symmetric arrangement: half of each."""
    x = np.array([[1.0], [2.0], [3.0]])
    obs = pd.DataFrame({"group": list("aaabbbc")}, index=list("1234567"))
    adata = ad.AnnData(obs=obs, obsm={"X_pca": np.concatenate([x, -x, [[0.0]]])})
    found = ptg.Distance("classifier_cp").onesided_distances(adata, "group", "c", groups=["a", "b"])
    np.testing.assert_allclose(found, [0.5, 0.5], rtol=1e-6)
