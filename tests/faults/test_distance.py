"""Bad calls of `Distance` say what is wrong and change nothing; neither does Ctrl-C."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from tests.support import BadCall, assert_unchanged, interrupt_after, snapshot

import ptg
from ptg.distance.metrics import available
from ptg.kernels.cpu import energy_distances, energy_tiles, moments, sinkhorn_solve, tiles

Distance = ptg.Distance


def contrast_table(**columns: list[Any]) -> pd.DataFrame:
    return pd.DataFrame({"perturbation": ["A"], "reference": ["NT"], **columns})


def with_nan(adata: ad.AnnData) -> ad.AnnData:
    other = adata.copy()
    other.obsm["X_pca"][3, 2] = np.nan
    return other


BAD_CALLS = [
    BadCall(
        "unknown metric",
        lambda adata: Distance("edistanc"),
        ("Distance.__init__", "metric='edistanc'", "nearest: 'edistance'", "Pass one of", "r2_distance"),
    ),
    BadCall("metric that is no text", lambda adata: Distance(3), ("metric=3", "Pass one of", "edistance")),
    BadCall(
        "unknown option",
        lambda adata: Distance("edistance", estimate="biased"),
        ("Distance(metric='edistance')", "unknown names 'estimate'", "Accepted: 'estimator'"),
    ),
    BadCall(
        "option of another metric",
        lambda adata: Distance("mse", estimator="biased"),
        ("Distance(metric='mse')", "'estimator'", "Accepted: 'agg_fct'"),
    ),
    BadCall("option of a metric without", lambda adata: Distance("ks_test", epsilon=0), ("None are accepted",)),
    BadCall(
        "unknown kernel",
        lambda adata: Distance("mmd", kernel="gaussian"),
        ("kernel='gaussian'", "'linear', 'rbf', 'poly'"),
    ),
    BadCall("gamma of 0", lambda adata: Distance("mmd", kernel="rbf", gamma=0), ("gamma=0", "out of range")),
    BadCall("degree that is no number", lambda adata: Distance("mmd", degree=2.5), ("degree=2.5", "at least 1")),
    BadCall(
        "negative epsilon", lambda adata: Distance("t_test", epsilon=-1e-9), ("epsilon=-1e-09", "out of range. Pass")
    ),
    BadCall(
        "seed of a split that is no number",
        lambda adata: Distance("classifier_proba", random_state="0"),
        ("random_state='0'", "integer of at least 0"),
    ),
    BadCall(
        "unknown cell-wise metric",
        lambda adata: Distance(cell_wise_metric="euclid"),
        ("cell_wise_metric='euclid'", "nearest: 'euclidean'"),
    ),
    BadCall(
        "unknown aggregation", lambda adata: Distance("mse", agg_fct="mode"), ("agg_fct='mode'", "nearest: 'mean'")
    ),
    BadCall("aggregation that is a number", lambda adata: Distance("mse", agg_fct=1), ("agg_fct=1", "a function")),
    BadCall(
        "aggregation that keeps the cells",
        lambda adata: Distance("mse", agg_fct=lambda cells, axis: cells).pairwise(adata, "perturbation"),
        ("Distance.pairwise", "agg_fct", "one number per column"),
    ),
    BadCall(
        "likelihood of values that are no counts",
        lambda adata: Distance("nb_ll", layer_key="X").pairwise(adata, "perturbation"),
        ("Distance.pairwise", "metric='nb_ll'", "not whole numbers", "raw, unnormalised counts"),
    ),
    BadCall(
        "class projection of two groups",
        lambda adata: Distance("classifier_cp")(np.ones((2, 3)), np.ones((2, 3))),
        ("Distance.__call__", "metric='classifier_cp'", "onesided_distances or contrast_distances"),
    ),
    BadCall(
        "class projection of all pairs",
        lambda adata: Distance("classifier_cp").pairwise(adata, "perturbation"),
        ("Distance.pairwise", "onesided_distances or contrast_distances"),
    ),
    BadCall(
        "class projection of one group",
        lambda adata: Distance("classifier_cp").onesided_distances(adata, "perturbation", "NT", groups=["A"]),
        ("Distance.onesided_distances", "only 'A' is compared with 'NT'", "two groups or more"),
    ),
    BadCall(
        "unknown estimator",
        lambda adata: Distance(estimator="unbiassed"),
        ("estimator='unbiassed'", "nearest: 'unbiased'"),
    ),
    BadCall(
        "both keys",
        lambda adata: Distance(layer_key="X", obsm_key="X_pca"),
        ("layer_key='X'", "obsm_key='X_pca'", "exclude each other"),
    ),
    BadCall("empty key", lambda adata: Distance(obsm_key=""), ("obsm_key=''", "non-empty string")),
    BadCall("layer key that is no text", lambda adata: Distance(layer_key=1), ("layer_key=1", "string")),
    BadCall("unknown device", lambda adata: Distance(device="gpu"), ("device='gpu'", "'auto', 'cpu'")),
    BadCall(
        "no such embedding",
        lambda adata: Distance(obsm_key="X_pc").pairwise(adata, "perturbation"),
        ("Distance.pairwise", "obsm_key='X_pc'", "nearest: 'X_pca'"),
    ),
    BadCall(
        "no such layer",
        lambda adata: Distance(layer_key="count").pairwise(adata, "perturbation"),
        ("layer_key='count'", "adata.layers", "nearest: 'counts'", "'X'"),
    ),
    BadCall(
        "no such column",
        lambda adata: Distance().pairwise(adata, "perturbatio"),
        ("groupby='perturbatio'", "adata.obs", "nearest: 'perturbation'"),
    ),
    BadCall(
        "no AnnData",
        lambda adata: Distance().pairwise(adata.obs, "perturbation"),
        ("adata is a DataFrame", "Pass an AnnData"),
    ),
    BadCall(
        "no such group",
        lambda adata: Distance().pairwise(adata, "perturbation", groups=["A", "BB"]),
        ("groups='BB'", "obs['perturbation']"),
    ),
    BadCall(
        "empty category as group",
        lambda adata: Distance().pairwise(adata, "perturbation", groups=["A", "empty"]),
        ("groups='empty'", "obs['perturbation']"),
    ),
    BadCall(
        "groups is one name",
        lambda adata: Distance().onesided_distances(adata, "perturbation", "NT", groups="A"),
        ("Distance.onesided_distances", "groups='A'", "Pass a list"),
    ),
    BadCall(
        "group named twice",
        lambda adata: Distance().pairwise(adata, "perturbation", groups=["A", "A"]),
        ("'A' more than once",),
    ),
    BadCall(
        "group that is a list",
        lambda adata: Distance().pairwise(adata, "perturbation", groups=[["A"], "B"]),
        ("groups=['A']", "obs['perturbation']"),
    ),
    BadCall("no groups", lambda adata: Distance().pairwise(adata, "perturbation", groups=[]), ("groups=[]",)),
    BadCall(
        "no such control",
        lambda adata: Distance().onesided_distances(adata, "perturbation", "NTC"),
        ("selected_group='NTC'", "obs['perturbation']", "nearest: 'NT'"),
    ),
    BadCall(
        "control left out",
        lambda adata: Distance().onesided_distances(adata, "perturbation", None),
        ("selected_group=None", "obs['perturbation']", "'NT'"),
    ),
    BadCall(
        "control named twice",
        lambda adata: Distance().onesided_distances(adata, "perturbation", ["NT", "NT"]),
        ("selected_group", "'NT' more than once"),
    ),
    BadCall(
        "no control",
        lambda adata: Distance().onesided_distances(adata, "perturbation", []),
        ("selected_group is empty",),
    ),
    BadCall(
        "no resamples",
        lambda adata: Distance().pairwise(adata, "perturbation", bootstrap=True, n_bootstrap=0),
        ("n_bootstrap=0", "at least 1"),
    ),
    BadCall(
        "seed that is no integer",
        lambda adata: Distance().pairwise(adata, "perturbation", bootstrap=True, random_state=1.5),
        ("random_state=1.5", "integer of at least 0"),
    ),
    BadCall(
        "bootstrap that is a number",
        lambda adata: Distance().pairwise(adata, "perturbation", bootstrap=100),
        ("bootstrap=100", "True or False"),
    ),
    BadCall(
        "progress that is no flag",
        lambda adata: Distance().pairwise(adata, "perturbation", show_progressbar="yes"),
        ("show_progressbar='yes'", "True or False"),
    ),
    BadCall(
        "GPU list that is none",
        lambda adata: Distance().pairwise(adata, "perturbation", multi_gpu="all"),
        ("multi_gpu='all'", "'0,2'"),
    ),
    BadCall(
        "a keyword of pertpy that is not offered",
        lambda adata: Distance().pairwise(adata, "perturbation", n_jobs=2),
        ("n_jobs",),
        TypeError,
    ),
    BadCall(
        "NaN in the cells",
        lambda adata: Distance().pairwise(with_nan(adata), "perturbation"),
        ("adata.obsm['X_pca']", "1 NaN or infinite"),
    ),
    BadCall(
        "numbers as labels",
        lambda adata: Distance().pairwise(
            ad.AnnData(obs=adata.obs.assign(x=np.arange(240) / 7), obsm=dict(adata.obsm)), "x"
        ),
        ("groupby='x'", "float64", "not labels"),
    ),
    BadCall("one-dimensional array", lambda adata: Distance()(np.arange(3.0), np.ones((2, 3))), ("X has 1 dimension",)),
    BadCall(
        "arrays of different width",
        lambda adata: Distance()(np.ones((2, 3)), np.ones((2, 4))),
        ("Distance.__call__", "X has 3 columns and Y has 4"),
    ),
    BadCall(
        "group without cells", lambda adata: Distance()(np.ones((2, 3)), np.ones((0, 3))), ("Y is empty", "(0, 3)")
    ),
    BadCall(
        "masked cells",
        lambda adata: Distance()(np.ma.masked_greater(np.arange(6.0).reshape(2, 3), 4.0), np.ones((2, 3))),
        ("X is masked", "fill them"),
    ),
    BadCall(
        "tuples as labels",
        lambda adata: Distance().pairwise(
            ad.AnnData(obs=adata.obs.assign(x=[("a", i % 2) for i in range(240)]), obsm=dict(adata.obsm)), "x"
        ),
        ("groupby='x'", "tuples", "one string"),
    ),
    BadCall("a list", lambda adata: Distance()([[1.0]], np.ones((1, 1))), ("X is a builtins.list", "NumPy array")),
    BadCall(
        "infinite values",
        lambda adata: Distance().bootstrap(np.ones((2, 1)), np.array([[np.inf]])),
        ("Distance.bootstrap", "Y has 1 NaN or infinite"),
    ),
    BadCall(
        "no such contrast group",
        lambda adata: Distance().contrast_distances(adata, contrast_table().replace("A", "AA")),
        ("Distance.contrast_distances", "'AA'", "obs['perturbation']"),
    ),
    BadCall(
        "no such reference",
        lambda adata: Distance.validate_contrasts(adata, contrast_table().replace("NT", "NTC")),
        ("Distance.validate_contrasts", "'reference'", "'NTC'", "nearest: 'NT'"),
    ),
    BadCall(
        "no such level",
        lambda adata: Distance().contrast_distances(adata, contrast_table(replicate=["r3"])),
        ("'replicate'", "'r3'", "nearest: 'r2', 'r1'"),
    ),
    BadCall(
        "missing level",
        lambda adata: Distance().contrast_distances(adata, contrast_table(replicate=[None])),
        ("'replicate'", "None", "obs['replicate']"),
    ),
    BadCall(
        "no such contrast column",
        lambda adata: Distance().contrast_distances(adata, contrast_table(replicat=["r1"])),
        ("contrasts column='replicat'", "adata.obs", "nearest: 'replicate'"),
    ),
    BadCall(
        "no reference column",
        lambda adata: Distance.validate_contrasts(adata, contrast_table().drop(columns="reference")),
        ("'reference'", "contrasts", "Add a column"),
    ),
    BadCall(
        "reference first",
        lambda adata: Distance.validate_contrasts(adata, contrast_table()[["reference", "perturbation"]]),
        ("first column", "'reference'"),
    ),
    BadCall(
        "contrasts that are no table",
        lambda adata: Distance().contrast_distances(adata, [("A", "NT")]),
        ("contrasts is a list", "create_contrasts"),
    ),
    BadCall(
        "repeated contrast columns",
        lambda adata: Distance.validate_contrasts(adata, contrast_table().iloc[:, [0, 1, 0]]),
        ("repeated columns",),
    ),
    BadCall(
        "no such split column",
        lambda adata: Distance.create_contrasts(adata, "perturbation", "NT", split_by="batch"),
        ("Distance.create_contrasts", "split_by='batch'", "adata.obs"),
    ),
    BadCall(
        "split by the groups",
        lambda adata: Distance.create_contrasts(adata, "perturbation", "NT", split_by=["perturbation"]),
        ("split_by", "'perturbation'"),
    ),
    BadCall(
        "no such reference to build from",
        lambda adata: Distance.create_contrasts(adata, "perturbation", ["NT", "X"]),
        ("selected_group='X'", "obs['perturbation']"),
    ),
    BadCall(
        "no such group to build from",
        lambda adata: Distance.create_contrasts(adata, "perturbation", "NT", groups=["D"]),
        ("groups='D'", "obs['perturbation']"),
    ),
    BadCall(
        "list of groups to build from",
        lambda adata: Distance.create_contrasts(adata, "perturbation", "NT", groups=[["A"]]),
        ("groups=['A']", "obs['perturbation']"),
    ),
]


@pytest.mark.parametrize("bad", BAD_CALLS, ids=lambda bad: bad.name)
def test_bad_call(screen: ad.AnnData, bad: BadCall) -> None:
    bad.check(screen)


def test_the_error_lists_every_metric() -> None:
    with pytest.raises(ptg.InputError) as caught:
        Distance("none of them")
    assert all(name in str(caught.value) for name in available())


def contrasts_of(adata: ad.AnnData) -> pd.DataFrame:
    return Distance.create_contrasts(adata, "perturbation", "NT", split_by="replicate")


LONG_CALLS: dict[str, Callable[[Distance, ad.AnnData], object]] = {
    "pairwise": lambda distance, adata: distance.pairwise(adata, "perturbation"),
    "pairwise bootstrap": lambda distance, adata: distance.pairwise(adata, "perturbation", bootstrap=True),
    "onesided": lambda distance, adata: distance.onesided_distances(adata, "perturbation", "NT"),
    "onesided bootstrap": lambda distance, adata: distance.onesided_distances(
        adata, "perturbation", "NT", bootstrap=True
    ),
    "contrasts": lambda distance, adata: distance.contrast_distances(adata, contrasts_of(adata)),
    "bootstrap": lambda distance, adata: distance.bootstrap(adata.obsm["X_pca"][:20], adata.obsm["X_pca"][20:]),
}


#: For each metric a function in the middle of its kernel.
INTERRUPTED = {
    "edistance": (energy_distances, "squared_differences"),
    "mse": (moments, "_dense_sums"),
    "wasserstein": (sinkhorn_solve, "fill_kernel"),
}


@pytest.mark.parametrize("n_threads", [1, 2])
@pytest.mark.parametrize("name", LONG_CALLS)
@pytest.mark.parametrize("metric", INTERRUPTED)
def test_ctrl_c(screen: ad.AnnData, monkeypatch: pytest.MonkeyPatch, name: str, metric: str, n_threads: int) -> None:
    """Ctrl-C inside a kernel ends the call, the AnnData is as it was, and the next call works."""
    before, distance = snapshot(screen), Distance(metric)
    module, function = INTERRUPTED[metric]
    monkeypatch.setattr(ptg.settings, "n_threads", n_threads)
    with monkeypatch.context() as patch:
        patch.setattr(module, function, interrupt_after(getattr(module, function), 0))
        with pytest.raises(KeyboardInterrupt):
            LONG_CALLS[name](distance, screen)
    assert_unchanged(screen, before)
    LONG_CALLS[name](distance, screen)
    assert_unchanged(screen, before)


def test_ctrl_c_between_draws(screen: ad.AnnData, monkeypatch: pytest.MonkeyPatch) -> None:
    before = snapshot(screen)
    monkeypatch.setattr("ptg.distance.evaluate._draws_at_once", lambda sample, memory: 32)
    monkeypatch.setattr(tiles, "weighted_row_sums", interrupt_after(energy_tiles.weighted_row_sums, 6))
    with pytest.raises(KeyboardInterrupt):
        Distance().pairwise(screen, "perturbation", bootstrap=True)
    assert_unchanged(screen, before)
