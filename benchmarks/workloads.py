"""The data of the benchmarks: seeded synthetic screens, and real ones found beside the project.

The synthetic data imitates the shape of published screens (unequal group sizes, ambient guide reads), not their
biology: it is for times. Correctness is judged on real data by ``tests/parity``.
"""

from __future__ import annotations

import os
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp


class MissingDataError(Exception):
    """The data of a row is not on this machine; the message says where it was looked for."""


def embedded_groups(n_cells: int, n_groups: int, n_dims: int = 50, *, seed: int = 0) -> ad.AnnData:
    """Cells in a space like that of a PCA: ``obsm["X_pca"]`` float32, ``obs["group"]``.

    Group sizes are log-normal (sigma 0.6, at least two cells), the spread of dimension i falls as ``(1 + i) ** -0.7``
    from 10, and group means lie 0.3 standard deviations apart.
    """
    rng = np.random.default_rng(seed)
    share = rng.lognormal(sigma=0.6, size=n_groups)
    group = rng.choice(n_groups, size=n_cells, p=share / share.sum())
    group[: 2 * n_groups] = np.arange(2 * n_groups) % n_groups
    spread = 10.0 * (1.0 + np.arange(n_dims)) ** -0.7
    mean = rng.normal(scale=0.3, size=(n_groups, n_dims))
    values = ((mean[group] + rng.normal(size=(n_cells, n_dims))) * spread).astype(np.float32)
    names = [f"g{number}" for number in range(n_groups)]
    obs = pd.DataFrame({"group": pd.Categorical.from_codes(group, names)}, index=_cell_names(n_cells))
    return ad.AnnData(obs=obs, obsm={"X_pca": values})


def guide_umis(n_cells: int, n_guides: int, *, seed: int = 0) -> ad.AnnData:
    """Raw guide UMIs, CSR float32.

    Every cell carries one guide; 90 % of the cells show it, with ``round(2 ** Normal(5, 1.2))`` reads, at least one.
    On top come about six ambient reads per cell (Poisson), spread evenly over all guides.
    """
    rng = np.random.default_rng(seed)
    carried = rng.integers(n_guides, size=n_cells)
    seen = np.flatnonzero(rng.random(n_cells) < 0.9)
    reads = np.maximum(np.round(np.exp2(rng.normal(5.0, 1.2, size=seen.size))), 1.0)
    ambient_cell = np.repeat(np.arange(n_cells), rng.poisson(6.0, size=n_cells))
    ambient_guide = rng.integers(n_guides, size=ambient_cell.size)
    counts = sp.coo_matrix(
        (
            np.concatenate([reads, np.ones(ambient_cell.size)]).astype(np.float32),
            (np.concatenate([seen, ambient_cell]), np.concatenate([carried[seen], ambient_guide])),
        ),
        shape=(n_cells, n_guides),
    ).tocsr()  # adds up repeated entries
    var = pd.DataFrame(index=[f"guide{number}" for number in range(n_guides)])
    return ad.AnnData(counts, obs=pd.DataFrame(index=_cell_names(n_cells)), var=var)


def papalexi_expression() -> ad.AnnData:
    """Papalexi et al. 2021 (ECCITE-seq): 20,729 cells, log-normalised CSR float32, ``obsm["X_pca"]`` float32."""
    screen = ad.read_h5ad(reference_file("golden/expression.h5ad"))
    obs = pd.DataFrame({name: pd.Categorical(screen.obs[name].astype(str)) for name in ("perturbation", "replicate")})
    obs.index, var = _plain_names(screen.obs_names), pd.DataFrame(index=_plain_names(screen.var_names))
    embedding = {"X_pca": np.asarray(screen.obsm["X_pca"])}
    return ad.AnnData(sp.csr_matrix(screen.X), obs=obs, var=var, obsm=embedding, uns={"log1p": {}})


def papalexi_guides() -> ad.AnnData:
    """Guide UMIs of the same cells: 110 guides, CSR float32."""
    guides = ad.read_h5ad(reference_file("data/papalexi2021_guides.h5ad"))
    counts = sp.csr_matrix(guides.X, dtype=np.float32)
    obs, var = (pd.DataFrame(index=_plain_names(names)) for names in (guides.obs_names, guides.var_names))
    return ad.AnnData(counts, obs=obs, var=var)


def reference_file(name: str) -> Path:
    """Path of a file under PTG_REFERENCE_DIR (by default the folder ``shared`` beside the project)."""
    root = Path(os.environ.get("PTG_REFERENCE_DIR", Path(__file__).resolve().parents[2] / "shared"))
    path = root / name
    if not path.is_file():
        raise MissingDataError(f"{name} is not under {root}; set PTG_REFERENCE_DIR to the folder that holds it")
    return path


def _plain_names(names: pd.Index) -> pd.Index:
    """Names as Python strings: not every version of anndata writes pandas' string arrays."""
    return pd.Index(names.astype(str).to_numpy(dtype=object), dtype=object)


def _cell_names(n_cells: int) -> list[str]:
    return [f"cell{number}" for number in range(n_cells)]
