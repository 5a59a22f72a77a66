"""Bad calls of `DistanceTest`, of draws and of `compare_distance`; Ctrl-C in the middle of a test."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from tests.support import BadCall, assert_unchanged, interrupt_after, snapshot

import ptg
from ptg.kernels.cpu import moments, permutation, subsets

DistanceTest = ptg.DistanceTest


def contrast_table(**columns: list[str]) -> pd.DataFrame:
    return pd.DataFrame({"perturbation": ["A"], "reference": ["NT"], **columns})


def draws_of(adata: ad.AnnData) -> ptg.BootstrapDraws:
    cells = adata.obsm["X_pca"]
    return ptg.Distance().bootstrap(cells[:20], cells[20:40], n_bootstrap=5, return_draws=True)[1]


BAD_CALLS = [
    BadCall("unknown metric", lambda adata: DistanceTest("edistanc"), ("metric='edistanc'", "nearest: 'edistance'")),
    BadCall(
        "no permutations", lambda adata: DistanceTest(n_perms=0), ("DistanceTest.__init__", "n_perms=0", "at least 1")
    ),
    BadCall("half a permutation", lambda adata: DistanceTest(n_perms=10.5), ("n_perms=10.5", "integer")),
    BadCall("threshold of 1", lambda adata: DistanceTest(padj_threshold=1.0), ("padj_threshold=1.0", "(0, 1)")),
    BadCall("threshold by its older name", lambda adata: DistanceTest(alpha=-1), ("alpha=-1", "(0, 1)")),
    BadCall(
        "unknown correction",
        lambda adata: DistanceTest(correction="holm_sidak"),
        ("correction='holm_sidak'", "nearest: 'holm-sidak'"),
    ),
    BadCall("negative seed", lambda adata: DistanceTest(random_state=-1), ("random_state=-1", "at least 0")),
    BadCall(
        "both keys",
        lambda adata: DistanceTest(layer_key="X", obsm_key="X_pca"),
        ("layer_key='X'", "obsm_key='X_pca'", "exclude each other"),
    ),
    BadCall(
        "option of another metric",
        lambda adata: DistanceTest("mse", estimator="biased"),
        ("Distance(metric='mse')", "'estimator'"),
    ),
    BadCall("unknown device", lambda adata: DistanceTest(device="gpu"), ("device='gpu'", "'auto', 'cpu'")),
    BadCall(
        "no such column",
        lambda adata: DistanceTest()(adata, "perturbatio", "NT"),
        ("DistanceTest.__call__", "groupby='perturbatio'", "nearest: 'perturbation'"),
    ),
    BadCall(
        "no such contrast",
        lambda adata: DistanceTest()(adata, "perturbation", "NTC"),
        ("contrast='NTC'", "obs['perturbation']", "nearest: 'NT'"),
    ),
    BadCall(
        "empty category as contrast",
        lambda adata: DistanceTest()(adata, "perturbation", "empty"),
        ("contrast='empty'", "obs['perturbation']"),
    ),
    BadCall(
        "no such group",
        lambda adata: DistanceTest()(adata, "perturbation", "NT", groups=["A", "BB"]),
        ("groups='BB'", "obs['perturbation']"),
    ),
    BadCall(
        "nothing but the contrast",
        lambda adata: DistanceTest()(adata, "perturbation", "NT", groups=["NT"]),
        ("no group but the contrast 'NT'",),
    ),
    BadCall(
        "groups in the place of the progress bar",
        lambda adata: DistanceTest()(adata, "perturbation", "NT", ["A"]),
        ("show_progressbar=['A']", "True or False"),
    ),
    BadCall(
        "no such embedding",
        lambda adata: DistanceTest(obsm_key="X_pc")(adata, "perturbation", "NT"),
        ("DistanceTest.__call__", "obsm_key='X_pc'", "nearest: 'X_pca'"),
    ),
    BadCall("no AnnData", lambda adata: DistanceTest()(adata.obs, "perturbation", "NT"), ("adata is a DataFrame",)),
    BadCall(
        "no such contrast group",
        lambda adata: DistanceTest().test_contrasts(adata, contrast_table().replace("A", "AA")),
        ("DistanceTest.test_contrasts", "'AA'", "obs['perturbation']"),
    ),
    BadCall(
        "a group against itself",
        lambda adata: DistanceTest().test_contrasts(adata, contrast_table().replace("A", "NT")),
        ("row 0", "with itself"),
    ),
    BadCall(
        "draws without bootstrap",
        lambda adata: ptg.Distance().pairwise(adata, "perturbation", return_draws=True),
        ("Distance.pairwise", "return_draws=True", "bootstrap=True"),
    ),
    BadCall(
        "draws that are a number",
        lambda adata: ptg.Distance().onesided_distances(adata, "perturbation", "NT", bootstrap=True, return_draws=5),
        ("return_draws=5", "True or False"),
    ),
    BadCall(
        "no resamples of contrasts",
        lambda adata: ptg.Distance().contrast_distances(adata, contrast_table(), bootstrap=True, n_bootstrap=0),
        ("Distance.contrast_distances", "n_bootstrap=0"),
    ),
    BadCall(
        "confidence in per cent",
        lambda adata: draws_of(adata).interval(95),
        ("BootstrapDraws.interval", "confidence_level=95", "(0, 1)"),
    ),
    BadCall(
        "unknown interval",
        lambda adata: draws_of(adata).interval(method="bc"),
        ("method='bc'", "'bca'"),
    ),
    BadCall(
        "unknown mode",
        lambda adata: ptg.Distance().compare_distance(*[adata.obsm["X_pca"]] * 3, mode="scale"),
        ("Distance.compare_distance", "mode='scale'", "nearest: 'scaled'"),
    ),
    BadCall(
        "control of another width",
        lambda adata: ptg.Distance().compare_distance(*[adata.obsm["X_pca"]] * 2, np.ones((2, 3))),
        ("pert has 10 columns and ctrl has 3",),
    ),
]


@pytest.mark.parametrize("bad", BAD_CALLS, ids=lambda bad: bad.name)
def test_bad_call(screen: ad.AnnData, bad: BadCall) -> None:
    bad.check(screen)


@pytest.mark.parametrize("n_threads", [1, 2])
@pytest.mark.parametrize(
    ("metric", "module", "function"),
    [
        ("edistance", subsets, "add_masked"),
        ("edistance", permutation, "_fill_members"),
        ("edistance", permutation, "_add_row_sums"),
        ("mse", moments, "_dense_sums"),
    ],
)
def test_ctrl_c(
    screen: ad.AnnData, monkeypatch: pytest.MonkeyPatch, metric: str, module: object, function: str, n_threads: int
) -> None:
    """Ctrl-C inside a kernel ends the test, the AnnData is as it was, and the next test works."""
    before, test = snapshot(screen), DistanceTest(metric, n_perms=10)
    monkeypatch.setattr(ptg.settings, "n_threads", n_threads)
    with monkeypatch.context() as patch:
        patch.setattr(module, function, interrupt_after(getattr(module, function), 1))
        with pytest.raises(KeyboardInterrupt):
            test(screen, "perturbation", "NT")
    assert_unchanged(screen, before)
    test(screen, "perturbation", "NT")
    test.test_contrasts(screen, contrast_table())
    assert_unchanged(screen, before)
