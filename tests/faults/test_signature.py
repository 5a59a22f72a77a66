"""Bad calls of perturbation_signature say what is wrong and change nothing; neither does Ctrl-C."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from tests.support import BadCall, assert_unchanged, interrupt_after, snapshot

import ptg
from ptg.data import embedding
from ptg.kernels.cpu import moments, neighbors
from ptg.mixscape import neighbor_graph, signature


def sign(adata: Any, pert_key: Any = "perturbation", control: Any = "NT", **options: Any) -> object:
    return ptg.Mixscape().perturbation_signature(adata, pert_key, control, **options)


def on_copy(change: Callable[[ad.AnnData], object], **options: Any) -> Callable[[ad.AnnData], object]:
    """Call on a changed copy."""

    def call(adata: ad.AnnData) -> object:
        other = adata.copy()
        change(other)
        return sign(other, **options)

    return call


def unlabelled_split(adata: ad.AnnData) -> None:
    adata.obs.loc[adata.obs_names[[4, 9]], "replicate"] = np.nan


def split_without_controls(adata: ad.AnnData) -> None:
    controls = adata.obs["perturbation"] == "NT"
    adata.obs.loc[controls, "replicate"] = "r1"


def nan_in_x(adata: ad.AnnData) -> None:
    adata.X.data[7] = np.nan


def infinite_embedding(adata: ad.AnnData) -> None:
    adata.obsm["X_pca"][3, 1] = np.inf


def number_split(adata: ad.AnnData) -> None:
    adata.obs["replicate"] = np.linspace(0, 1, adata.n_obs)


def empty_x(adata: ad.AnnData) -> None:
    adata.X = None


def no_variable_genes(adata: ad.AnnData) -> None:
    del adata.obsm["X_pca"]
    adata.var["highly_variable"] = False


def unknown_variable_genes(adata: ad.AnnData) -> None:
    del adata.obsm["X_pca"]
    adata.var["highly_variable"] = pd.array(
        [True, pd.NA] * (adata.n_vars // 2) + [True] * (adata.n_vars % 2), "boolean"
    )


def raw_counts(adata: ad.AnnData) -> None:
    adata.X = sp.csr_matrix(adata.X, dtype=np.float32) * np.float32(100)


BAD_CALLS = [
    BadCall("not AnnData", lambda a: sign(a.X), ("Mixscape.perturbation_signature", "csr_matrix", "Pass an AnnData")),
    BadCall(
        "no such column",
        lambda a: sign(a, "perturbatoin"),
        ("Mixscape.perturbation_signature", "pert_key='perturbatoin'", "nearest: 'perturbation'"),
    ),
    BadCall("no such control", lambda a: sign(a, control="nt"), ("control='nt'", "obs['perturbation']", "'NT'")),
    BadCall("empty category", lambda a: sign(a, control="empty"), ("control='empty'", "obs['perturbation']")),
    BadCall(
        "unknown mode",
        lambda a: sign(a, ref_selection_mode="knn"),
        ("ref_selection_mode='knn'", "nearest: 'nn'"),
    ),
    BadCall(
        "mode split_by without a column",
        lambda a: sign(a, ref_selection_mode="split_by"),
        ("split_by=None", "ref_selection_mode='split_by'", "Name the obs column"),
    ),
    BadCall("no such split", lambda a: sign(a, split_by="replicat"), ("split_by='replicat'", "'replicate'")),
    BadCall("split that is no text", lambda a: sign(a, split_by=3), ("split_by=3", "non-empty string")),
    BadCall("numbers as splits", on_copy(number_split, split_by="replicate"), ("split_by", "not labels")),
    BadCall(
        "cells without a split",
        on_copy(unlabelled_split, split_by="replicate"),
        ("split_by='replicate'", "2 cell(s)", "'cell4', 'cell9'", "Label or remove"),
    ),
    BadCall(
        "split without controls",
        on_copy(split_without_controls, split_by="replicate"),
        ("split_by='replicate'", "'r2' has no control cell", "Merge"),
    ),
    BadCall(
        "split without controls, mode split_by",
        on_copy(split_without_controls, split_by="replicate", ref_selection_mode="split_by"),
        ("'r2' has no control cell",),
    ),
    BadCall("no neighbours", lambda a: sign(a, n_neighbors=0), ("n_neighbors=0", "at least 1")),
    BadCall("half a neighbour", lambda a: sign(a, n_neighbors=2.5), ("n_neighbors=2.5", "integer")),
    BadCall("no dimensions", lambda a: sign(a, n_dims=0), ("n_dims=0", "at least 1")),
    BadCall("negative n_pcs", lambda a: sign(a, n_pcs=-1), ("n_pcs=-1", "at least 0")),
    BadCall("more n_pcs than there are", lambda a: sign(a, n_pcs=11), ("n_pcs=11", "10 dimensions", "X_pca")),
    BadCall("no batch", lambda a: sign(a, batch_size=0), ("batch_size=0", "at least 1")),
    BadCall("unknown representation", lambda a: sign(a, use_rep="X_pcs"), ("use_rep='X_pcs'", "'X_pca'", "or 'X'")),
    BadCall("representation that is no text", lambda a: sign(a, use_rep=1), ("use_rep=1", "string")),
    *(
        BadCall(
            name,
            lambda a, name=name: ptg.Mixscape(device="cpu").perturbation_signature(
                a, "perturbation", "NT", knn_algorithm=name
            ),
            (f"knn_algorithm={name!r}", "GPU", "cuVS", "'brute'"),
        )
        for name in ("ivfflat", "ivfpq", "cagra")
    ),
    BadCall("unknown search", lambda a: sign(a, knn_algorithm="brut"), ("knn_algorithm='brut'", "nearest: 'brute'")),
    BadCall("search that is no text", lambda a: sign(a, knn_algorithm=["brute"]), ("knn_algorithm=['brute']",)),
    BadCall(
        "options of the exact search",
        lambda a: sign(a, knn_kwargs={"n_lists": 5}),
        ("knn_kwargs", "'n_lists'", "None are accepted"),
    ),
    BadCall("options that are no dict", lambda a: sign(a, knn_kwargs=5), ("knn_kwargs=5", "Pass a dict")),
    BadCall("copy that is no flag", lambda a: sign(a, copy="yes"), ("copy='yes'", "True or False")),
    BadCall("NaN in X", on_copy(nan_in_x), ("adata.X", "1 NaN or infinite")),
    BadCall("infinite embedding", on_copy(infinite_embedding), ("obsm['X_pca']", "1 NaN or infinite")),
    BadCall("no variable genes", on_copy(no_variable_genes), ("var['highly_variable']", "marks no gene", "remove")),
    BadCall("variable genes unknown", on_copy(unknown_variable_genes), ("var['highly_variable']", "lacks values")),
    BadCall("too many neighbours", lambda a: sign(a, n_neighbors=2**70), ("n_neighbors=11805916", "at most")),
    BadCall("no logarithms", on_copy(raw_counts), ("adata.X has values up to", "overflow", "log1p")),
    BadCall("no logarithms, graph", on_copy(raw_counts, output="graph"), ("adata.X has values up to", "log1p")),
    BadCall("no X", on_copy(empty_x), ("adata.X", "empty")),
    BadCall(
        "no GPU",
        lambda a: ptg.Mixscape(device="cuda").perturbation_signature(a, "perturbation", "NT"),
        ("device='cuda'", "Pass device='cpu'"),
    ),
    BadCall(
        "unknown output",
        lambda a: signature.perturbation_signature(a, "perturbation", "NT", output="file"),
        ("perturbation_signature: output='file'", "'layer'", "'graph'"),
    ),
]


@pytest.mark.parametrize("bad", BAD_CALLS, ids=lambda bad: bad.name)
def test_bad_calls(bad: BadCall, screen: ad.AnnData) -> None:
    bad.check(screen)


INTERRUPTED = [
    ("search", neighbors, "_select", 1, {}),
    (
        "search of the second split",
        neighbors,
        "nearest",
        1,
        {"split_by": "replicate"},
    ),
    ("averages", neighbors, "_sparse_means", 1, {"batch_size": 16}),
    ("logarithms", neighbors.np, "log1p", 1, {"batch_size": 16}),
    ("neighbour graph", signature.sp, "csr_matrix", 0, {"output": "graph"}),
    ("principal components", embedding, "principal_components", 0, {}),
    ("mean controls", moments, "group_sums", 0, {"ref_selection_mode": "split_by", "split_by": "replicate"}),
    (
        "subtraction",
        signature,
        "dense_rows",
        3,
        {"ref_selection_mode": "split_by", "split_by": "replicate", "batch_size": 16},
    ),
]


@pytest.mark.parametrize("n_threads", [1, 2])
@pytest.mark.parametrize(
    ("module", "name", "calls", "options"), [pytest.param(*case[1:], id=case[0]) for case in INTERRUPTED]
)
def test_ctrl_c_leaves_everything_as_it_was(
    module: Any,
    name: str,
    calls: int,
    options: dict[str, Any],
    n_threads: int,
    screen: ad.AnnData,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if name == "principal_components":
        del screen.obsm["X_pca"]
        module = neighbor_graph
    before = snapshot(screen)
    monkeypatch.setattr(ptg.settings, "n_threads", n_threads)
    with monkeypatch.context() as patch:
        patch.setattr(module, name, interrupt_after(getattr(module, name), calls))
        with pytest.raises(KeyboardInterrupt):
            signature.perturbation_signature(screen, "perturbation", "NT", **options)
    assert_unchanged(screen, before)


def test_a_failing_write_leaves_an_earlier_signature(screen: ad.AnnData, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C while the results are written: the graph of the earlier call is still complete."""
    signature.perturbation_signature(screen, "perturbation", "NT", output="graph")
    before = snapshot(screen)
    wide = np.zeros((screen.n_obs, screen.n_vars + 1))

    def compute(*_: Any) -> Any:
        return signature._Results({("obsm", "X_pca"): wide[:, :2], ("layers", "X_pert"): wide}, {})

    monkeypatch.setitem(signature._SELECTION, "nn", compute)
    with pytest.raises(ValueError, match="shape"):
        signature.perturbation_signature(screen, "perturbation", "NT")
    assert_unchanged(screen, before)


def test_the_input_is_never_modified(screen: ad.AnnData) -> None:
    screen.X = sp.csr_matrix(screen.X)
    before = snapshot(screen)
    for output in ("layer", "graph"):
        signature.perturbation_signature(screen, "perturbation", "NT", output=output, copy=True)
    assert_unchanged(screen, before)
