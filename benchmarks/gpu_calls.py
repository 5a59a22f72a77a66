"""The calls that are timed on a GPU. ptg and the peer have the same API, so each call is written once for both."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
from benchmarks.calls import CONTROL, LABELS, REPLICATE, fit_answer, mean_cell_distance
from benchmarks.record import Answer, Side

#: Returns a module with `Distance`, `GuideAssignment`, `Mixscape` and `Mixscale`; called at the first timed call.
Library = Callable[[], Any]
GROUPS, POOL = "group", "g0"


def ptg() -> Any:
    """Return ptg."""
    import ptg as library

    return library


def peer() -> Any:
    """Return ``rapids_singlecell.ptg``."""
    from benchmarks import rapids

    return rapids.load()


def pairwise(library: Library, metric: str = "edistance", **options: Any) -> Side:
    """Distances between all groups, of `X_pca`."""

    def call(data: ad.AnnData) -> Any:
        return library().Distance(metric, obsm_key="X_pca").pairwise(data, GROUPS, **options)

    def answer(data: ad.AnnData, results: Mapping[str, Any]) -> Answer:
        names = _groups(data)
        tables = [table.loc[names, names].to_numpy(dtype=np.float64) for table in _tables(results["pairwise"])]
        return _distances(data, tables, options) | {"itself": np.eye(len(names), dtype=bool)}

    return Side({"pairwise": call}, answer)


def onesided(library: Library, metric: str = "edistance", **options: Any) -> Side:
    """Distances of all groups to the pool of controls, of `X_pca`."""

    def call(data: ad.AnnData) -> Any:
        return library().Distance(metric, obsm_key="X_pca").onesided_distances(data, GROUPS, POOL, **options)

    def answer(data: ad.AnnData, results: Mapping[str, Any]) -> Answer:
        names = [name for name in _groups(data) if name != POOL]
        columns = [column.loc[names].to_numpy(dtype=np.float64) for column in _tables(results["one-sided"])]
        return _distances(data, columns, options) | {"itself": np.zeros(len(names), dtype=bool)}

    return Side({"one-sided": call}, answer)


def _groups(data: ad.AnnData) -> list[str]:
    return sorted(data.obs[GROUPS].astype(str).unique())


def _tables(result: Any) -> tuple[pd.DataFrame | pd.Series, ...]:
    return result if isinstance(result, tuple) else (result,)


def _distances(data: ad.AnnData, tables: list[np.ndarray], options: Mapping[str, Any]) -> Answer:
    answer: Answer = {"distance": tables[0], "scale": mean_cell_distance(data)}
    if len(tables) > 1:
        answer |= {"variance": tables[1], "n_draws": np.array([options["n_bootstrap"]])}
    return answer


def all_pairs(data: ad.AnnData) -> float:
    """Return the number of distances between cells that all pairs of groups take, each counted once."""
    return data.n_obs * (data.n_obs - 1) / 2


def pairs_with_pool(data: ad.AnnData) -> float:
    """Return the number of distances between cells that one-sided energy distances take."""
    sizes = data.obs[GROUPS].value_counts()
    within = float((sizes.astype(np.float64) * (sizes - 1) / 2).sum())
    return float(sizes[POOL]) * float(data.n_obs - sizes[POOL]) + within


def mixture(library: Library) -> Side:
    """Guide mixture with defaults."""

    def assign(data: ad.AnnData) -> None:
        library().GuideAssignment().assign_mixture_model(data)

    return Side({"assign": assign}, fit_answer)


def mixture_and_max_guide(library: Library) -> Side:
    """Guide mixture, and the assignment to the largest count."""

    def fit(data: ad.AnnData) -> None:
        library().GuideAssignment().assign_mixture_model(data)

    def largest(data: ad.AnnData) -> None:
        library().GuideAssignment().assign_to_max_guide(data, assignment_threshold=5, obs_key="max_guide")

    return Side({"mixture": fit, "max guide": largest}, _nothing)


def signature_and_mixscape(library: Library, **options: Any) -> Side:
    """Signature with exact neighbours within replicates, then mixscape."""

    def mixscape(data: ad.AnnData) -> None:
        library().Mixscape().mixscape(data, LABELS, CONTROL)

    def answer(data: ad.AnnData, _: Mapping[str, object]) -> Answer:
        return _perturbed(data) | {"class": data.obs["mixscape_class"].astype(str).to_numpy(dtype=np.str_)}

    return Side({"signature (nn)": _signature(library, **options), "mixscape": mixscape}, answer)


def mixscale(library: Library) -> Side:
    """Scores, from a signature that is there already."""

    def score(data: ad.AnnData) -> None:
        library().Mixscale().mixscale(data, LABELS, CONTROL)

    def answer(data: ad.AnnData, _: Mapping[str, object]) -> Answer:
        return _perturbed(data) | {"score": data.obs["mixscale_score"].to_numpy(dtype=np.float64)}

    return Side({"mixscale": score}, answer, prepare=_signature(library))


def lda(library: Library) -> Side:
    """Discriminants, from the classes that the cells were simulated with: the same ones for both sides."""

    def discriminants(data: ad.AnnData) -> None:
        library().Mixscape().lda(data, LABELS, CONTROL)

    def classes(data: ad.AnnData) -> None:
        data.obs["mixscape_class_global"] = data.obs["simulated_class"].astype(str).to_numpy(dtype=object)

    def answer(data: ad.AnnData, _: Mapping[str, object]) -> Answer:
        return {"lda": np.asarray(data.uns["mixscape_lda"], dtype=np.float64)}

    return Side({"lda": discriminants}, answer, prepare=classes)


def _signature(library: Library, **options: Any) -> Callable[[ad.AnnData], None]:
    def signature(data: ad.AnnData) -> None:
        library().Mixscape().perturbation_signature(
            data, LABELS, CONTROL, split_by=REPLICATE, use_rep="X_pca", **options
        )

    return signature


def _perturbed(data: ad.AnnData) -> Answer:
    return {"perturbed": (data.obs[LABELS].astype(str) != CONTROL).to_numpy()}


def _nothing(_: ad.AnnData, __: Mapping[str, object]) -> Answer:
    return {}
