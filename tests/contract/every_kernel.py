"""A few small calls of every kernel, for tests that hold for all of them.

Small enough for compute-sanitizer, and chosen such that every kernel of the CUDA sources is started: float32 and
float64, dense and CSR, with and without weights. What the results must be is tested kernel by kernel beside this file.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import numpy as np
import scipy.sparse as sp
from tests.contract.distance_cases import distance_cases
from tests.contract.kernel_case import LAYOUTS, LEFT, OFFSETS, RIGHT, Case, declared_kernels, expression, weights

from ptg.kernels.contract import Backend, Resources
from ptg.kernels.contract.matrices import Blocks
from ptg.kernels.contract.projection import MixtureRule, TargetColumns


def energy_cases() -> Iterator[Case]:
    for variant, (dtype, layout) in LAYOUTS.items():
        cells = expression(dtype, layout)
        tolerance = 1e-6 if dtype == np.float32 else 1e-12

        def plain(kernels: Backend, resources: Resources, cells: Any = cells) -> Any:
            return kernels.energy.pair_sums(cells, OFFSETS, LEFT, RIGHT, resources=resources)

        def weighted(kernels: Backend, resources: Resources, cells: Any = cells) -> Any:
            return kernels.energy.pair_sums(cells, OFFSETS, LEFT, RIGHT, weights=weights(35), resources=resources)

        yield Case("energy.pair_sums", variant, plain, tolerance)
        yield Case("energy.pair_sums", f"{variant}, weighted", weighted, tolerance)
    far = expression(np.float32, "dense") + 30.0 * np.repeat([0, 1], 45)[:, None].astype(np.float32)
    for name, drawn in {"clusters far apart": None, "clusters far apart, weighted": weights(3)}.items():

        def sums(kernels: Backend, resources: Resources, drawn: Any = drawn) -> Any:
            return kernels.energy.pair_sums(far, OFFSETS, LEFT, RIGHT, weights=drawn, resources=resources)

        yield Case("energy.pair_sums", f"float32, {name}", sums, 1e-6)
    wide = expression(np.float32, "dense", n_columns=70)
    yield Case(
        "energy.pair_sums",
        "float32, 70 columns",
        lambda kernels, resources: kernels.energy.pair_sums(wide, OFFSETS, LEFT, RIGHT, resources=resources),
        1e-6,
    )


def moment_cases() -> Iterator[Case]:
    offsets = np.array([0, 20, 20, 21, 50, 90])  # the last group is another device's share
    for variant, (dtype, layout) in LAYOUTS.items():
        cells = expression(dtype, layout)

        def sums(kernels: Backend, resources: Resources, cells: Any = cells) -> Any:
            drawn = kernels.moments.group_sums(cells, offsets, weights=weights(3), resources=resources)
            return drawn, kernels.moments.group_sums(cells, offsets, resources=resources)

        def moments(kernels: Backend, resources: Resources, cells: Any = cells) -> Any:
            drawn = kernels.moments.group_moments(cells, offsets, weights=weights(3), resources=resources)
            return drawn, kernels.moments.group_moments(cells, offsets, resources=resources)

        yield Case("moments.group_sums", variant, sums)
        yield Case("moments.group_moments", variant, moments)


def neighbor_cases() -> Iterator[Case]:
    rng = np.random.default_rng(2)
    rows, neighbors = np.array([3, 79, 0, 3]), rng.integers(0, 90, 24)
    offsets = np.array([0, 1, 4, 23, 24])
    for dtype in (np.float32, np.float64):
        reference, query = (rng.standard_normal((n, 5)).astype(dtype) for n in (70, 33))

        def nearest(kernels: Backend, resources: Resources, points: Any = (reference, query)) -> Any:
            return kernels.neighbors.nearest(*points, 7, resources=resources)

        yield Case("neighbors.nearest", np.dtype(dtype).name, nearest)
    for variant, (dtype, layout) in LAYOUTS.items():
        matrix = expression(dtype, layout, n_columns=30)

        def signature(kernels: Backend, resources: Resources, matrix: Any = matrix, dtype: type = dtype) -> Any:
            out = np.full((4, 30), np.nan, dtype=dtype)
            kernels.neighbors.neighbor_signature(matrix, rows, offsets, neighbors, out=out, resources=resources)
            return out

        yield Case("neighbors.neighbor_signature", variant, signature, 1e-6 if dtype == np.float32 else 1e-14)


def some_blocks() -> Blocks:
    """Blocks of 30 columns at most, one of them empty."""
    rng = np.random.default_rng(4)
    columns = [rng.permutation(30)[:n] for n in (3, 5, 30)]
    rows = rng.integers(0, 90, 84)
    return Blocks(rows, np.array([0, 40, 40, 84]), np.concatenate(columns), np.array([0, 3, 8, 38]))


def matrix_cases() -> Iterator[Case]:
    blocks, rows = some_blocks(), np.array([3, 89, 3, 41])
    offsets, neighbors = np.arange(0, 181, 2), np.random.default_rng(5).integers(0, 50, 180)
    for variant, (dtype, layout) in LAYOUTS.items():
        matrix = expression(dtype, layout, n_columns=30)

        def kept(kernels: Backend, resources: Resources, matrix: Any = matrix) -> Any:
            return _dense(kernels.matrices.keep(matrix, resources=resources))

        def taken(kernels: Backend, resources: Resources, matrix: Any = matrix) -> Any:
            there = kernels.matrices.keep(matrix, resources=resources)
            return _dense(kernels.matrices.take_rows(there, rows, resources=resources))

        def read(kernels: Backend, resources: Resources, matrix: Any = matrix) -> Any:
            there = kernels.matrices.keep(matrix, resources=resources)
            return kernels.matrices.read_blocks(there, blocks, resources=resources)

        def signature(kernels: Backend, resources: Resources, matrix: Any = matrix) -> Any:
            there = kernels.matrices.keep(matrix, resources=resources)
            return kernels.neighbors.signature_blocks(there, blocks, offsets, neighbors, resources=resources)

        yield Case("matrices.keep", variant, kept)
        yield Case("matrices.take_rows", variant, taken)
        yield Case("matrices.read_blocks", variant, read)
        yield Case("neighbors.signature_blocks", variant, signature, 1e-6 if dtype == np.float32 else 1e-14)


def _dense(matrix: Any) -> np.ndarray:
    host = matrix.get() if hasattr(matrix, "get") else matrix
    return host.toarray() if sp.issparse(host) else host


def ranksum_cases() -> Iterator[Case]:
    order, offsets = np.r_[7, np.arange(10, 31), np.arange(60, 33, -1)], np.array([0, 0, 1, 22, 49, 49])
    for variant, (dtype, layout) in LAYOUTS.items():
        matrix = expression(dtype, layout)

        def statistics(kernels: Backend, resources: Resources, matrix: Any = matrix) -> Any:
            return kernels.ranksum.u_statistics(matrix, order, offsets, np.arange(61, 90), resources=resources)

        yield Case("ranksum.u_statistics", variant, statistics)


def guide_counts() -> sp.csr_matrix:
    """200 cells x 6 guides: ambient reads, a signal for five of them, and a guide that nobody carries."""
    rng = np.random.default_rng(3)
    counts = rng.poisson(0.5, (200, 6)).astype(np.float32)
    counts[np.arange(200), rng.integers(0, 5, 200)] += np.round(2 ** rng.normal(5.0, 1.0, 200))
    counts[:, 5] = 0
    return sp.csr_matrix(counts)


def mixture_cases() -> Iterator[Case]:
    counts = guide_counts()
    arrays = (counts.indptr, counts.indices, counts.data)

    def histograms(kernels: Backend, resources: Resources) -> Any:
        return kernels.mixture.count_histograms(counts.indices, counts.data, 6, resources=resources)

    def fit(kernels: Backend, resources: Resources) -> Any:
        found = histograms(kernels, resources)
        return kernels.mixture.fit_mixture(found, max_iter=90, tol=1e-4, resources=resources)

    def fitted(kernels: Backend, resources: Resources) -> Any:
        found = fit(kernels, resources)._asdict()
        del found["n_iterations"]  # the backend's own
        return tuple(found.values())

    def thresholds(kernels: Backend, resources: Resources) -> Any:
        largest = histograms(kernels, resources).max_counts
        return kernels.mixture.mixture_thresholds(
            fit(kernels, resources), largest, posterior_threshold=0.5, resources=resources
        )

    def above(kernels: Backend, resources: Resources) -> Any:
        wanted = np.array([3.0, 1.0, np.nan, 20.0, 1e9, 1.0])
        return kernels.mixture.assign_above(*arrays, wanted, resources=resources)

    yield Case("mixture.count_histograms", "float32", histograms)
    yield Case("mixture.fit_mixture", "six guides", fitted, 1e-6)
    yield Case("mixture.mixture_thresholds", "six guides", thresholds)
    yield Case("mixture.assign_above", "float32", above)
    yield Case(
        "mixture.max_guide",
        "float32",
        lambda kernels, resources: kernels.mixture.max_guide(*arrays, resources=resources),
    )


def targets() -> TargetColumns:
    """Three targets of 40, 7 and 25 cells with 8, 5 and 3 markers, beside 60 controls."""
    rng = np.random.default_rng(4)
    sizes, n_markers = [40, 7, 25], [8, 5, 3]
    blocks = [rng.normal(size=(m, n)) for m, n in zip(n_markers, sizes, strict=True)]
    for block in blocks:
        block[:, : 2 * block.shape[1] // 3] += rng.normal(1.5, 0.5, (len(block), 1))
    return TargetColumns(
        rng.normal(size=(8, 60)) * rng.uniform(0.3, 2.0, (8, 1)),
        np.concatenate([rng.choice(8, m, replace=False) for m in n_markers]).astype(np.int64),
        np.cumsum([0, *n_markers]),
        np.concatenate([block.ravel() for block in blocks]),
        np.cumsum([0, *(block.size for block in blocks)]),
        np.cumsum([0, *sizes]),
        np.concatenate([np.sort(rng.integers(0, 61, n)) for n in sizes]).astype(np.int64),
    )


def projection_cases() -> Iterator[Case]:
    batch = targets()
    draws = tuple(np.random.RandomState(0).random_sample(3).tolist())
    rule = MixtureRule(10, 5, True, 1e-3, 100, 1e-6, draws)
    options = {"scale": True, "clip": math.inf, "n_sample": 20}
    yield Case(
        "projection.classify_targets",
        "three targets",
        lambda kernels, resources: kernels.projection.classify_targets(batch, rule, **options, resources=resources),
        1e-8,
    )
    yield Case(
        "projection.score_targets",
        "three targets",
        lambda kernels, resources: kernels.projection.score_targets(batch, **options, resources=resources),
        1e-8,
    )
    axes = np.random.default_rng(5).standard_normal((9, 4))
    codes = np.repeat([0, 1, 2], [40, 30, 20])
    for variant, (dtype, layout) in LAYOUTS.items():
        matrix = expression(dtype, layout)

        def principal(kernels: Backend, resources: Resources, matrix: Any = matrix) -> Any:
            return kernels.projection.principal_axes(
                matrix[:40], matrix[40:], np.array([0, 30, 50]), np.array([3, 2]), resources=resources
            )

        def discriminants(kernels: Backend, resources: Resources, matrix: Any = matrix) -> Any:
            return kernels.projection.discriminants(matrix, codes, axes, tol=1e-4, resources=resources)

        yield Case("projection.principal_axes", variant, principal, 1e-7)
        yield Case("projection.discriminants", variant, discriminants, 1e-7)


def permutation_cases() -> Iterator[Case]:
    rng = np.random.default_rng(7)
    # Subsets of the first group with the last, and with the one of a single cell.
    subsets = [
        np.sort(rng.permuted(np.tile(np.arange(n), (35, 1)), axis=1)[:, :k], axis=1) for n, k in ((89, 47), (41, 3))
    ]
    chosen = np.zeros((35, 89), np.uint16)
    np.put_along_axis(chosen, subsets[0], 1, axis=1)
    yield Case(
        "permutation.members",
        "47 of 89",
        lambda kernels, resources: kernels.permutation.members(chosen, 47, resources=resources),
    )
    # 200 columns: more than a block of threads can hold.
    for variant, (dtype, layout, n_columns) in {
        **{name: (*kind, 9) for name, kind in LAYOUTS.items()},
        "float32, 200 columns": (np.float32, "dense", 200),
        "float64, 200 columns": (np.float64, "dense", 200),
    }.items():
        cells = expression(dtype, layout, n_columns)
        tolerance = 1e-6 if dtype == np.float32 else 1e-12

        def within(kernels: Backend, resources: Resources, cells: Any = cells) -> Any:
            drawn = [subset.astype(np.int32) for subset in subsets]
            return kernels.permutation.subset_sums(cells, OFFSETS, [3, 2], 0, drawn, resources=resources)

        def of_cells(kernels: Backend, resources: Resources, cells: Any = cells) -> Any:
            return kernels.permutation.cell_sums(cells, OFFSETS, LEFT, RIGHT, resources=resources)

        yield Case("permutation.subset_sums", variant, within, tolerance)
        yield Case("permutation.cell_sums", variant, of_cells, tolerance)


def resampling_cases() -> Iterator[Case]:
    sizes, n_chosen, keys = np.array([40, 0, 1, 49]), np.array([13, 0, 1, 44]), np.arange(4, dtype=np.uint64) << 60
    draws = (keys, 3, 35)
    values = np.random.default_rng(6).standard_normal((5, 7))

    def accumulated(kernels: Backend, resources: Resources) -> Any:
        # The arguments of this kernel are on the device, the first of a run, which is the current one.
        if not resources.devices:
            return welford(kernels, resources, np)
        arrays = import_module("cupy")
        with arrays.cuda.Device(resources.devices[0]):
            return welford(kernels, resources, arrays)

    def welford(kernels: Backend, resources: Resources, arrays: Any) -> Any:
        means, squares = arrays.zeros(7), arrays.zeros(7)
        for first in (0, 2):
            rows = arrays.asarray(values[first : first + 3])
            kernels.resampling.accumulate(rows, first, means, squares, resources=resources)
        return means, squares

    yield Case(
        "resampling.bootstraps",
        "four groups",
        lambda kernels, resources: kernels.resampling.bootstraps(sizes, *draws, resources=resources),
    )
    yield Case(
        "resampling.permutations",
        "four pools",
        lambda kernels, resources: kernels.resampling.permutations(sizes, n_chosen, *draws, resources=resources),
    )
    yield Case("resampling.accumulate", "seven pairs", accumulated, 1e-14)


def sinkhorn_cases() -> Iterator[Case]:
    left, right = np.array([0, 0, 3, 2]), np.array([3, 0, 2, 2])
    options = {"tol": 1e-6, "max_iter": 2000, "relaxation": 1.0}
    for variant, (dtype, layout) in LAYOUTS.items():
        cells = expression(dtype, layout)

        def deviations(kernels: Backend, resources: Resources, cells: Any = cells) -> Any:
            return kernels.sinkhorn.cost_deviations(cells, OFFSETS, left, right, resources=resources)

        def costs(kernels: Backend, resources: Resources, cells: Any = cells) -> Any:
            epsilon = np.array([0.4, 0.4, 0.3, 0.0])
            found = kernels.sinkhorn.transport_costs(
                cells, OFFSETS, left, right, epsilon=epsilon, **options, resources=resources
            )
            return found.cost, found.converged  # the number of iterations is the backend's own

        yield Case("sinkhorn.cost_deviations", variant, deviations, 1e-9)
        yield Case("sinkhorn.transport_costs", variant, costs, 1e-4)


CASES = [
    case
    for cases in (
        energy_cases,
        moment_cases,
        distance_cases,
        neighbor_cases,
        matrix_cases,
        ranksum_cases,
        mixture_cases,
        projection_cases,
        permutation_cases,
        resampling_cases,
        sinkhorn_cases,
    )
    for case in cases()
    if case.kernel in declared_kernels()
]
