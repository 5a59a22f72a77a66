"""Several GPUs: the bits of one, whichever are chosen, and the caller's device and stream stay as they were."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from tests.support import n_gpus, snapshot

import ptg

N_CELLS = 1500


pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(n_gpus() < 2, reason=f"needs two GPUs, finds {n_gpus()}"),
]


@cache
def screen() -> ad.AnnData:
    """1,500 cells x 120 genes of unequal groups, float32 CSR; ``layers["double"]`` is float64, X_pca is dense."""
    rng = np.random.default_rng(0)
    names = ["NT", *(f"t{i}" for i in range(12))]
    code = rng.choice(13, N_CELLS, p=np.r_[0.28, np.arange(1, 13) * 0.72 / 78])
    effect = np.ones((13, 120))
    for row in effect[1:]:
        row[rng.choice(120, 15, replace=False)] = rng.choice([0.2, 4.0], 15)
    counts = rng.poisson(rng.lognormal(0.0, 0.7, 120) * effect[code])
    values = np.log1p(counts / counts.sum(1, keepdims=True) * 200.0)
    obs = pd.DataFrame(
        {
            "perturbation": pd.Categorical.from_codes(code, names),
            "replicate": pd.Categorical(rng.choice(["r1", "r2"], N_CELLS)),
        },
        index=[f"cell{i}" for i in range(N_CELLS)],
    )
    return ad.AnnData(
        sp.csr_matrix(values.astype(np.float32)),
        obs=obs,
        layers={"double": sp.csr_matrix(values)},
        obsm={"X_pca": rng.standard_normal((N_CELLS, 20)).astype(np.float32), "X_64": values[:, :30].copy()},
    )


@cache
def guides() -> ad.AnnData:
    """3,000 cells x 40 guides."""
    rng = np.random.default_rng(1)
    counts = rng.poisson(0.3, (3000, 40))
    counts[np.arange(3000), rng.integers(0, 40, 3000)] += np.round(2 ** rng.normal(5.0, 1.0, 3000)).astype(int)
    return ad.AnnData(sp.csr_matrix(counts.astype(np.float32)))


#: Makes a call with ``multi_gpu=`` and returns what it computed.
Distances = Callable[[Any], Any]
#: Makes calls with ``device=`` and returns everything that they wrote.
Tools = Callable[[str], Any]


def distances() -> Iterator[tuple[str, Distances]]:
    sources = {"float32": {"obsm_key": "X_pca"}, "float64": {"obsm_key": "X_64"}}
    sources |= {"csr": {"layer_key": "X"}, "csr float64": {"layer_key": "double"}}
    resampled = {"bootstrap": True, "n_bootstrap": 40}
    for source, key in sources.items():
        for kind, options in {"": {}, ", bootstrap": resampled}.items():

            def pairwise(gpus: Any, key: Any = key, options: Any = options) -> Any:
                distance = ptg.Distance("edistance", device="cuda", **key)
                return distance.pairwise(screen(), "perturbation", multi_gpu=gpus, **options)

            def onesided(gpus: Any, key: Any = key, options: Any = options) -> Any:
                distance = ptg.Distance("edistance", device="cuda", **key)
                return distance.onesided_distances(screen(), "perturbation", "NT", multi_gpu=gpus, **options)

            yield f"pairwise {source}{kind}", pairwise
            yield f"one-sided {source}{kind}", onesided
    for metric in ("euclidean", "mean_pairwise", "mmd", "ks_test", "mahalanobis"):

        def resamples(gpus: Any, metric: str = metric) -> Any:
            distance = ptg.Distance(metric, device="cuda", obsm_key="X_pca")
            groups = ["NT", "t9", "t10", "t11"]  # of more cells than X_pca has columns
            return distance.pairwise(screen(), "perturbation", groups=groups, multi_gpu=gpus, **resampled)

        yield f"pairwise {metric}, bootstrap", resamples


def assign(device: str) -> Any:
    data = guides().copy()
    ptg.GuideAssignment(device=device).assign_mixture_model(data)
    ptg.GuideAssignment(device=device).assign_to_max_guide(data, assignment_threshold=5, obs_key="most")
    ptg.GuideAssignment(device=device).assign_by_threshold(data, assignment_threshold=5, output_layer="above")
    return snapshot(data)


def mixscape(device: str, output: str = "layer") -> Any:
    data = screen().copy()
    tools = ptg.Mixscape(device=device)
    tools.perturbation_signature(data, "perturbation", "NT", split_by="replicate", use_rep="X_pca", output=output)
    tools.mixscape(data, "perturbation", "NT")
    ptg.Mixscale(device=device).mixscale(data, "perturbation", "NT")
    tools.lda(data, "perturbation", "NT")
    return snapshot(data)


TOOLS: dict[str, Tools] = {
    "guides": assign,
    "mixscape": mixscape,
    "mixscape from the graph": lambda device: mixscape(device, output="graph"),
}


def assert_same_bits(found: Any, expected: Any, where: str = "result") -> None:
    assert type(found) is type(expected), where
    if isinstance(expected, dict):
        assert list(found) == list(expected), where
        for key, value in expected.items():
            assert_same_bits(found[key], value, f"{where}[{key!r}]")
    elif isinstance(expected, tuple):
        for number, (left, right) in enumerate(zip(found, expected, strict=True)):
            assert_same_bits(left, right, f"{where}[{number}]")
    elif isinstance(expected, pd.DataFrame):
        pd.testing.assert_frame_equal(found, expected, check_exact=True, obj=where)
    elif isinstance(expected, pd.Series):
        pd.testing.assert_series_equal(found, expected, check_exact=True, obj=where)
    elif sp.issparse(expected):
        for part in ("data", "indices", "indptr"):
            assert getattr(found, part).tobytes() == getattr(expected, part).tobytes(), f"{where}.{part}"
    elif isinstance(expected, np.ndarray) and expected.dtype != object:
        assert found.tobytes() == expected.tobytes(), where
    else:
        assert np.all(found == expected), where


@pytest.mark.parametrize(("name", "call"), distances(), ids=lambda value: value if isinstance(value, str) else "")
def test_distances_do_not_depend_on_the_gpus(name: str, call: Distances) -> None:
    expected = call([0])
    for gpus in ([1], [0, 1], [1, 0], "0,1", True, None, False):
        for _ in range(3):
            assert_same_bits(call(gpus), expected, f"multi_gpu={gpus!r}")


@pytest.mark.parametrize("name", TOOLS)
def test_tools_do_not_depend_on_the_gpus(name: str) -> None:
    expected = TOOLS[name]("cuda:0")
    for device in ("cuda:1", "cuda", "cuda", "cuda"):
        assert_same_bits(TOOLS[name](device), expected, f"device={device!r}")


@pytest.mark.parametrize("current", [0, 1])
def test_device_and_stream_of_the_caller_stay(current: int) -> None:
    """Work on a stream that does not wait for the default one: whatever is not ordered after it shows."""
    import cupy

    pairwise = dict(distances())["pairwise float32"]
    resampled = dict(distances())["pairwise float32, bootstrap"]
    expected = [pairwise([0]), resampled([0]), *(call("cuda:0") for call in TOOLS.values())]
    with cupy.cuda.Device(current):
        stream = cupy.cuda.Stream(non_blocking=True)
        with stream:
            found = [pairwise([0, 1]), resampled([1, 0]), *(call("cuda") for call in TOOLS.values())]
            assert cupy.cuda.runtime.getDevice() == current
            assert cupy.cuda.get_current_stream() == stream
        assert cupy.cuda.runtime.getDevice() == current
    assert_same_bits(tuple(found), tuple(expected))
