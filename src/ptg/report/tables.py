"""The tables of an analysis, as they stand in the report and in CSV files."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import scipy.sparse as sp

if TYPE_CHECKING:
    from anndata import AnnData

    from ptg.report.results import DistanceResults


def target_table(screen: AnnData, perturbation: str) -> pd.DataFrame:
    """One row per target: cells, perturbed cells, markers, mixscale scores, why it was not tested."""
    obs = screen.obs
    label = obs[perturbation].astype(str)
    perturbed = (obs["mixscape_class_global"] == "KO").groupby(label).sum()
    known: pd.DataFrame = screen.uns["mixscape_targets"]
    table = pd.DataFrame(index=pd.Index([str(name) for name in known.index], name="target"))
    table["cells"] = label.value_counts().reindex(table.index).fillna(0).astype(int)
    reason = known["reason"].fillna("").astype(str).to_numpy()
    table["tested"] = reason == ""
    table["perturbed"] = perturbed.reindex(table.index).fillna(0).astype(int)
    table["share perturbed"] = np.where(table["tested"], table["perturbed"] / table["cells"].clip(lower=1), np.nan)
    for name, source in {"markers": "n_markers", "iterations": "n_iterations", "converged": "converged"}.items():
        if source in known:
            table[name] = known[source].to_numpy()
    scores = obs["mixscale_score"].where(obs["mixscale_score"] != 0)
    by_target = scores.groupby(label)
    for position, name in {0.5: "median mixscale score", 0.25: "lower quartile", 0.75: "upper quartile"}.items():
        table[name] = by_target.quantile(position).reindex(table.index)
    table["reason"] = reason
    table = table.reset_index()
    return table.sort_values(["share perturbed", "cells"], ascending=False, kind="stable", ignore_index=True)


def guide_table(guides: AnnData, target_key: str) -> pd.DataFrame:
    """One row per guide: target, threshold, cells, fit, why it was not fitted."""
    var, assigned = guides.var, guides.layers["assigned_guides"]
    return pd.DataFrame(
        {
            "guide": var.index.astype(str),
            "target": var[target_key].astype(str).to_numpy(),
            "cells": np.asarray(assigned.sum(axis=0)).ravel().astype(int),
            "threshold": var["threshold"].to_numpy(dtype=float),
            "background mean (log2)": var["poisson_rate"].to_numpy(dtype=float),
            "signal mean (log2)": var["gaussian_mean"].to_numpy(dtype=float),
            "signal s.d. (log2)": var["gaussian_std"].to_numpy(dtype=float),
            "signal weight": var["mix_probs_1"].to_numpy(dtype=float),
            "reason": var["not_fitted_reason"].astype(str).to_numpy() if "not_fitted_reason" in var else "",
        }
    )


def distance_table(distances: DistanceResults) -> pd.DataFrame:
    """One row per target, farthest first."""
    names = {
        "n_cells": "cells",
        "bootstrap_sd": "bootstrap s.d.",
        "lower": "lower end",
        "upper": "upper end",
        "effect": "beyond chance",
        "zscore": "z-score",
        "pvalue": "p",
        "pvalue_adj": "adjusted p",
        "significant_adj": "significant",
    }
    return distances.to_control.rename(columns=names).reset_index()


def cell_table(screen: AnnData, columns: list[str], guides: AnnData | None = None) -> pd.DataFrame:
    """One row per cell: `columns` of obs and what mixscape wrote; with guides also cells that took no part."""
    written = ["mixscape_class", "mixscape_class_global", "mixscape_class_p_ko", "mixscale_score"]
    kept: pd.DataFrame = screen.obs[[*columns, *written]]
    table = kept if guides is None else guides.obs[["assigned_guide"]].join(kept)
    return table.rename_axis("cell").reset_index()


def assignment_table(guides: AnnData) -> pd.DataFrame:
    """One row per cell: how many guides it has, and which."""
    assigned = sp.csr_matrix(guides.layers["assigned_guides"], copy=True)
    assigned.eliminate_zeros()
    names = guides.var_names.to_numpy(dtype=object)
    found = ["+".join(names[part]) for part in np.split(assigned.indices, assigned.indptr[1:-1])]
    return pd.DataFrame({"cell": guides.obs_names, "n_guides": np.diff(assigned.indptr), "guides": found})
