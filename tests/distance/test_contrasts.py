"""Tables of contrasts: how they are built, checked and computed."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from tests.support import PAIR_METRICS, assert_unchanged, cells_for, distance_of, snapshot

import ptg


def table(adata: ad.AnnData, groupby: str, references: list[str], split_by: list[str]) -> pd.DataFrame:
    """The definition, cell by cell: every pair of a target's and a reference's cells that share all levels."""
    obs = adata.obs[[groupby, *split_by]].dropna().astype(str)
    rows = {
        (reference, *levels, target)
        for reference in references
        for target, *levels in obs.itertuples(index=False)
        if target not in references and (obs == (reference, *levels)).all(axis=1).any()
    }
    frame = pd.DataFrame(sorted(rows), columns=["reference", *split_by, groupby], dtype=object)
    return frame[[groupby, "reference", *split_by]]


@pytest.fixture
def split_screen(screen: ad.AnnData) -> ad.AnnData:
    """Two more split columns; NT is not in replicate r2 of donor d3, one cell lacks its donor."""
    rng = np.random.default_rng(1)
    screen.obsm["X_pca"] = screen.obsm["X_pca"].astype(float)
    screen.obs["donor"] = rng.choice(["d1", "d2", "d3"], 240).astype(object)
    control = (screen.obs["perturbation"] == "NT").to_numpy()
    r2 = (screen.obs["replicate"] == "r2").to_numpy()
    screen.obs.loc[control & r2 & (screen.obs["donor"] == "d3").to_numpy(), "donor"] = "d1"
    screen.obs.iloc[10, screen.obs.columns.get_loc("donor")] = None
    return screen


@pytest.mark.parametrize("split_by", [None, "replicate", ["donor", "replicate"], ("replicate", "donor")])
@pytest.mark.parametrize("selected", ["NT", ["NT"], ["NT", "B"]])
def test_create(split_screen: ad.AnnData, split_by: object, selected: object) -> None:
    before = snapshot(split_screen)
    found = ptg.Distance.create_contrasts(split_screen, "perturbation", selected, split_by=split_by)
    columns = [] if split_by is None else [split_by] if isinstance(split_by, str) else list(split_by)
    references = [selected] if isinstance(selected, str) else selected
    expected = table(split_screen, "perturbation", references, columns)
    assert list(found.columns) == ["perturbation", "reference", *columns]
    pd.testing.assert_frame_equal(found, expected, check_dtype=False)
    assert_unchanged(split_screen, before)


def test_create_some_groups(screen: ad.AnnData) -> None:
    found = ptg.Distance.create_contrasts(screen, "perturbation", "NT", groups=["C", "A", "NT"])
    assert found.to_numpy().tolist() == [["A", "NT"], ["C", "NT"]]


def test_create_follows_category_order(screen: ad.AnnData) -> None:
    screen.obs["perturbation"] = screen.obs["perturbation"].cat.reorder_categories(["NT", "C", "empty", "B", "A"])
    found = ptg.Distance.create_contrasts(screen, "perturbation", "NT")
    assert found["perturbation"].tolist() == ["C", "B", "A"]


def test_create_without_any_contrast(screen: ad.AnnData) -> None:
    found = ptg.Distance.create_contrasts(screen, "perturbation", "NT", groups=["NT"], split_by="replicate")
    assert found.shape == (0, 3)
    assert list(found.columns) == ["perturbation", "reference", "replicate"]
    result = ptg.Distance().contrast_distances(screen, found)
    assert list(result.columns) == ["perturbation", "reference", "replicate", "edistance"]
    assert result.shape == (0, 4)


@pytest.mark.filterwarnings("ignore:.*mahalanobis.* have a singular covariance")  # some groups have few cells
@pytest.mark.parametrize("metric", PAIR_METRICS)
def test_distances(split_screen: ad.AnnData, metric: str) -> None:
    before = snapshot(split_screen)
    distance = distance_of(metric)
    contrasts = distance.create_contrasts(split_screen, "perturbation", ["NT", "B"], split_by=["replicate", "donor"])
    contrasts = contrasts.sample(frac=1.0, random_state=0)  # any order, any index
    copy = contrasts.copy()
    assert distance.validate_contrasts(split_screen, contrasts) is None
    found = distance.contrast_distances(split_screen, contrasts)
    pd.testing.assert_frame_equal(contrasts, copy)
    pd.testing.assert_frame_equal(found.drop(columns=metric), contrasts)
    assert list(found.columns) == [*contrasts.columns, metric]
    for _, row in found.iterrows():
        levels = (split_screen.obs[["replicate", "donor"]] == [row["replicate"], row["donor"]]).all(axis=1)
        x, y = (
            cells_for(metric, split_screen, (levels & (split_screen.obs["perturbation"] == row[column])).to_numpy())
            for column in ("perturbation", "reference")
        )
        np.testing.assert_allclose(row[metric], distance(x, y), rtol=1e-8)
    assert_unchanged(split_screen, before)


def test_distances_without_split_are_the_onesided_ones(screen: ad.AnnData) -> None:
    distance = ptg.Distance("mse")
    contrasts = distance.create_contrasts(screen, "perturbation", "NT")
    found = distance.contrast_distances(screen, contrasts).set_index("perturbation")["mse"]
    expected = distance.onesided_distances(screen, "perturbation", "NT", groups=["A", "B", "C"])
    assert found.tolist() == expected.tolist()


def test_contrasts_without_cells_are_nan_with_one_warning(split_screen: ad.AnnData) -> None:
    contrasts = pd.DataFrame(
        {
            "perturbation": ["A", "A", "NT"],
            "reference": ["NT", "NT", "NT"],
            "replicate": ["r2", "r1", "r1"],
            "donor": ["d3", "d3", "d3"],
        }
    )
    with pytest.warns(UserWarning, match=r"1 contrast.*'A vs NT \(replicate r2, donor d3\)'") as caught:
        found = ptg.Distance("euclidean").contrast_distances(split_screen, contrasts)["euclidean"]
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert np.isnan(found[0])
    assert found[1] > 0
    assert found[2] == 0  # a group and itself
    with pytest.warns(UserWarning, match="no cells"):
        assert ptg.Distance().contrast_distances(split_screen, contrasts[:1])["edistance"].isna().all()


def test_columns_of_any_label_type(screen: ad.AnnData) -> None:
    screen.obs["number"] = np.arange(240) % 3
    screen.obs["flag"] = np.arange(240) % 2 == 0
    contrasts = ptg.Distance.create_contrasts(screen, "number", 0, split_by="flag")
    assert contrasts.to_numpy().tolist() == [[1, 0, False], [2, 0, False], [1, 0, True], [2, 0, True]]
    assert ptg.Distance().contrast_distances(screen, contrasts)["edistance"].notna().all()
    categorical = contrasts.astype("category")
    assert ptg.Distance().contrast_distances(screen, categorical)["edistance"].notna().all()
