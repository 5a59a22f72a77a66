"""Every metric against pertpy's results on the Papalexi cells: what is compared with which file, and how closely."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anndata as ad
import h5py
import numpy as np
import pandas as pd
from anndata.io import read_elem

import ptg
from ptg.distance.metrics import available

CONTROL = "NT"


@dataclass(frozen=True)
class Case:
    """A metric with options, and the file with pertpy's values.

    Attributes
    ----------
    rtol
        Largest relative difference of a value.
    cells
        ``"X_pca"``, or a layer: ``"lognorm"`` or ``"counts"``.
    left_out
        Groups (as X) for which pertpy's value is not the definition's.
    why
        What separates the two, where it is more than rounding.
    """

    metric: str
    file: str
    rtol: float = 1e-10
    cells: str = "X_pca"
    options: dict[str, Any] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()
    why: str = ""

    @property
    def label(self) -> str:
        """The metric as users write it."""
        return ", ".join([self.metric, *(f"{name}={value!r}" for name, value in self.options.items())])

    def distance(self) -> ptg.Distance:
        """Build the metric on its cells."""
        keys = {"obsm_key": "X_pca"} if self.cells == "X_pca" else {"layer_key": self.cells}
        return ptg.Distance(self.metric, **keys, **self.options)

    def expected(self, folder: Path) -> pd.DataFrame:
        """Read pertpy's values, groups x groups; for a one-sided metric groups x the control."""
        table = pd.read_csv(folder / f"{self.file}.csv", index_col=0)
        groups = json.loads((folder / "meta.json").read_text())["groups"]
        if not available()[self.metric].pairwise:
            return table.set_axis([CONTROL], axis=1).loc[groups]
        return table.loc[groups, groups]

    def found(self, cells: ad.AnnData, groups: list[str]) -> pd.DataFrame:
        """Compute the same values."""
        if not available()[self.metric].pairwise:
            return self.distance().onesided_distances(cells, "perturbation", [CONTROL], groups=groups)
        return self.distance().pairwise(cells, "perturbation", groups=groups)

    def difference(self, found: pd.DataFrame, expected: pd.DataFrame) -> np.ndarray:
        """Relative differences of the values that are compared."""
        kept = ~expected.index.isin(self.left_out)
        a, b = found.to_numpy()[kept], expected.to_numpy()[kept]
        compared = expected.index.to_numpy()[kept][:, None] != expected.columns.to_numpy()
        return np.abs(a[compared] / b[compared] - 1.0)


_EPSILON = "pertpy adds 1e-8 inside the logarithms of the likelihood"
_PATH = "the fit ends before its optimum, at a point that depends on the order of sums"
_LIMIT = "pertpy's fit ends after 100 steps, before its optimum"

CASES = [
    Case("classifier_cp", "classifier_cp_X_pca_as_X", 1e-6, why=_PATH),
    Case("classifier_cp", "classifier_cp_lognorm", 1e-2, "lognorm", why=_LIMIT),
    Case("classifier_cp", "classifier_cp_lognorm", 1e-4, "lognorm", {"max_iter": 100}, why=_PATH),
    Case("classifier_proba", "classifier_proba_seed0_ordered", 1e-6, why=_PATH),
    Case("cosine_distance", "cosine_distance"),
    Case("edistance", "edistance", options={"estimator": "biased"}),
    Case("euclidean", "euclidean"),
    Case("kendalltau_distance", "kendalltau_distance"),
    Case("kendalltau_distance", "kendalltau_distance_lognorm", cells="lognorm"),
    Case("ks_test", "ks_test"),
    Case(
        "mahalanobis",
        "mahalanobis_ordered",
        left_out=("SPI1",),
        why="NaN where X has fewer cells than columns (SPI1); pertpy inverts a singular covariance",
    ),
    Case("mean_absolute_error", "mean_absolute_error"),
    Case("mean_pairwise", "mean_pairwise"),
    Case("mean_var_distribution", "mean_var_distribution_lognorm", cells="lognorm"),
    Case("mmd", "mmd"),
    Case("mmd", "mmd_rbf_gamma1", options={"kernel": "rbf"}),
    Case("mmd", "mmd_rbf_gamma0.02", options={"kernel": "rbf", "gamma": 0.02}),
    Case("mmd", "mmd_poly", options={"kernel": "poly"}),
    Case("mse", "mse"),
    Case("nb_ll", "nb_ll_counts_ordered", 1e-7, "counts", why=_EPSILON),
    Case("pearson_distance", "pearson_distance"),
    Case("r2_distance", "r2_distance_ordered"),
    Case("root_mean_squared_error", "root_mean_squared_error"),
    Case("spearman_distance", "spearman_distance"),
    Case("spearman_distance", "spearman_distance_lognorm", cells="lognorm"),
    Case("sym_kldiv", "sym_kldiv"),
    Case("t_test", "t_test"),
    Case(
        "wasserstein",
        "wasserstein_x64_tight",
        1e-6,
        why="both stop before the last digit: OTT at a marginal error of 1e-11, ptg at `tol`, 1e-5",
    ),
]


def read_cells(reference: Path) -> ad.AnnData:
    """Read the Papalexi cells in float64: X_pca, layers lognorm (sparse) and counts (sparse)."""
    # Element by element: the file holds an entry that anndata 0.11 cannot read.
    with h5py.File(reference / "golden" / "expression.h5ad") as file:
        parts = {name: read_elem(file[name]) for name in ("X", "obs", "var", "obsm")}
    with h5py.File(reference / "data" / "papalexi2021.h5ad") as file:
        counts, names = read_elem(file["X"]), read_elem(file["var"]).index
    return ad.AnnData(
        obs=parts["obs"],
        var=parts["var"],
        obsm={"X_pca": parts["obsm"]["X_pca"].astype(np.float64)},
        layers={
            "lognorm": parts["X"].astype(np.float64),
            "counts": counts[:, names.get_indexer(parts["var"].index)].astype(np.float64),
        },
    )
