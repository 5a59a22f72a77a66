"""Directions and mixtures of every backend against slow definitions, and the backends against each other."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import scipy.special
from sklearn.cluster import KMeans, kmeans_plusplus
from tests.support import BACKENDS, kernels

from ptg.kernels.contract.projection import (
    CONTROL_CONSTANT,
    FEW_PERTURBED,
    NO_DIRECTION,
    OK,
    PERTURBED_CONSTANT,
    MixtureRule,
    TargetColumns,
)

DRAWS = tuple(np.random.RandomState(0).random_sample(3).tolist())
PERTPY = MixtureRule(10, 5, True, 1e-3, 100, 1e-6, DRAWS)
SEURAT = MixtureRule(10, 5, False, 1e-12, 10_000, 0.0, DRAWS)


def make_batch(
    sizes: list[int], n_markers: list[int], *, n_control: int = 90, seed: int = 0, offset: float = 0.0
) -> TargetColumns:
    """Targets whose cells are shifted in two thirds of their cells; controls and cells interleaved at random."""
    rng = np.random.default_rng(seed)
    n_columns = max(*n_markers, 1)
    control = rng.normal(size=(n_columns, n_control)) * rng.uniform(0.3, 2.0, (n_columns, 1)) + offset
    columns, values, before = [], [], []
    for size, markers in zip(sizes, n_markers, strict=True):
        chosen = rng.choice(n_columns, markers, replace=False)
        block = rng.normal(size=(markers, size)) + offset
        block[:, : 2 * size // 3] += rng.normal(1.5, 0.5, (markers, 1))
        columns.append(chosen)
        values.append(block.ravel())
        before.append(np.sort(rng.integers(0, n_control + 1, size)))
    return TargetColumns(
        control,
        np.concatenate(columns).astype(np.int64),
        np.cumsum([0, *n_markers]),
        np.concatenate(values),
        np.cumsum([0, *(len(block) for block in values)]),
        np.cumsum([0, *sizes]),
        np.concatenate(before).astype(np.int64),
    )


def one_target(batch: TargetColumns, target: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    columns = batch.columns[batch.marker_offsets[target] : batch.marker_offsets[target + 1]]
    cells = slice(batch.cell_offsets[target], batch.cell_offsets[target + 1])
    values = batch.values[batch.value_offsets[target] : batch.value_offsets[target + 1]]
    return batch.control[columns].T, values.reshape(len(columns), -1).T, batch.controls_before[cells]


def scaled(control: np.ndarray, cells: np.ndarray, *, scale: bool, clip: float) -> tuple[np.ndarray, np.ndarray]:
    if not scale:
        return np.minimum(control, clip), np.minimum(cells, clip)
    both = np.concatenate([control, cells])
    deviation = both.std(0, ddof=1)
    deviation[deviation < 1e-12] = 1.0
    return tuple(np.minimum((part - both.mean(0)) / deviation, clip) for part in (control, cells))


def slow_em(x: np.ndarray, start: tuple[float, ...], weights: np.ndarray, rule: MixtureRule) -> tuple[Any, ...]:
    m0, v0, m1, v1 = start
    w0, w1 = weights
    before = -np.inf
    for _ in range(rule.max_iter):
        log = np.stack(
            [
                np.log(w) - 0.5 * np.log(2 * np.pi * v) - (x - m) ** 2 / (2 * v)
                for w, m, v in ((w0, m0, v0), (w1, m1, v1))
            ]
        )
        total = np.logaddexp(*log)
        share = np.exp(log - total)
        w0, w1 = share.mean(1)
        m1 = share[1] @ x / share[1].sum()
        v1 = share[1] @ (x - m1) ** 2 / share[1].sum() + rule.reg_covar
        if abs(total.mean() - before) < rule.tol:
            break
        before = total.mean()
    return w0, w1, m1, v1


def slow_classes(batch: TargetColumns, target: int, rule: MixtureRule, *, scale: bool, clip: float) -> tuple[Any, ...]:
    """Definition: scikit-learn's k-means, EM in NumPy."""
    control, cells, before = one_target(batch, target)
    control, cells = scaled(control, cells, scale=scale, clip=clip)
    perturbed = np.ones(len(cells), dtype=bool)
    place = before + np.arange(len(cells))
    first = None
    for round_ in range(1, rule.n_rounds + 1):
        direction = cells[perturbed].mean(0) - control.mean(0)
        scores = [part @ direction / (direction @ direction) for part in (control, cells)]
        first = scores[1] if first is None else first
        m0, v0 = scores[0].mean(), scores[0].var(ddof=1)
        x = np.empty(len(control) + len(cells))
        x[place] = scores[1]
        x[np.setdiff1d(np.arange(len(x)), place)] = scores[0]
        centred = (x - x.mean())[:, None]
        centres, _ = kmeans_plusplus(centred, 2, random_state=0)
        labels = KMeans(2, init=centres, n_init=1, tol=1e-4).fit(centred).labels_
        weights = np.bincount(labels, minlength=2) / len(x)
        start = (m0, v0, scores[1][perturbed].mean(), scores[1][perturbed].var(ddof=1))
        w0, w1, m1, v1 = slow_em(x, start, weights, rule)
        odds = np.log(w0 / w1) if rule.weighted else 0.0
        s = scores[1]
        ratio = odds + 0.5 * np.log(v1 / v0) + (s - m1) ** 2 / (2 * v1) - (s - m0) ** 2 / (2 * v0)
        posterior = scipy.special.expit(-ratio)
        now = posterior > 0.5
        if now.sum() < rule.min_perturbed:
            return posterior, np.zeros_like(now), first, round_, FEW_PERTURBED
        if (now == perturbed).all():
            break
        perturbed = now
    return posterior, now, first, round_, OK


def call(backend: str, batch: TargetColumns, rule: MixtureRule, **options: Any) -> Any:
    implementation, resources = kernels(backend)
    defaults = {"scale": True, "clip": math.inf, "n_sample": 20, "resources": resources}
    return implementation.projection.classify_targets(batch, rule, **(defaults | options))


def score(backend: str, batch: TargetColumns, **options: Any) -> Any:
    implementation, resources = kernels(backend)
    defaults = {"scale": True, "clip": math.inf, "n_sample": 5, "resources": resources}
    return implementation.projection.score_targets(batch, **(defaults | options))


@pytest.mark.parametrize("rule", [PERTPY, SEURAT], ids=["pertpy", "seurat"])
@pytest.mark.parametrize(("scale", "clip"), [(True, math.inf), (True, 1.5), (False, math.inf)])
@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_classify_targets_matches_definition(
    backend: str, rule: MixtureRule, scale: bool, clip: float, offset: float
) -> None:
    batch = make_batch([60, 7, 25, 130], [8, 5, 1, 3], offset=offset)
    found = call(backend, batch, rule, scale=scale, clip=clip)
    for target in range(4):
        cells = slice(batch.cell_offsets[target], batch.cell_offsets[target + 1])
        posterior, perturbed, scores, rounds, status = slow_classes(batch, target, rule, scale=scale, clip=clip)
        np.testing.assert_allclose(found.posterior[cells], posterior, atol=1e-8 if offset == 0.0 else 1e-5)
        np.testing.assert_array_equal(found.perturbed[cells], perturbed)
        np.testing.assert_allclose(found.scores[cells], scores, rtol=1e-9, atol=1e-9 if offset == 0.0 else 1e-7)
        assert (found.n_rounds[target], found.status[target]) == (rounds, status)


def test_definition_is_met_by_both_outcomes(backend: str) -> None:
    """The cases above contain perturbed and unperturbed cells, and more than one round."""
    found = call(backend, make_batch([60, 7, 25, 130], [8, 5, 1, 3]), PERTPY)
    assert 0 < found.perturbed.sum() < found.perturbed.size
    assert found.n_rounds.max() > 1
    assert found.converged.any()


def test_control_sample_is_evenly_spaced_by_rank(backend: str) -> None:
    batch = make_batch([40, 30], [4, 6])
    found = call(backend, batch, PERTPY, n_sample=10)
    for target in range(2):
        control, cells, _ = one_target(batch, target)
        control, cells = scaled(control, cells, scale=True, clip=math.inf)
        direction = cells.mean(0) - control.mean(0)
        scores = control @ direction / (direction @ direction)
        np.testing.assert_allclose(found.control_scores[target], scores[found.control_sample[target]], rtol=1e-9)
        ranks = np.sort(np.argsort(np.argsort(scores))[found.control_sample[target]])
        np.testing.assert_array_equal(ranks, np.linspace(0, 89, 10).round())
        assert (np.diff(found.control_sample[target]) > 0).all()
    everyone = call(backend, batch, PERTPY, n_sample=1000)
    np.testing.assert_array_equal(everyone.control_sample, np.tile(np.arange(90), (2, 1)))


@pytest.mark.parametrize(
    ("change", "status"),
    [
        (lambda batch: batch._replace(values=np.zeros(24), control=np.zeros((3, 90))), NO_DIRECTION),
        (lambda batch: batch._replace(control=np.ones((3, 90))), CONTROL_CONSTANT),
        (lambda batch: batch._replace(values=np.repeat([5.0, 6.0, 7.0], 8)), PERTURBED_CONSTANT),
        (
            lambda batch: batch._replace(control=batch.control[:, :1], controls_before=np.zeros(8, int)),
            CONTROL_CONSTANT,
        ),
    ],
    ids=["no direction", "constant control", "constant cells", "one control"],
)
def test_degenerate_targets_get_a_status(backend: str, change: Any, status: int) -> None:
    found = call(backend, change(make_batch([8], [3])), PERTPY)
    assert found.status.tolist() == [status]
    assert not found.perturbed.any()
    assert not found.converged.any()
    assert (found.posterior == 0).all()


def test_targets_of_one_cell_or_none(backend: str) -> None:
    batch = make_batch([1, 0, 40], [3, 3, 3])
    found = call(backend, batch, PERTPY)
    assert found.status.tolist()[0] == PERTURBED_CONSTANT
    assert found.status.tolist()[1] in (NO_DIRECTION, PERTURBED_CONSTANT)
    assert found.status.tolist()[2] == OK


def test_few_perturbed_cells_keep_their_posterior(backend: str) -> None:
    found = call(backend, make_batch([12], [4]), PERTPY._replace(min_perturbed=12))
    assert found.status.tolist() == [FEW_PERTURBED]
    assert not found.perturbed.any()
    assert (found.posterior > 0.5).any()


@pytest.mark.parametrize("scale", [True, False])
@pytest.mark.parametrize("clip", [math.inf, 1.2])
def test_score_targets_matches_definition(backend: str, scale: bool, clip: float) -> None:
    batch = make_batch([50, 1, 9], [6, 4, 1])
    found = score(backend, batch, scale=scale, clip=clip)
    for target in range(3):
        control, cells, _ = one_target(batch, target)
        control, cells = scaled(control, cells, scale=scale, clip=clip)
        direction = cells.mean(0) - control.mean(0)
        scores = [part @ direction / (direction @ direction) for part in (control, cells)]
        expected = (scores[1] - scores[0].mean()) / scores[0].std(ddof=1)
        own = slice(batch.cell_offsets[target], batch.cell_offsets[target + 1])
        np.testing.assert_allclose(found.standardised[own], expected, rtol=1e-9, atol=1e-10)
        np.testing.assert_allclose(found.scores[own], scores[1], rtol=1e-9, atol=1e-10)
    assert found.status.tolist() == [OK] * 3


def test_score_targets_without_control_variance(backend: str) -> None:
    batch = make_batch([6], [2])._replace(control=np.full((2, 90), 3.0))
    found = score(backend, batch)
    assert found.status.tolist() == [CONTROL_CONSTANT]
    assert (found.standardised == 0).all()


def test_targets_do_not_depend_on_threads_or_company(backend: str) -> None:
    batch = make_batch([60, 7, 25], [8, 5, 1])
    together = call(backend, batch, PERTPY, resources=kernels(backend, n_threads=2, memory=1 << 20)[1])
    alone = call(backend, batch, PERTPY)
    for name, values in together._asdict().items():
        np.testing.assert_array_equal(values, getattr(alone, name), err_msg=name)
    second = TargetColumns(
        batch.control,
        batch.columns[8:13],
        np.array([0, 5]),
        batch.values[480:515],
        np.array([0, 35]),
        np.array([0, 7]),
        batch.controls_before[60:67],
    )
    np.testing.assert_array_equal(call(backend, second, PERTPY).posterior, together.posterior[60:67])


def test_clusters_of_tied_scores_are_those_of_scikit_learn() -> None:
    """Whole numbers around 0: scores fall exactly between two centres, where the first cluster wins."""
    from ptg.kernels.cpu.perturbation_mixture import cluster_share

    shares = set()
    for seed in range(60):
        x = np.random.default_rng(seed).permutation(np.repeat([-2.0, 0.0, 2.0], [3, 6, 3]))
        draws = tuple(np.random.RandomState(seed).random_sample(3).tolist())
        centres, _ = kmeans_plusplus(x[:, None], 2, random_state=seed)
        labels = KMeans(2, init=centres, n_init=1, tol=1e-4).fit(x[:, None]).labels_
        assert cluster_share(x, draws) == pytest.approx((labels == 0).mean())
        shares.add((bool(centres[0] > centres[1]), tuple(np.sort(centres.ravel()).tolist())))
    assert {(True, (-2.0, 2.0)), (False, (-2.0, 2.0))} <= shares  # both orders of centres with ties between them


# --- backends -----------------------------------------------------------------------------------------------------


def everything(backend: str) -> list[np.ndarray]:
    """Results of all kernels on one small screen."""
    batch = make_batch([60, 7, 25, 0, 130], [8, 5, 1, 3, 40], n_control=700)
    return [*call(backend, batch, PERTPY, clip=1.5), *score(backend, batch, clip=1.5)]


def test_ten_calls_have_the_same_bits(backend: str) -> None:
    first = everything(backend)
    for _ in range(9):
        for values, expected in zip(everything(backend), first, strict=True):
            np.testing.assert_array_equal(values, expected)


@pytest.mark.parametrize("other", BACKENDS[1:])
def test_backends_agree(other: str) -> None:
    for values, expected in zip(everything(other), everything("cpu"), strict=True):
        assert values.dtype == expected.dtype
        np.testing.assert_allclose(values, expected, rtol=1e-9, atol=1e-9)
