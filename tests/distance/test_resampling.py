"""Bootstrap by weights against explicit resampling of cells."""

from __future__ import annotations

import hashlib
from typing import Any

import anndata as ad
import numpy as np
import pytest
from tests.distance.test_metrics import DEFINITIONS, TOLERANCES, two_groups
from tests.support import PAIR_METRICS, distance_of

import ptg
from ptg.distance import evaluate
from ptg.distance.resampling import resampling_keys
from ptg.distance.sample import Sample
from ptg.kernels.contract import Backend, Resources


def sample(*names: str) -> Sample:
    sizes = {"A": 7, "B": 1, "C": 300, "X": 23, "Y": 31}
    offsets = np.cumsum([0] + [sizes[name] for name in names])
    return Sample(np.zeros((offsets[-1], 1)), offsets, list(names))


def draw(cells: Sample, random_state: int, n_draws: int) -> np.ndarray:
    keys = resampling_keys(cells.names, random_state)
    return Backend("cpu").resampling.bootstraps(cells.sizes, keys, 0, n_draws, resources=Resources())


@pytest.mark.parametrize(("metric", "options"), DEFINITIONS)
def test_bootstrap_is_the_mean_and_variance_of_explicit_resamples(
    metric: str, options: tuple[tuple[str, Any], ...]
) -> None:
    """The weights say which cells a draw holds: gather them, and apply the definition to the copies."""
    x, y = two_groups()
    weights = draw(sample("X", "Y"), 7, 50)
    values = []
    for of_draw in weights:
        counts = ((x, of_draw[:23]), (y, of_draw[23:]))
        resampled = [np.repeat(group, count, axis=0) for group, count in counts]
        assert [len(group) for group in resampled] == [23, 31]
        values.append(DEFINITIONS[metric, options](*resampled))
    found = ptg.Distance(metric, **dict(options)).bootstrap(x, y, n_bootstrap=50, random_state=7)
    assert isinstance(found, ptg.MeanVar)
    tolerance = TOLERANCES.get(metric, 1e-12)
    np.testing.assert_allclose(found.mean, np.mean(values), rtol=tolerance)
    np.testing.assert_allclose(found.variance, np.var(values), rtol=100 * tolerance)


def test_a_groups_resamples_do_not_depend_on_the_others() -> None:
    alone, together = draw(sample("C"), 5, 9), draw(sample("A", "C", "B"), 5, 9)
    assert np.array_equal(alone, together[:, 7:307])
    assert not np.array_equal(alone, draw(sample("C"), 6, 9))


def test_keys_belong_to_seed_and_name() -> None:
    keys = [*resampling_keys(["A", "B", 1, "10"], 1), *resampling_keys(["A", "0", "10"], 11), *resampling_keys([], 0)]
    assert len(set(keys)) == 7
    assert resampling_keys([1], 1) == resampling_keys(["1"], 1)
    # SHA-256 of "7:NT" begins with these bytes.
    assert resampling_keys(["NT"], 7)[0].tobytes().hex() == hashlib.sha256(b"7:NT").hexdigest()[:16]


@pytest.mark.parametrize("metric", PAIR_METRICS)
def test_entry_points_share_the_draws(screen: ad.AnnData, metric: str) -> None:
    """The same pair has the same mean and variance wherever it is asked for."""
    screen.obsm["X_pca"] = screen.obsm["X_pca"].astype(float)
    distance = distance_of(metric)
    arguments = {"bootstrap": True, "n_bootstrap": 10, "random_state": 4}
    square = distance.pairwise(screen, "perturbation", **arguments)
    some = distance.pairwise(screen, "perturbation", groups=["C", "A", "NT"], **arguments)
    one = distance.onesided_distances(screen, "perturbation", "NT", **arguments)
    for all_of_them, few, column in zip(square, some, one, strict=True):
        np.testing.assert_allclose(few, all_of_them.loc[few.index, few.columns], rtol=1e-10, atol=1e-15)
        np.testing.assert_allclose(column, all_of_them["NT"], rtol=1e-10, atol=1e-15)


@pytest.mark.parametrize("metric", PAIR_METRICS)
def test_same_bits_for_any_threads_and_memory(screen: ad.AnnData, metric: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With little memory the draws and the pairs are taken in several chunks."""
    distance = distance_of(metric)
    arguments = {"bootstrap": True, "n_bootstrap": 70, "random_state": 4}
    expected = distance.pairwise(screen, "perturbation", **arguments)
    calls: list[int] = []
    monkeypatch.setattr(evaluate, "_draws_at_once", lambda sample, memory: calls.append(memory) or 32)
    monkeypatch.setattr(ptg.settings, "n_threads", 3)
    monkeypatch.setattr(ptg.settings, "memory", 1 << 20)
    found = distance.pairwise(screen, "perturbation", **arguments)
    assert calls == [1 << 20]
    for a, b in zip(found, expected, strict=True):
        assert np.array_equal(a.to_numpy(), b.to_numpy())


def test_draws_at_once_is_a_multiple_of_the_kernels_panel() -> None:
    cells = sample("A", "C")
    assert evaluate._draws_at_once(cells, 1 << 20) == 416
    assert evaluate._draws_at_once(cells, 1) == 32
