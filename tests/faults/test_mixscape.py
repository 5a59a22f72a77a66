"""Bad calls of Mixscape and Mixscale, and Ctrl-C in the middle of each long one."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pytest
from tests.support import BadCall, assert_unchanged, interrupt_after, small_screen, snapshot

import ptg
from ptg.data import InputError
from ptg.kernels.cpu import discriminant_axes, projection


@cache
def _prepared() -> ad.AnnData:
    adata = small_screen()
    mixscape = ptg.Mixscape()
    mixscape.perturbation_signature(adata, "perturbation", "NT", use_rep="X_pca", n_dims=None)
    mixscape.mixscape(adata, "perturbation", "NT")
    adata.obs["number"] = 0.5
    adata.obs["lane"] = "x/1"
    adata.obs.loc[adata.obs_names[::2], "lane"] = "x|1"
    return adata


@pytest.fixture
def prepared() -> ad.AnnData:
    return _prepared().copy()


def mixscape(adata: ad.AnnData, pert_key: Any = "perturbation", control: Any = "NT", **options: Any) -> object:
    return ptg.Mixscape().mixscape(adata, pert_key, control, **options)


def mixscale(adata: ad.AnnData, pert_key: Any = "perturbation", control: Any = "NT", **options: Any) -> object:
    return ptg.Mixscale().mixscale(adata, pert_key, control, **options)


def lda(adata: ad.AnnData, pert_key: Any = "perturbation", control: Any = "NT", **options: Any) -> object:
    return ptg.Mixscape().lda(adata, pert_key, control, **options)


def without_signature(call: Any) -> Any:
    def changed(adata: ad.AnnData) -> object:
        other = adata.copy()
        del other.layers["X_pert"]
        return call(other)

    return changed


def relabelled(call: Any, **names: str) -> Any:
    def changed(adata: ad.AnnData) -> object:
        other = adata.copy()
        other.obs["perturbation"] = other.obs["perturbation"].cat.rename_categories(names)
        return call(other)

    return changed


def nan_in_signature(adata: ad.AnnData) -> object:
    other = adata.copy()
    other.layers["X_pert"] = np.asarray(other.layers["X_pert"]).copy()
    other.layers["X_pert"][np.flatnonzero(other.obs["perturbation"] == "NT")[0]] = np.nan
    return mixscape(other)


def without_perturbed_cells(adata: ad.AnnData) -> object:
    other = adata.copy()
    other.obs["mixscape_class_global"] = other.obs["mixscape_class_global"].astype(object).replace("KO", "NP")
    return lda(other)


def with_log_base(call: Any, base: Any) -> Any:
    def changed(adata: ad.AnnData) -> object:
        other = adata.copy()
        other.uns["log1p"] = {"base": base}
        return call(other)

    return changed


BAD_CALLS = [
    BadCall(
        "no such column", lambda a: mixscape(a, "perturbatoin"), ("Mixscape.mixscape", "pert_key", "'perturbation'")
    ),
    BadCall("no such control", lambda a: mixscape(a, control="NTC"), ("Mixscape.mixscape", "control='NTC'", "'NT'")),
    BadCall("fractions as labels", lambda a: mixscape(a, "number", 0.5), ("pert_key", "float64", "not labels")),
    BadCall("not an AnnData", lambda a: mixscape(a.X), ("csr_matrix", "Pass an AnnData")),
    BadCall("no signature", without_signature(mixscape), ("X_pert", "Run perturbation_signature first")),
    BadCall("no such layer", lambda a: mixscape(a, layer="X_part"), ("layer='X_part'", "adata.layers")),
    BadCall("no such de_layer", lambda a: mixscape(a, de_layer="log"), ("de_layer='log'", "adata.layers")),
    BadCall("NaN in the signature", nan_in_signature, ("layers['X_pert']", "NaN or infinite value(s) among")),
    BadCall("no such split", lambda a: mixscape(a, split_by="batch"), ("split_by='batch'", "adata.obs")),
    BadCall("split is not text", lambda a: mixscape(a, split_by=3), ("split_by=3", "string")),
    BadCall("too few genes", lambda a: mixscape(a, min_de_genes=0), ("min_de_genes=0", "at least 1")),
    BadCall("negative fold change", lambda a: mixscape(a, logfc_threshold=-1), ("logfc_threshold=-1", "[0, inf]")),
    BadCall("p-value above 1", lambda a: mixscape(a, pval_cutoff=5), ("pval_cutoff=5", "[0, 1]")),
    BadCall("no such test", lambda a: mixscape(a, test_method="wilcoxn"), ("test_method", "'wilcoxon'")),
    BadCall("no rounds", lambda a: mixscape(a, iter_num=0), ("iter_num=0", "at least 1")),
    BadCall("bad seed", lambda a: mixscape(a, random_state="0"), ("random_state='0'", "integer")),
    BadCall("bad flag", lambda a: mixscape(a, scale="yes"), ("scale='yes'", "True or False")),
    BadCall("bad copy", lambda a: mixscape(a, copy=1), ("copy=1", "True or False")),
    BadCall("no such flavor", lambda a: mixscape(a, flavor="Seurat"), ("flavor='Seurat'", "'seurat'")),
    BadCall("bad tolerance", lambda a: mixscape(a, tol=float("nan")), ("tol=nan", "finite")),
    BadCall("no steps", lambda a: mixscape(a, max_iter=0), ("max_iter=0", "at least 1")),
    BadCall("negative variance", lambda a: mixscape(a, reg_covar=-1e-6), ("reg_covar=-1e-06", "[0, inf]")),
    BadCall("empty class name", lambda a: mixscape(a, new_class_name=""), ("new_class_name=''", "non-empty")),
    BadCall(
        "class name is the label column",
        lambda a: mixscape(a, new_class_name="perturbation"),
        ("new_class_name='perturbation'", "overwrite"),
    ),
    BadCall("type is a class", lambda a: mixscape(a, perturbation_type="NP"), ("perturbation_type='NP'", "another")),
    BadCall(
        "control is a class",
        relabelled(lambda a: mixscape(a, control="KO"), NT="KO"),
        ("control='KO'", "global class", "Rename"),
    ),
    BadCall(
        "control is a target's class",
        relabelled(lambda a: mixscape(a, control="A NP"), NT="A NP"),
        ("control='A NP'", "target's cells", "Rename"),
    ),
    BadCall("names that share a key", lambda a: mixscape(a, split_by="lane"), ("split_by", "'x/1'", "'x|1'", "Rename")),
    BadCall("unknown keyword", lambda a: mixscape(a, n_init=3), ("n_init",), TypeError),
    *(
        BadCall(
            f"{kind} of {call.__name__}", lambda a, call=call, layer=layer: call(a, layer=layer), (f"layer={layer!r}",)
        )
        for call in (mixscape, mixscale, lda)
        for kind, layer in {"empty layer": "", "layer 0": 0, "list as layer": ["X_pert"]}.items()
    ),
    *(
        BadCall(f"base {base!r}", with_log_base(call, base), ("uns['log1p']['base']", repr(base), "above 1"))
        for call in (mixscape, mixscale, lda)
        for base in ("e", 0, 1.0, -2, [2.0, 3.0])
    ),
    BadCall("array as control", lambda a: mixscape(a, control=np.array(["NT", "A"])), ("control=array", "obs[")),
    BadCall("seed too large", lambda a: mixscape(a, random_state=2**32), ("random_state=4294967296", "at most")),
    BadCall(
        "classes over splits",
        lambda a: mixscape(a, split_by="replicate", new_class_name="replicate"),
        ("new_class_name='replicate'", "overwrite the splits"),
    ),
    BadCall(
        "scores over splits",
        lambda a: mixscale(a, split_by="replicate", new_class_name="replicate"),
        ("new_class_name='replicate'", "overwrite the splits"),
    ),
    BadCall(
        "scores over guides",
        lambda a: mixscale(a, fine_mode=True, fine_mode_labels="lane", new_class_name="lane"),
        ("new_class_name='lane'", "overwrite the guides"),
    ),
    BadCall("scores without a signature", without_signature(mixscale), ("Mixscale.mixscale", "X_pert")),
    BadCall("no genes kept", lambda a: mixscale(a, max_de_genes=0), ("max_de_genes=0", "at least 1")),
    BadCall("no such guides", lambda a: mixscale(a, fine_mode=True), ("fine_mode_labels='guide_id'", "adata.obs")),
    BadCall("genes are not a dict", lambda a: mixscale(a, de_genes_by_target=["gene1"]), ("list", "Pass a dict")),
    BadCall("genes are a text", lambda a: mixscale(a, de_genes_by_target={"A": "gene1"}), ("['A']", "'gene1'", "list")),
    BadCall("nothing to match", lambda a: mixscale(a, harmonize=True), ("harmonize=True", "split_by")),
    BadCall(
        "bad share",
        lambda a: mixscale(a, harmonize=True, split_by="replicate", harmonize_min_proportion=2),
        ("harmonize_min_proportion=2", "[0, 1]"),
    ),
    BadCall(
        "scores over labels", lambda a: mixscale(a, new_class_name="perturbation"), ("new_class_name", "overwrite")
    ),
    BadCall(
        "bad option of the other class",
        lambda a: ptg.Mixscape().mixscale(a, "perturbation", "NTX"),
        ("Mixscape.mixscale", "control='NTX'"),
    ),
    BadCall(
        "lda before mixscape",
        lambda a: lda(a, mixscape_class_global="effect_global"),
        ("Mixscape.lda", "mixscape_class_global='effect_global'", "Run mixscape first"),
    ),
    BadCall(
        "lda of another type", lambda a: lda(a, perturbation_type="OE"), ("perturbation_type='OE'", "no perturbed")
    ),
    BadCall("lda without perturbed cells", without_perturbed_cells, ("no perturbed cell", "nothing to separate")),
    BadCall("lda without markers", lambda a: lda(a, logfc_threshold=99), ("no target has min_de_genes=5", "Lower")),
    BadCall("lda without components", lambda a: lda(a, n_comps=0), ("n_comps=0", "at least 1")),
    BadCall("lda in a missing layer", lambda a: lda(a, layer="nope"), ("layer='nope'", "adata.layers")),
    BadCall(
        "no GPU", lambda a: ptg.Mixscape(device="cuda").mixscape(a, "perturbation", "NT"), ("device='cuda'", "'cpu'")
    ),
    BadCall(
        "no such device", lambda a: ptg.Mixscale(device="gpu").mixscale(a, "perturbation", "NT"), ("device='gpu'",)
    ),
]


@pytest.mark.parametrize("bad", BAD_CALLS, ids=lambda bad: bad.name)
def test_bad_calls_say_what_is_wrong(bad: BadCall, prepared: ad.AnnData) -> None:
    bad.check(prepared)


LONG_CALLS = [
    ("mixscape", mixscape, projection, "classify"),
    ("mixscape in splits", lambda a: mixscape(a, split_by="replicate"), projection, "classify"),
    ("mixscale", mixscale, projection, "score"),
    ("lda axes", lda, discriminant_axes, "_column_moments"),
    ("lda discriminants", lda, discriminant_axes, "_rows"),
]


@pytest.mark.parametrize("calls", [0, 1])
@pytest.mark.parametrize(
    ("call", "module", "name"), [row[1:] for row in LONG_CALLS], ids=[row[0] for row in LONG_CALLS]
)
def test_ctrl_c_changes_nothing(
    call: Any, module: Any, name: str, calls: int, prepared: ad.AnnData, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, name, interrupt_after(getattr(module, name), calls))
    before = snapshot(prepared)
    with pytest.raises(KeyboardInterrupt):
        call(prepared)
    assert_unchanged(prepared, before)


@pytest.mark.parametrize("call", [mixscape, mixscale, lda])
def test_a_failure_while_results_are_put_together_changes_nothing(
    call: Any, prepared: ad.AnnData, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Results are written together or not at all."""
    monkeypatch.setattr("ptg.mixscape.classify.target_table", interrupt_after(lambda rows: None, 0))
    monkeypatch.setattr("ptg.mixscape.score.target_table", interrupt_after(lambda rows: None, 0))
    monkeypatch.setattr("ptg.mixscape.lda.target_table", interrupt_after(lambda rows: None, 0))
    before = snapshot(prepared)
    with pytest.raises(KeyboardInterrupt):
        call(prepared)
    assert_unchanged(prepared, before)


@pytest.mark.parametrize("call", [ptg.Mixscape().perturbation_signature, mixscape, mixscale, lda])
def test_a_backed_file_is_analysed_and_not_copied(call: Any, prepared: ad.AnnData, tmp_path: Path) -> None:
    prepared.write_h5ad(tmp_path / "screen.h5ad")
    backed = ad.read_h5ad(tmp_path / "screen.h5ad", backed="r")
    with pytest.raises(InputError, match=r"copy=True .* backed by a file.*to_memory"):
        call(backed, "perturbation", "NT", copy=True)
    assert call(backed, "perturbation", "NT") is None
    backed.file.close()
