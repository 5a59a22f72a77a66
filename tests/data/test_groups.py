from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest

from ptg.data import InputError, read_groups


def labelled(values: object) -> ad.AnnData:
    column = pd.Series(values)
    column.index = column.index.astype(str)
    return ad.AnnData(np.zeros((len(column), 1)), obs=pd.DataFrame({"group": column}))


@pytest.mark.parametrize(
    ("values", "names"),
    [
        (["b", "a", "b"], ["a", "b"]),
        ([2, 1, 2], [1, 2]),
        ([True, False, True], [False, True]),
        (pd.Categorical(["b", "a", "b"], categories=["b", "a", "unused"]), ["b", "a"]),
        (["b", None, "a"], ["a", "b"]),
        (pd.Categorical(["b", None, "a"]), ["a", "b"]),
    ],
)
def test_labels_of_every_type(values, names):
    groups = read_groups(labelled(values), "group")
    assert groups.names == names
    series = pd.Series(values)
    for group, name in enumerate(names):
        assert groups.cells(group).tolist() == np.flatnonzero((series == name).fillna(False).to_numpy(bool)).tolist()
    assert groups.sizes.sum() == series.notna().sum()


def test_groups_keep_the_order_asked_for():
    groups = read_groups(labelled(["c", "a", "b", "a"]), "group", ["b", "a"])
    assert groups.names == ["b", "a"]
    assert groups.order.tolist() == [2, 1, 3]
    assert groups.offsets.tolist() == [0, 1, 3]


@pytest.mark.parametrize(
    ("key", "groups", "words"),
    [
        ("grup", None, ("groupby='grup'", "'group'")),
        ("group", ["A"], ("groups='A'", "obs['group']", "'a'")),
        ("group", "a", ("groups='a'", "['a']")),
        ("group", 3, ("groups=3", "list")),
        ("group", [], ("groups=[]",)),
        ("group", ["a", "a"], ("'a'", "more than once")),
    ],
)
def test_unknown_groups(key, groups, words):
    with pytest.raises(InputError) as caught:
        read_groups(labelled(["a", "b"]), key, groups)
    assert all(word in str(caught.value) for word in words), caught.value


@pytest.mark.parametrize("values", [[0.5, 1.0], pd.to_datetime(["2020-01-01", "2020-01-02"])])
def test_values_that_are_not_labels(values):
    with pytest.raises(InputError, match="not labels"):
        read_groups(labelled(values), "group")


def test_all_labels_missing():
    with pytest.raises(InputError, match="no labelled cell"):
        read_groups(labelled(pd.Categorical([None, None], categories=["a"])), "group")
