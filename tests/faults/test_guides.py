"""Bad calls of `GuideAssignment` say what is wrong and change nothing; neither does Ctrl-C."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from tests.support import BadCall, assert_unchanged, interrupt_after, snapshot

import ptg
from ptg.data import layer_names
from ptg.kernels.cpu import mixture

Assignment = ptg.GuideAssignment


@pytest.fixture
def guides() -> ad.AnnData:
    rng = np.random.default_rng(0)
    counts = rng.poisson(0.3, (300, 4))
    counts[np.arange(300), np.arange(300) % 4] = np.round(2 ** rng.normal(5, 1, 300))
    return ad.AnnData(
        sp.csr_matrix(counts.astype(np.float32)),
        obs=pd.DataFrame({"batch": "1"}, index=[f"cell{i}" for i in range(300)]),
        var=pd.DataFrame(index=["A", "B", "C", "D"]),
        layers={"counts": sp.csr_matrix(counts), "log": sp.csr_matrix(np.log1p(counts))},
    )


def with_value(guides: ad.AnnData, value: float) -> ad.AnnData:
    other = guides.copy()
    other.X[0, 0] = value
    return other


def with_names(guides: ad.AnnData, names: list[str]) -> ad.AnnData:
    other = guides.copy()
    other.var_names = names
    return other


def without_x(guides: ad.AnnData) -> ad.AnnData:
    layers = {name: guides.layers[name] for name in layer_names(guides)}
    return ad.AnnData(obs=guides.obs, var=guides.var, layers=layers)


MIXTURE = "GuideAssignment.assign_mixture_model"
BAD_CALLS = [
    BadCall("unknown device", lambda g: Assignment(device="gpu"), ("GuideAssignment", "device='gpu'", "'auto', 'cpu'")),
    BadCall(
        "negative counts",
        lambda g: Assignment().assign_mixture_model(with_value(g, -1)),
        (MIXTURE, "adata.X", "negative", "minimum -1", "raw"),
    ),
    BadCall(
        "fractional counts",
        lambda g: Assignment().assign_mixture_model(g, layer="log"),
        ("adata.layers['log']", "not whole numbers", "raw, unnormalised counts"),
    ),
    BadCall(
        "fractional counts, threshold",
        lambda g: Assignment().assign_by_threshold(g, assignment_threshold=5, layer="log"),
        ("GuideAssignment.assign_by_threshold", "adata.layers['log']", "not whole numbers"),
    ),
    BadCall(
        "NaN count",
        lambda g: Assignment().assign_to_max_guide(with_value(g, np.nan), assignment_threshold=5),
        ("GuideAssignment.assign_to_max_guide", "1 NaN or infinite value(s)"),
    ),
    BadCall(
        "infinite count",
        lambda g: Assignment().assign_mixture_model(with_value(g, np.inf)),
        (MIXTURE, "NaN or infinite"),
    ),
    BadCall(
        "count beyond all reason",
        lambda g: Assignment().assign_mixture_model(g.X.toarray().astype(float) * 1e9),
        ("the matrix has counts up to", "2147483647"),
    ),
    BadCall(
        "missing layer",
        lambda g: Assignment().assign_mixture_model(g, layer="count"),
        ("layer='count'", "adata.layers", "nearest: 'counts'"),
    ),
    BadCall("no X", lambda g: Assignment().assign_mixture_model(without_x(g)), ("adata.X, which is empty",)),
    BadCall("no data", lambda g: Assignment().assign_mixture_model(None), ("adata is a NoneType", "AnnData")),
    BadCall(
        "a list", lambda g: Assignment().assign_by_threshold([[1, 2]], assignment_threshold=1), ("adata is a list",)
    ),
    BadCall(
        "text", lambda g: Assignment().assign_mixture_model(np.array([["a", "b"]])), ("the matrix holds", "numbers")
    ),
    BadCall(
        "one dimension",
        lambda g: Assignment().assign_to_max_guide(np.array([1.0, 2.0]), assignment_threshold=1),
        ("1 dimension(s)", "cells x columns"),
    ),
    BadCall("no cell", lambda g: Assignment().assign_mixture_model(np.zeros((0, 3))), ("empty: shape (0, 3)",)),
    BadCall(
        "layer of a bare matrix",
        lambda g: Assignment().assign_mixture_model(g.X, layer="counts"),
        ("layer='counts'", "bare matrix"),
    ),
    BadCall(
        "names for an AnnData",
        lambda g: Assignment().assign_mixture_model(g, var=g.var),
        ("var was passed with an AnnData", "adata.var_names"),
    ),
    BadCall(
        "names of the wrong length",
        lambda g: Assignment().assign_mixture_model(g.X, var=["A", "B"]),
        ("var has 2 names for the 4 columns",),
    ),
    BadCall(
        "names that are a string",
        lambda g: Assignment().assign_to_max_guide(g.X, assignment_threshold=5, var="ABCD"),
        ("var='ABCD'", "Index or list"),
    ),
    BadCall(
        "repeated names",
        lambda g: Assignment().assign_mixture_model(with_names(g, ["A", "B", "A", "B"])),
        ("guide names repeat 'A', 'B'", "var_names_make_unique"),
    ),
    BadCall(
        "a guide called like the cells without",
        lambda g: Assignment().assign_mixture_model(with_names(g, ["A", "B", "C", "negative"])),
        ("no_grna_assigned_key='negative'", "name of a guide"),
    ),
    BadCall(
        "a guide called like the cells with many",
        lambda g: Assignment().assign_mixture_model(g, multiple_grna_assigned_key="C"),
        ("multiple_grna_assigned_key='C'", "name of a guide"),
    ),
    BadCall(
        "one label for none and many",
        lambda g: Assignment().assign_mixture_model(g, no_grna_assigned_key="x", multiple_grna_assigned_key="x"),
        ("no_grna_assigned_key and multiple_grna_assigned_key", "both 'x'"),
    ),
    BadCall(
        "threshold 0",
        lambda g: Assignment().assign_by_threshold(g, assignment_threshold=0),
        ("assignment_threshold=0", "out of range"),
    ),
    BadCall(
        "threshold NaN",
        lambda g: Assignment().assign_to_max_guide(g, assignment_threshold=np.nan),
        ("assignment_threshold=nan", "finite"),
    ),
    BadCall(
        "threshold as text",
        lambda g: Assignment().assign_by_threshold(g, assignment_threshold="5"),
        ("assignment_threshold='5'", "number"),
    ),
    BadCall(
        "posterior 1",
        lambda g: Assignment().assign_mixture_model(g, posterior_threshold=1.0),
        ("posterior_threshold=1.0", "(0, 1)"),
    ),
    BadCall(
        "posterior 0",
        lambda g: Assignment().assign_mixture_model(g, posterior_threshold=0),
        ("posterior_threshold=0", "(0, 1)"),
    ),
    BadCall("no steps", lambda g: Assignment().assign_mixture_model(g, max_iter=0), ("max_iter=0", "at least 1")),
    BadCall("half steps", lambda g: Assignment().assign_mixture_model(g, max_iter=9.5), ("max_iter=9.5", "integer")),
    BadCall("negative tol", lambda g: Assignment().assign_mixture_model(g, tol=-1e-4), ("tol=-0.0001", "[0, inf]")),
    BadCall(
        "no names in a label",
        lambda g: Assignment().assign_mixture_model(g, max_assignments_per_cell=0),
        ("max_assignments_per_cell=0", "at least 1"),
    ),
    BadCall(
        "joiner that is no text",
        lambda g: Assignment().assign_mixture_model(g, multiple_grna_assignment_string=None),
        ("multiple_grna_assignment_string=None", "string"),
    ),
    BadCall(
        "flag that is no flag",
        lambda g: Assignment().assign_mixture_model(g, only_return_results="yes"),
        ("only_return_results='yes'", "True or False"),
    ),
    BadCall(
        "empty column name",
        lambda g: Assignment().assign_mixture_model(g, assigned_guides_key=""),
        ("assigned_guides_key=''", "non-empty string"),
    ),
    BadCall(
        "column name that is no text",
        lambda g: Assignment().assign_to_max_guide(g, assignment_threshold=5, obs_key=1),
        ("obs_key=1", "string"),
    ),
    BadCall(
        "no layer name",
        lambda g: Assignment().assign_by_threshold(g, assignment_threshold=5, output_layer=None),
        ("output_layer=None", "string"),
    ),
    BadCall(
        "layer called X, threshold",
        lambda g: Assignment().assign_by_threshold(g, assignment_threshold=5, output_layer="X"),
        ("output_layer='X'", "another name"),
    ),
    BadCall(
        "layer that is no text",
        lambda g: Assignment().assign_mixture_model(g, layer=["counts"]),
        ("layer=['counts']", "adata.layers"),
    ),
    BadCall(
        "more steps than a number holds",
        lambda g: Assignment().assign_mixture_model(g, max_iter=2**70),
        ("max_iter=1180591620717411303424", "at most"),
    ),
    BadCall(
        "threshold beyond floating point",
        lambda g: Assignment().assign_by_threshold(g, assignment_threshold=10**400),
        ("assignment_threshold=1000", "finite"),
    ),
    BadCall(
        "layer called X",
        lambda g: Assignment().assign_to_max_guide(g, assignment_threshold=5, output_layer="X"),
        ("output_layer='X'", "another name"),
    ),
    BadCall(
        "unknown keyword",
        lambda g: Assignment().assign_mixture_model(g, n_iter=500),
        ("n_iter",),
        error=TypeError,
    ),
    BadCall("no threshold", lambda g: Assignment().assign_by_threshold(g), ("assignment_threshold",), error=TypeError),
]


@pytest.mark.parametrize("bad_call", BAD_CALLS, ids=lambda bad_call: bad_call.name)
def test_bad_calls(guides, bad_call):
    bad_call.check(guides)


@pytest.mark.parametrize("kernel", ["count_histograms", "fit_mixture", "mixture_thresholds", "assign_above"])
def test_interrupted_mixture(guides, monkeypatch, kernel):
    before = snapshot(guides)
    monkeypatch.setattr(mixture, kernel, interrupt_after(getattr(mixture, kernel), 0))
    with pytest.raises(KeyboardInterrupt):
        Assignment().assign_mixture_model(guides)
    assert_unchanged(guides, before)


@pytest.mark.parametrize("n_threads", [1, 2])
def test_interrupted_between_guides(guides, monkeypatch, n_threads):
    before = snapshot(guides)
    monkeypatch.setattr(mixture, "_BINS_PER_TASK", 1)
    monkeypatch.setattr(mixture, "fit_guides", interrupt_after(mixture.fit_guides, 2))
    monkeypatch.setattr(ptg.settings, "n_threads", n_threads)
    with pytest.raises(KeyboardInterrupt):
        Assignment().assign_mixture_model(guides)
    assert_unchanged(guides, before)


def test_interrupted_max_guide(guides, monkeypatch):
    before = snapshot(guides)
    monkeypatch.setattr(mixture, "largest_entries", interrupt_after(mixture.largest_entries, 0))
    with pytest.raises(KeyboardInterrupt):
        Assignment().assign_to_max_guide(guides, assignment_threshold=5)
    assert_unchanged(guides, before)


def test_a_write_that_fails_takes_back_the_others(guides, monkeypatch):
    before = snapshot(guides)
    # The labels come before the layer, the parameters of the mixture after it.
    monkeypatch.setattr("ptg.guides.source.GuideSource.binary_matrix", lambda *_: sp.csr_matrix((1, 1), dtype=np.int8))
    with pytest.raises(ValueError, match="shape"):
        Assignment().assign_mixture_model(guides)
    assert_unchanged(guides, before)
