"""Approximate neighbour searches: who runs them, what they are given, and what happens where they cannot run."""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from tests.support import BACKENDS, small_screen, snapshot

from ptg.data import InputError
from ptg.kernels.contract import Resources
from ptg.mixscape import neighbor_graph, perturbation_signature
from ptg.mixscape.neighbor_graph import find_search
from ptg.mixscape.parameters import check_signature_parameters

ALGORITHMS = {"ivfflat": "ivf_flat", "ivfpq": "ivf_pq", "cagra": "cagra"}


def parameters(name: str, options: Any = None) -> Any:
    defaults = {"ref_selection_mode": "nn", "split_by": None, "n_neighbors": 3, "use_rep": None, "n_dims": 15}
    others = {"n_pcs": None, "batch_size": None, "output": "auto"}
    return check_signature_parameters(**defaults, **others, knn_algorithm=name, knn_kwargs=options)


def run_with(**searches: Any) -> Any:
    """Stand in for a run on a GPU."""
    neighbors = SimpleNamespace(APPROXIMATE=searches)
    return SimpleNamespace(kernels=SimpleNamespace(neighbors=neighbors), resources=Resources())


@pytest.fixture
def with_cuvs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbor_graph, "find_spec", lambda name: ModuleSpec(name, None))


@pytest.mark.parametrize("name", ALGORITHMS)
def test_without_cuvs_the_error_says_what_to_install(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbor_graph, "find_spec", lambda _: None)
    with pytest.raises(InputError, match=rf"knn_algorithm='{name}' needs cuVS.*[Ii]nstall cuvs-cu12 or cuvs-cu13"):
        find_search(parameters(name), run_with(**{name: print}))


@pytest.mark.parametrize("device", BACKENDS[1:])
@pytest.mark.parametrize("name", ALGORITHMS)
def test_on_a_gpu_without_cuvs(device: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbor_graph, "find_spec", lambda _: None)
    adata = small_screen()
    before = snapshot(adata)
    with pytest.raises(InputError, match="not installed. Install cuvs"):
        perturbation_signature(adata, "perturbation", "NT", knn_algorithm=name, device=device)
    assert list(snapshot(adata)) == list(before)
    assert "X_pert" not in adata.layers


def test_options_reach_the_search(with_cuvs: None) -> None:
    calls = []

    def search(reference: Any, query: Any, k: int, *, options: Any, resources: Any) -> Any:
        calls.append((len(reference), len(query), k, options))
        return np.zeros((len(query), k), dtype=np.int64)

    found = find_search(parameters("cagra", {"itopk_size": 64}), run_with(cagra=search))
    assert found(np.zeros((7, 2)), np.zeros((5, 2)), 3).shape == (5, 3)
    assert calls == [(7, 5, 3, {"itopk_size": 64})]


def test_cells_without_enough_neighbours_are_an_error(with_cuvs: None) -> None:
    run = run_with(ivfflat=lambda *_, **__: np.array([[0, 1], [2, -1], [-1, -1]]))
    search = find_search(parameters("ivfflat"), run)
    with pytest.raises(InputError, match=r"fewer than 2 neighbours of 2 cell\(s\).*n_probes"):
        search(np.zeros((3, 2)), np.zeros((3, 2)), 2)


def test_what_cuvs_refuses_is_an_error(with_cuvs: None) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise ValueError("n_lists is larger than the number of rows")

    search = find_search(parameters("ivfflat", {"n_lists": 9}), run_with(ivfflat=refuse))
    with pytest.raises(
        InputError, match=r"does not take 3 controls with knn_kwargs=\{'n_lists': 9\} \(n_lists is larger"
    ):
        search(np.zeros((3, 2)), np.zeros((3, 2)), 2)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("cagra", {"n_probes": 3}, "unknown names 'n_probes'"),
        ("ivfflat", {"n_probes": 0}, r"knn_kwargs\['n_probes'\]=0"),
        ("brute", {"n_probes": 3}, "None are accepted"),
    ],
)
def test_options_are_checked(name: str, options: dict[str, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        parameters(name, options)


class CuvsError(Exception):
    """Stands in for cuVS's own exception."""


def fake_cuvs(
    monkeypatch: pytest.MonkeyPatch, name: str, index: tuple[str, ...], search: tuple[str, ...], refusal: str = ""
) -> list[Any]:
    """Install a package with cuVS's interface; return the parameters that it will have been given.

    It searches exactly and leaves out the last neighbour of the first query, or refuses.
    """
    calls: list[Any] = []

    def parameters_of(names: tuple[str, ...]) -> type:
        def initialise(self: Any, **given: Any) -> None:
            assert set(given) <= {*names, "metric"}
            calls.append(given)

        return type("Parameters", (), {"__init__": initialise, **dict.fromkeys(names)})

    def build(_: Any, points: Any, *, resources: Any) -> Any:
        if refusal:
            raise CuvsError(refusal)
        return points

    def find(_: Any, points: Any, queries: Any, k: int, *, resources: Any) -> tuple[Any, Any]:
        assert points.dtype == queries.dtype == np.float32
        squared = ((queries[:, None] - points[None]) ** 2).sum(axis=2)
        order = squared.argsort(axis=1)[:, :k]
        order[0, -1] = 2**32 - 1
        return None, order

    contents: dict[str, dict[str, Any]] = {
        "cuvs": {},
        "cuvs.common": {"Resources": lambda stream: stream},
        "cuvs.common.exceptions": {"CuvsException": CuvsError},
        "cuvs.neighbors": {},
        f"cuvs.neighbors.{ALGORITHMS[name]}": {
            "IndexParams": parameters_of(index),
            "SearchParams": parameters_of(search),
            "build": build,
            "search": find,
        },
    }
    for path, names in contents.items():
        module = ModuleType(path)
        vars(module).update(names)
        monkeypatch.setitem(sys.modules, path, module)
    return calls


@pytest.mark.parametrize("device", BACKENDS[1:])
@pytest.mark.parametrize(
    ("name", "index", "search", "options", "expected"),
    [
        ("ivfflat", ("n_lists",), ("n_probes",), {"n_probes": 4}, [{"n_lists": 5}, {"n_probes": 4}]),
        ("ivfpq", ("n_lists", "pq_dim"), ("n_probes",), {"n_lists": 2}, [{"n_lists": 2}, {}]),
        ("cagra", ("graph_degree",), ("itopk_size",), {"graph_degree": 8}, [{"graph_degree": 8}, {"itopk_size": 64}]),
    ],
)
def test_what_cuvs_is_given(
    device: str,
    name: str,
    index: tuple[str, ...],
    search: tuple[str, ...],
    options: dict[str, int],
    expected: list[Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from ptg.kernels.cuda.neighbors import APPROXIMATE

    calls = fake_cuvs(monkeypatch, name, index, search)
    rng = np.random.default_rng(0)
    points, queries = rng.normal(size=(25, 3)), rng.normal(size=(9, 3))
    found = APPROXIMATE[name](points, queries, 4, options=options, resources=Resources(devices=(0,)))
    assert calls == [{"metric": "sqeuclidean", **expected[0]}, expected[1]]
    exact = ((queries[:, None] - points) ** 2).sum(axis=2).argsort(axis=1)[:, :4]
    exact[0, -1] = -1
    np.testing.assert_array_equal(found, exact)


@pytest.mark.parametrize("device", BACKENDS[1:])
@pytest.mark.parametrize(
    ("refusal", "error"),
    [("too many lists", ValueError), ("std::bad_alloc: out_of_memory: cudaErrorMemoryAllocation", MemoryError)],
)
def test_cuvss_errors_become_pythons(
    device: str, refusal: str, error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    from ptg.kernels.cuda.neighbors import APPROXIMATE

    fake_cuvs(monkeypatch, "ivfflat", ("n_lists",), ("n_probes",), refusal)
    points = np.zeros((5, 3))
    with pytest.raises(error, match=refusal):
        APPROXIMATE["ivfflat"](points, points, 2, options={}, resources=Resources(devices=(0,)))


@pytest.mark.parametrize("device", BACKENDS[1:])
@pytest.mark.parametrize("name", ALGORITHMS)
def test_the_real_cuvs_finds_most_neighbours(device: str, name: str) -> None:
    pytest.importorskip("cuvs")
    from ptg.kernels.cuda.neighbors import APPROXIMATE

    rng = np.random.default_rng(0)
    points, queries = rng.normal(size=(3_000, 8)), rng.normal(size=(200, 8))
    options = {"pq_dim": 8} if name == "ivfpq" else {}
    found = APPROXIMATE[name](points, queries, 10, options=options, resources=Resources(devices=(0,)))
    exact = ((queries[:, None] - points) ** 2).sum(axis=2).argsort(axis=1)[:, :10]
    recall = np.mean([len(np.intersect1d(*pair)) / 10 for pair in zip(found, exact, strict=True)])
    assert recall > 0.8
