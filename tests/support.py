"""What several test files share: small data, a bit-exact snapshot of an AnnData, tables of bad calls."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

import ptg
from ptg.data import InputError
from ptg.distance.metrics import available
from ptg.execute import Run, to_host
from ptg.execute.device import why_no_gpu
from ptg.kernels.contract import Backend, Resources
from ptg.mixscape.columns import blocks_of
from ptg.mixscape.inputs import Inputs
from ptg.mixscape.signature_source import read_signature


def small_screen(seed: int = 0, *, sparse: bool = True) -> ad.AnnData:
    """240 cells x 60 genes, log-normalised: control NT, targets A and B with an effect, C without, two replicates.

    Cells 0 and 1 have no perturbation label, and category "empty" has no cell. ``layers["counts"]`` holds raw counts,
    ``layers["overdispersed"]`` counts with far more variance, ``obsm["X_pca"]`` ten dimensions.
    """
    return _make_small_screen(seed, sparse=sparse).copy()


@cache
def _make_small_screen(seed: int, *, sparse: bool) -> ad.AnnData:
    rng = np.random.default_rng(seed)
    labels = np.repeat(["NT", "A", "B", "C"], [90, 60, 50, 40])
    rng.shuffle(labels)
    rate = np.tile(rng.lognormal(0.5, 0.5, 60), (240, 1))
    rate[labels == "A", :12] *= 4.0
    rate[labels == "B", 12:22] *= 0.15
    counts = rng.poisson(rate).astype(np.float32)
    x = np.log1p(counts / counts.sum(1, keepdims=True) * 100.0).astype(np.float32)
    perturbation = pd.Categorical(labels, categories=["A", "B", "C", "NT", "empty"])
    perturbation = perturbation.set_categories(perturbation.categories)
    obs = pd.DataFrame(
        {
            "perturbation": pd.Series(perturbation, index=[f"cell{i}" for i in range(240)]),
            "replicate": pd.Categorical(rng.choice(["r1", "r2"], 240)),
        }
    )
    obs.iloc[[0, 1], 0] = np.nan
    centred = x - x.mean(0)
    left, singular, _ = np.linalg.svd(centred.astype(np.float64), full_matrices=False)
    overdispersed = rng.poisson(rate * 10.0 * rng.gamma(0.3, 1.0, rate.shape)).astype(np.float32)
    return ad.AnnData(
        sp.csr_matrix(x) if sparse else x,
        obs=obs,
        var=pd.DataFrame(index=[f"gene{i}" for i in range(60)]),
        obsm={"X_pca": (left * singular)[:, :10].astype(np.float32)},
        layers={"counts": sp.csr_matrix(counts), "overdispersed": sp.csr_matrix(overdispersed)},
    )


def signature_columns(
    adata: ad.AnnData, rows: Any, genes: Any, layer: str | None = None, *, run: Run
) -> np.ndarray[Any, Any]:
    """Read some genes of some cells of the signature, (n_rows, n_genes)."""
    source = read_signature(Inputs(adata, run), layer)
    found = source.read(blocks_of([np.asarray(rows)], [np.asarray(genes)]))
    assert found.dtype == np.float64
    return to_host(found).reshape(len(genes), len(rows)).T


def snapshot(adata: ad.AnnData) -> dict[str, Any]:
    """Copy everything that a call could change."""
    copy = adata.copy()
    slots = {name: dict(getattr(copy, name)) for name in ("layers", "obsm", "obsp", "varm", "varp", "uns")}
    return {"X": copy.X, "obs": copy.obs, "var": copy.var, **slots}


def assert_unchanged(adata: ad.AnnData, before: dict[str, Any]) -> None:
    """Compare with a snapshot, bit for bit."""
    _assert_same(snapshot(adata), before, "adata")


def _assert_same(found: Any, expected: Any, where: str) -> None:
    assert type(found) is type(expected), f"{where}: {type(found)} instead of {type(expected)}"
    if isinstance(expected, dict):
        assert list(found) == list(expected), f"{where}: keys {list(found)} instead of {list(expected)}"
        for key in expected:
            _assert_same(found[key], expected[key], f"{where}[{key!r}]")
    elif isinstance(expected, pd.DataFrame):
        pd.testing.assert_frame_equal(found, expected, check_exact=True, obj=where)
    elif isinstance(expected, pd.Series):
        pd.testing.assert_series_equal(found, expected, check_exact=True, obj=where)
    elif sp.issparse(expected):
        assert found.shape == expected.shape, where
        for part in ("data", "indices", "indptr"):
            _assert_same(getattr(found, part), getattr(expected, part), f"{where}.{part}")
    elif isinstance(expected, np.ndarray):
        assert found.dtype == expected.dtype, where
        assert np.array_equal(found, expected, equal_nan=found.dtype.kind == "f"), where
    else:
        assert found == expected, where


@dataclass(frozen=True)
class BadCall:
    """A call that must fail with an error whose text contains all `words`, and change nothing."""

    name: str
    call: Callable[[ad.AnnData], object]
    words: tuple[str, ...]
    error: type[Exception] = InputError

    def check(self, adata: ad.AnnData) -> None:
        """Make the call; compare error type, text and AnnData."""
        before = snapshot(adata)
        with pytest.raises(self.error) as caught:
            self.call(adata)
        missing = [word for word in self.words if word not in str(caught.value)]
        assert not missing, f"{missing} not in: {caught.value}"
        assert_unchanged(adata, before)


def interrupt_after(function: Callable[..., Any], calls: int) -> Callable[..., Any]:
    """Wrap a function so that call number `calls` (from 0) raises KeyboardInterrupt, as Ctrl-C there would."""
    made = iter(range(1 << 30))

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        if next(made) >= calls:
            raise KeyboardInterrupt
        return function(*args, **kwargs)

    return wrapped


def n_gpus() -> int:
    """Return the number of GPUs that CuPy finds."""
    if why_no_gpu():
        return 0
    import cupy

    return int(cupy.cuda.runtime.getDeviceCount())


#: For parametrising over backends; the CUDA half is skipped where there is no GPU.
BACKENDS = [
    "cpu",
    pytest.param(
        "cuda", marks=[pytest.mark.gpu, pytest.mark.skipif(bool(why_no_gpu()), reason=why_no_gpu() or "a GPU is there")]
    ),
]


def kernels(name: str, **resources: Any) -> tuple[Backend, Resources]:
    """Return a backend and resources for it: one GPU for CUDA unless `devices` says otherwise."""
    devices = resources.pop("devices", (0,) if name == "cuda" else ())
    return Backend(name), Resources(devices=devices, **resources)


def _with_stored_zeros(dense: np.ndarray) -> sp.csr_matrix:
    """CSR that stores every second of the zeros, too."""
    stored = np.nonzero((dense != 0) | (np.arange(dense.size).reshape(dense.shape) % 2 == 0))
    return sp.csr_matrix((dense[stored], stored), shape=dense.shape)


def _with_wide_indices(dense: np.ndarray) -> sp.csr_matrix:
    sparse = sp.csr_matrix(dense)
    sparse.indptr, sparse.indices = sparse.indptr.astype(np.int64), sparse.indices.astype(np.int64)
    return sparse


#: Layouts of matrices, for parametrising; `in_layout` makes them.
LAYOUTS: dict[str, Callable[[np.ndarray], Any]] = {
    "dense": np.array,
    "csr": sp.csr_matrix,
    "csr with stored zeros": _with_stored_zeros,
    "csr int64": _with_wide_indices,
}


def in_layout(values: np.ndarray, layout: str, dtype: Any = None) -> Any:
    """Copy a dense matrix into one of the `LAYOUTS`."""
    return LAYOUTS[layout](np.ascontiguousarray(values, dtype=dtype))


#: Metrics that are defined for two groups alone.
PAIR_METRICS = [name for name, record in available().items() if record.pairwise]


#: Layers for metrics that an embedding does not suit: raw counts, and values whose mean has a logarithm.
_LAYERS = {"nb_ll": "overdispersed", "mean_var_distribution": "X"}


def distance_of(metric: str, **arguments: Any) -> ptg.Distance:
    """Distance on the default embedding, or on a layer where that does not suit the metric."""
    return ptg.Distance(metric, layer_key=_LAYERS.get(metric), **arguments)


def cells_for(metric: str, adata: ad.AnnData, rows: np.ndarray) -> Any:
    """Some of the cells that `distance_of` compares."""
    layer = _LAYERS.get(metric)
    if layer is None:
        return adata.obsm["X_pca"][rows]
    return (adata.X if layer == "X" else adata.layers[layer])[rows]
