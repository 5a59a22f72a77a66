"""Cases of the kernels that single metrics need."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from tests.contract.kernel_case import LAYOUTS, LEFT, OFFSETS, RIGHT, Case, expression, weights

from ptg.kernels.contract import Backend, Resources
from ptg.kernels.contract.kernel_sums import CellFunction

FUNCTIONS = (
    CellFunction("cityblock"),
    CellFunction("chebyshev"),
    CellFunction("rbf", gamma=0.1),
    CellFunction("poly", gamma=0.3, degree=2),
)


def distance_cases() -> Iterator[Case]:
    """Cells in four groups, one of them empty, one of a single cell."""
    for variant, (dtype, layout) in LAYOUTS.items():
        cells = expression(dtype, layout)

        def distributions(kernels: Backend, resources: Resources, cells: Any = cells) -> Any:
            drawn = kernels.distribution.ks_sums(
                cells, OFFSETS, LEFT, RIGHT, weights=weights(35) + 1, resources=resources
            )
            return drawn, kernels.distribution.ks_sums(cells, OFFSETS, LEFT, RIGHT, resources=resources)

        def mahalanobis(kernels: Backend, resources: Resources, cells: Any = cells) -> Any:
            profiles = np.random.default_rng(7).standard_normal((4, 9))
            arguments = (cells, OFFSETS, profiles, LEFT, RIGHT)
            drawn = kernels.covariance.mahalanobis(*arguments, weights=weights(1)[0], resources=resources)
            return drawn, kernels.covariance.mahalanobis(*arguments, resources=resources)

        yield Case("distribution.ks_sums", variant, distributions)
        yield Case("covariance.mahalanobis", variant, mahalanobis, 1e-9)
        for function in FUNCTIONS:

            def sums(
                kernels: Backend, resources: Resources, cells: Any = cells, function: CellFunction = function
            ) -> Any:
                arguments = {"function": function, "resources": resources}
                drawn = kernels.kernel_sums.kernel_sums(cells, OFFSETS, LEFT, RIGHT, weights=weights(35), **arguments)
                return drawn, kernels.kernel_sums.kernel_sums(cells, OFFSETS, LEFT, RIGHT, **arguments)

            yield Case("kernel_sums.kernel_sums", f"{function.name}, {variant}", sums, 1e-12)
    yield from _of_groups()


def _of_groups() -> Iterator[Case]:
    rng = np.random.default_rng(8)
    profiles, points = rng.integers(0, 30, (4, 70)).astype(float), rng.standard_normal((90, 2))
    counts = rng.negative_binomial(1.0, 0.2, (90, 9)).astype(float)
    offsets, left, right = np.array([0, 40, 41, 90]), np.array([0, 1, 2, 2]), np.array([2, 0, 2, 1])
    yield Case(
        "concordance.concordance",
        "70 columns with ties",
        lambda kernels, resources: kernels.concordance.concordance(profiles, LEFT, RIGHT, resources=resources),
    )
    yield Case(
        "density.density_differences",
        "four groups",
        lambda kernels, resources: kernels.density.density_differences(
            points, OFFSETS, LEFT, RIGHT, resources=resources
        ),
    )
    yield Case(
        "negative_binomial.log_likelihoods",
        "three groups",
        lambda kernels, resources: kernels.negative_binomial.log_likelihoods(
            counts, offsets, left, right, resources=resources
        ),
    )
