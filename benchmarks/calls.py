"""The calls that are timed, ptg's and the peer's. Either library is imported only inside its own calls."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
from benchmarks.record import Answer, Side, Step
from numpy.typing import NDArray

from benchmarks import mixture

PARAMETERS = ["poisson_rate", "gaussian_mean", "gaussian_std", "mix_probs_1"]
LABELS, CONTROL, REPLICATE = "perturbation", "NT", "replicate"
PERMUTATIONS = 1000
#: Metrics whose values are the same for both libraries, all defaults, in either order of two groups.
FURTHER_METRICS = (
    "euclidean",
    "mse",
    "pearson_distance",
    "spearman_distance",
    "kendalltau_distance",
    "cosine_distance",
    "mmd",
    "mean_pairwise",
    "t_test",
    "ks_test",
    "sym_kldiv",
)


def edistance_by_ptg(groupby: str) -> Side:
    """Pairwise energy distances, the biased estimator (pertpy's only one)."""
    return Side({"pairwise": _pairwise_by_ptg("edistance", groupby, estimator="biased")}, _distances)


def edistance_by_pertpy(groupby: str) -> Side:
    """Pairwise energy distances with all cores, as by default."""
    return Side({"pairwise": _pairwise_by_pertpy("edistance", groupby)}, _distances)


def metrics_by_ptg(metrics: Sequence[str], groupby: str) -> Side:
    """Pairwise distances with the defaults of one metric after the other."""
    return Side({metric: _pairwise_by_ptg(metric, groupby) for metric in metrics}, _tables)


def metrics_by_pertpy(metrics: Sequence[str], groupby: str) -> Side:
    """Pairwise distances with the defaults of one metric after the other, and all cores."""
    return Side({metric: _pairwise_by_pertpy(metric, groupby) for metric in metrics}, _tables)


def _pairwise_by_ptg(metric: str, groupby: str, **options: Any) -> Step:
    @cache
    def distance() -> Any:
        import ptg

        return ptg.Distance(metric, obsm_key="X_pca", **options)

    def pairwise(data: ad.AnnData) -> pd.DataFrame:
        return distance().pairwise(data, groupby, groups=_sorted_groups(data, groupby))

    return pairwise


def _pairwise_by_pertpy(metric: str, groupby: str) -> Step:
    # One object for all calls: each new one of pertpy's transport would compile its solver again.
    @cache
    def distance() -> Any:
        import pertpy

        return pertpy.tl.Distance(metric, obsm_key="X_pca")

    def pairwise(data: ad.AnnData) -> pd.DataFrame:
        groups = _sorted_groups(data, groupby)
        return distance().pairwise(data, groupby=groupby, groups=groups, show_progressbar=False)

    return pairwise


def _sorted_groups(data: ad.AnnData, groupby: str) -> list[str]:
    return sorted(data.obs[groupby].astype(str).unique())


def _distances(data: ad.AnnData, results: Mapping[str, Any]) -> Answer:
    return {"distance": results["pairwise"].to_numpy(dtype=np.float64), "scale": mean_cell_distance(data)}


def _tables(_: ad.AnnData, results: Mapping[str, Any]) -> Answer:
    return {metric: table.to_numpy(dtype=np.float64) for metric, table in results.items()}


def distance_test_by_ptg() -> Side:
    """Permutation tests of the energy distance to the control, the biased estimator (pertpy's only one)."""

    def test(data: ad.AnnData) -> pd.DataFrame:
        import ptg

        tool = ptg.DistanceTest("edistance", n_perms=PERMUTATIONS, obsm_key="X_pca", estimator="biased")
        return tool(data, LABELS, CONTROL)

    return Side({"test": test}, _test)


def distance_test_by_pertpy() -> Side:
    """Permutation tests of the energy distance to the control."""

    def test(data: ad.AnnData) -> pd.DataFrame:
        import pertpy

        tool = pertpy.tl.DistanceTest("edistance", n_perms=PERMUTATIONS, obsm_key="X_pca")
        return tool(data, LABELS, CONTROL, show_progressbar=False)

    return Side({"test": test}, _test)


def _test(data: ad.AnnData, results: Mapping[str, Any]) -> Answer:
    tested = [group for group in _sorted_groups(data, LABELS) if group != CONTROL]
    table = results["test"].loc[tested]
    return {
        "distance": table["distance"].to_numpy(dtype=np.float64),
        "scale": mean_cell_distance(data),
        "pvalue": table["pvalue"].to_numpy(dtype=np.float64),
        "significant": table["significant"].to_numpy(dtype=np.bool_),
        "n_permutations": np.array([PERMUTATIONS]),
    }


def mean_cell_distance(data: ad.AnnData) -> NDArray[np.float64]:
    """Mean distance of 2,000 cells to 2,000 others: both sides' errors are of the size of its rounding."""
    points = np.asarray(data.obsm["X_pca"], dtype=np.float64)
    chosen = np.random.default_rng(0).permutation(len(points))[:4000]
    left, right = points[chosen[: len(chosen) // 2]], points[chosen[len(chosen) // 2 :]]
    square = (left**2).sum(1)[:, None] + (right**2).sum(1)[None] - 2.0 * left @ right.T
    return np.atleast_1d(np.sqrt(np.maximum(square, 0.0)).mean())


def mixture_by_ptg() -> Side:
    """Guide mixture with defaults."""

    def assign(data: ad.AnnData) -> None:
        import ptg

        ptg.GuideAssignment().assign_mixture_model(data)

    return Side({"assign": assign}, mixture_answer)


def mixture_by_pertpy() -> Side:
    """Guide mixture with defaults: 500 Adam steps in float32."""

    def assign(data: ad.AnnData) -> None:
        import pertpy

        pertpy.pp.GuideAssignment().assign_mixture_model(data, show_progress=False)

    return Side({"assign": assign}, mixture_answer)


def mixture_answer(data: ad.AnnData, results: Mapping[str, object]) -> Answer:
    labels = data.obs["assigned_guide"].astype(str).to_numpy(dtype=np.str_)
    return fit_answer(data, results) | {"label": labels}


def fit_answer(data: ad.AnnData, _: Mapping[str, object]) -> Answer:
    parameters = data.var[PARAMETERS].to_numpy(dtype=np.float64)
    return {
        "threshold": data.var["threshold"].to_numpy(dtype=np.float64),
        "loss": mixture.losses(data, parameters),
        "comparable": mixture.comparable(parameters),
    }


def mixscape_by_ptg() -> Side:
    """Signature, classes, scores and LDA with defaults (exact neighbours)."""
    return Side(_mixscape_steps(_ptg_tools), _mixscape)


def mixscape_by_pertpy() -> Side:
    """Signature, classes, scores and LDA with defaults (approximate neighbours)."""
    return Side(_mixscape_steps(_pertpy_tools), _mixscape)


def _ptg_tools() -> tuple[Any, Any]:
    import ptg

    return ptg.Mixscape(), ptg.Mixscale()


def _pertpy_tools() -> tuple[Any, Any]:
    import pertpy

    return pertpy.tl.Mixscape(), pertpy.tl.Mixscale()


def _mixscape_steps(tools: Callable[[], tuple[Any, Any]]) -> dict[str, Callable[[ad.AnnData], object]]:
    """Build the same four calls for either library: their names and arguments are the same."""

    def signature(data: ad.AnnData) -> None:
        tools()[0].perturbation_signature(data, LABELS, CONTROL, split_by=REPLICATE, use_rep="X_pca")

    def mixscape(data: ad.AnnData) -> None:
        tools()[0].mixscape(data, LABELS, CONTROL)

    def mixscale(data: ad.AnnData) -> None:
        tools()[1].mixscale(data, LABELS, CONTROL)

    def lda(data: ad.AnnData) -> None:
        tools()[0].lda(data, LABELS, CONTROL)

    return {"signature (nn)": signature, "mixscape": mixscape, "mixscale": mixscale, "lda": lda}


def _mixscape(data: ad.AnnData, _: Mapping[str, object]) -> Answer:
    return {
        "class": data.obs["mixscape_class"].astype(str).to_numpy(dtype=np.str_),
        "perturbed": (data.obs[LABELS].astype(str) != CONTROL).to_numpy(),
        "score": data.obs["mixscale_score"].to_numpy(dtype=np.float64),
        "lda": np.asarray(data.uns["mixscape_lda"], dtype=np.float64),
        # Both libraries embed the perturbed and the control cells, in the order of the data.
        "lda_cells": np.flatnonzero((data.obs["mixscape_class_global"] == "KO") | (data.obs[LABELS] == CONTROL)),
    }
