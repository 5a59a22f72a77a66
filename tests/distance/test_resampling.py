"""Bootstrap by weights against explicit resampling of cells."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pytest
from tests.distance.test_metrics import DEFINITIONS, two_groups

import ptg
from ptg.distance import evaluate
from ptg.distance.metrics import available
from ptg.distance.resampling import Resampler
from ptg.distance.sample import Sample


def sample(*names: str) -> Sample:
    sizes = {"A": 7, "B": 1, "C": 300, "X": 23, "Y": 31}
    offsets = np.cumsum([0] + [sizes[name] for name in names])
    return Sample(np.zeros((offsets[-1], 1)), offsets, list(names))


@pytest.mark.parametrize(("metric", "options"), DEFINITIONS)
def test_bootstrap_is_the_mean_and_variance_of_explicit_resamples(
    metric: str, options: tuple[tuple[str, str], ...]
) -> None:
    """The weights say which cells a draw holds: gather them, and apply the definition to the copies."""
    x, y = two_groups()
    weights = Resampler(sample("X", "Y"), 7).draw(50)
    values = []
    for draw in weights:
        resampled = [np.repeat(group, count, axis=0) for group, count in ((x, draw[:23]), (y, draw[23:]))]
        assert [len(group) for group in resampled] == [23, 31]
        values.append(DEFINITIONS[metric, options](*resampled))
    found = ptg.Distance(metric, **dict(options)).bootstrap(x, y, n_bootstrap=50, random_state=7)
    assert isinstance(found, ptg.MeanVar)
    np.testing.assert_allclose(found.mean, np.mean(values), rtol=1e-12)
    np.testing.assert_allclose(found.variance, np.var(values), rtol=1e-10)


def test_resamples_have_the_size_of_the_group() -> None:
    weights = Resampler(sample("A", "B", "C"), 0).draw(20)
    assert weights.shape == (20, 308)
    assert (weights[:, :7].sum(1) == 7).all()
    assert (weights[:, 7] == 1).all()
    assert (weights[:, 8:].sum(1) == 300).all()
    assert len(np.unique(weights, axis=0)) == 20


def test_resamples_are_uniform() -> None:
    """Each cell's weight is Binomial(300, 1/300): mean 1, variance 299/300; over 400 draws x 300 cells."""
    weights = Resampler(sample("C"), 3).draw(400).astype(float)
    assert abs(weights.mean(0) - 1).max() < 5 / np.sqrt(400)
    assert abs(weights.var() - 299 / 300) < 0.03


def test_a_groups_resamples_do_not_depend_on_the_others() -> None:
    alone, together = Resampler(sample("C"), 5).draw(9), Resampler(sample("A", "C", "B"), 5).draw(9)
    assert np.array_equal(alone, together[:, 7:307])
    assert not np.array_equal(alone, Resampler(sample("C"), 6).draw(9))


def test_resamples_do_not_depend_on_how_many_are_drawn_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    together = Resampler(sample("A", "C"), 5).draw(70)
    resampler = Resampler(sample("A", "C"), 5)
    monkeypatch.setattr("ptg.distance.resampling._CHOSEN_AT_ONCE", 1000)
    assert np.array_equal(together, np.concatenate([resampler.draw(32), resampler.draw(38)]))


@pytest.mark.parametrize("metric", available())
def test_entry_points_share_the_draws(screen: ad.AnnData, metric: str) -> None:
    """The same pair has the same mean and variance wherever it is asked for."""
    screen.obsm["X_pca"] = screen.obsm["X_pca"].astype(float)
    distance = ptg.Distance(metric)
    arguments = {"bootstrap": True, "n_bootstrap": 10, "random_state": 4}
    square = distance.pairwise(screen, "perturbation", **arguments)
    some = distance.pairwise(screen, "perturbation", groups=["C", "A", "NT"], **arguments)
    one = distance.onesided_distances(screen, "perturbation", "NT", **arguments)
    for all_of_them, few, column in zip(square, some, one, strict=True):
        np.testing.assert_allclose(few, all_of_them.loc[few.index, few.columns], rtol=1e-10, atol=1e-15)
        np.testing.assert_allclose(column, all_of_them["NT"], rtol=1e-10, atol=1e-15)


@pytest.mark.parametrize("metric", available())
def test_same_bits_for_any_threads_and_memory(screen: ad.AnnData, metric: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With little memory the draws and the pairs are taken in several chunks."""
    distance = ptg.Distance(metric)
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
