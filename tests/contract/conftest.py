"""Fixtures of the tests of kernels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from tests import support

from ptg.kernels.contract import Resources


@pytest.fixture(params=support.BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    """Name of each backend in turn."""
    return request.param


@pytest.fixture
def mixture(backend: str) -> Any:
    """Kernels of the guide mixture and of counts of guides."""
    return support.kernels(backend)[0].mixture


@pytest.fixture
def bounds(backend: str) -> Callable[..., Resources]:
    """Resources of the backend: ``bounds(n_threads=2)``."""
    return lambda **resources: support.kernels(backend, **resources)[1]
