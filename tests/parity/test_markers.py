"""Differential expression of Papalexi et al. (2021) against scanpy's rank_genes_groups, all 25 targets."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest

from ptg.execute import open_run
from ptg.mixscape.markers import RankedGenes, find_markers, rank_genes


@pytest.fixture(scope="module")
def expected(reference: Path) -> dict[str, pd.DataFrame]:
    table = pd.read_csv(reference / "golden" / "mixscape" / "de_wilcoxon.csv.gz", float_precision="round_trip")
    return {target: rows.sort_values("rank") for target, rows in table.groupby("target")}


@pytest.fixture(scope="module")
def expression(papalexi: Callable[[], ad.AnnData]) -> ad.AnnData:
    return papalexi()


@pytest.fixture(scope="module", params=["csr", "dense"])
def ranked(request: pytest.FixtureRequest, expression: ad.AnnData, expected: dict[str, pd.DataFrame]) -> RankedGenes:
    matrix = expression.X.astype(np.float64)
    labels = expression.obs["perturbation"].cat
    codes, names = labels.codes.to_numpy().astype(np.int64), labels.categories
    with open_run("test") as run:
        return rank_genes(
            matrix.toarray() if request.param == "dense" else matrix,
            codes,
            names.get_loc("NT"),
            names.get_indexer(list(expected)),
            method="wilcoxon",
            run=run,
        )


def test_order(ranked: RankedGenes, expression: ad.AnnData, expected: dict[str, pd.DataFrame]) -> None:
    """The same genes at each rank. Genes with equal p-values and scores may swap: NumPy's sort decides, not scanpy."""
    for record, table in zip(ranked, expected.values(), strict=True):
        position = expression.var_names.get_indexer(table["names"])
        ours = pd.Series(np.arange(len(position)), index=record.order)[position].to_numpy()
        moved = ours != np.arange(len(position))
        np.testing.assert_array_equal(record.scores[ours[moved]], record.scores[moved])
        assert sorted(record.order) == list(range(expression.n_vars))


def test_values(ranked: RankedGenes, expected: dict[str, pd.DataFrame]) -> None:
    """scanpy keeps scores and fold changes in float32."""
    for record, table in zip(ranked, expected.values(), strict=True):
        np.testing.assert_allclose(record.scores, table["scores"], rtol=1e-6, atol=1e-7)
        np.testing.assert_allclose(record.pvals, table["pvals"], rtol=1e-10, atol=1e-300)
        np.testing.assert_allclose(record.pvals_adj, table["pvals_adj"], rtol=1e-10, atol=1e-300)


def test_fold_changes(ranked: RankedGenes, expression: ad.AnnData, expected: dict[str, pd.DataFrame]) -> None:
    for changes, table in zip(ranked.logfoldchanges, expected.values(), strict=True):
        by_gene = changes[expression.var_names.get_indexer(table["names"])]
        np.testing.assert_allclose(by_gene, table["logfoldchanges"], rtol=1e-6, atol=1e-7)


def test_markers(ranked: RankedGenes, expression: ad.AnnData, expected: dict[str, pd.DataFrame]) -> None:
    found = find_markers(ranked, logfc_threshold=0.25, pval_cutoff=0.05, min_de_genes=5)
    n_markers = {}
    for genes, (target, table) in zip(found, expected.items(), strict=True):
        names = table.loc[table["marker_mixscape"], "names"].tolist()
        assert set(expression.var_names[genes]) == set(names), target
        n_markers[target] = len(names)
    assert len(n_markers) == 25
    assert sum(n > 0 for n in n_markers.values()) == 7
