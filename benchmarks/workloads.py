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
from numpy.typing import NDArray

from benchmarks import device

#: Entries of a dense block of counts, to bound memory.
_DRAWS_AT_ONCE = 1 << 27
#: The control and seven targets, from 48 to 2,386 cells, with strong effects and with none.
PAPALEXI_GROUPS = ("NT", "IFNGR2", "STAT1", "IRF1", "CAV1", "ATF2", "MYC", "SPI1")


class MissingDataError(Exception):
    """The data of a row is not on this machine; the message says where it was looked for."""


def embedded_groups(n_cells: int, n_groups: int, n_dims: int = 50, *, n_control: int = 0, seed: int = 0) -> ad.AnnData:
    """Cells in a space like that of a PCA: ``obsm["X_pca"]`` float32, ``obs["group"]``.

    Group sizes are log-normal (sigma 0.6, at least two cells), the spread of dimension i falls as ``(1 + i) ** -0.7``
    from 10, and group means lie 0.3 standard deviations apart. `n_control` cells, drawn from all, join group ``"g0"``,
    as in the pool of non-targeting controls of a screen.
    """
    rng = np.random.default_rng(seed)
    share = rng.lognormal(sigma=0.6, size=n_groups)
    group = rng.choice(n_groups, size=n_cells, p=share / share.sum())
    group[: 2 * n_groups] = np.arange(2 * n_groups) % n_groups
    if n_control:  # not among the first cells, which keep every group alive
        group[2 * n_groups + rng.choice(n_cells - 2 * n_groups, size=n_control, replace=False)] = 0
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


def screen(n_cells: int, n_genes: int, n_targets: int, *, log_rate: float = -1.8, seed: int = 0) -> ad.AnnData:
    """Simulate a pooled screen: log-normalised CSR, ``obs["perturbation"]`` (5 % control NT), ``obs["replicate"]``.

    Counts are Poisson. Rates of genes are log-normal (mean of the logarithm `log_rate`, standard deviation 1.2): a
    fifth of the entries are not zero by default, a twentieth with -3.5. Every target changes 60 genes, by a factor of
    ``exp(Normal(0, 1))``, and 40 % of its cells escape; ``obs["simulated_class"]`` says which ("KO", "NP" or "NT").
    ``obsm["X_pca"]`` is noise of 50 dimensions, so that neighbours are as hard to find as they can be. Counts are drawn
    on a GPU where there is one: the data depend on the seed and on that.
    """
    rng = np.random.default_rng(seed)
    target = np.where(rng.random(n_cells) < 0.05, -1, rng.integers(n_targets, size=n_cells))
    acts = (target >= 0) & (rng.random(n_cells) >= 0.4)
    rate = rng.lognormal(log_rate, 1.2, size=n_genes).astype(np.float32)
    change = np.zeros((n_targets + 1, n_genes), dtype=np.float32)
    for row in change[:n_targets]:
        row[rng.choice(n_genes, size=min(60, n_genes), replace=False)] = rng.normal(size=min(60, n_genes))
    obs = pd.DataFrame(
        {
            "perturbation": pd.Categorical.from_codes(target + 1, ["NT", *(f"t{n}" for n in range(n_targets))]),
            "replicate": pd.Categorical.from_codes(rng.integers(3, size=n_cells), ["r1", "r2", "r3"]),
            "simulated_class": pd.Categorical(np.select([target < 0, acts], ["NT", "KO"], "NP")),
        },
        index=_cell_names(n_cells),
    )
    embedding = rng.standard_normal((n_cells, 50), dtype=np.float32)
    expression = _expression(np.where(acts, target, n_targets), rate, np.exp(change), seed)
    var = pd.DataFrame(index=[f"gene{number}" for number in range(n_genes)])
    return ad.AnnData(expression, obs=obs, var=var, obsm={"X_pca": embedding}, uns={"log1p": {}})


def _expression(
    state: NDArray[np.int64], rate: NDArray[np.float32], factor: NDArray[np.float32], seed: int
) -> sp.csr_matrix:
    """Draw counts of cells in some states, ``rate * factor[state]``, and normalise them to 2,000 per cell."""
    if device.found():
        import cupy as arrays
        from cupyx.scipy.sparse import csr_matrix
    else:
        arrays, csr_matrix = np, sp.csr_matrix
    random = arrays.random.RandomState(seed)
    rate, factor = arrays.asarray(rate), arrays.asarray(factor)
    n_rows = max(1, _DRAWS_AT_ONCE // len(rate))
    blocks = []
    for start in range(0, len(state), n_rows):
        counts = random.poisson(rate * factor[arrays.asarray(state[start : start + n_rows])])
        values = counts.astype(arrays.float32)
        values *= 2000.0 / arrays.maximum(values.sum(axis=1, keepdims=True), 1.0)
        sparse = csr_matrix(arrays.log1p(values))
        sparse.sort_indices()  # CuPy's are in no order; whoever sorts them would change what the next call takes
        blocks.append(sparse.get() if arrays is not np else sparse)
    return sp.vstack(blocks, format="csr")


def papalexi_expression() -> ad.AnnData:
    """Papalexi et al. 2021 (ECCITE-seq): 20,729 cells, log-normalised CSR float32, ``obsm["X_pca"]`` float32."""
    screen = ad.read_h5ad(reference_file("golden/expression.h5ad"))
    obs = pd.DataFrame({name: pd.Categorical(screen.obs[name].astype(str)) for name in ("perturbation", "replicate")})
    obs.index, var = _plain_names(screen.obs_names), pd.DataFrame(index=_plain_names(screen.var_names))
    embedding = {"X_pca": np.asarray(screen.obsm["X_pca"])}
    return ad.AnnData(sp.csr_matrix(screen.X), obs=obs, var=var, obsm=embedding, uns={"log1p": {}})


def papalexi_groups() -> ad.AnnData:
    """Return the cells of `PAPALEXI_GROUPS` among these: 7,257."""
    screen = papalexi_expression()
    return screen[screen.obs["perturbation"].isin(PAPALEXI_GROUPS)].copy()


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
