"""Checks of scalar arguments. Each returns the value in the type that the rest of the code relies on."""

from __future__ import annotations

import math
import numbers
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ptg.data.errors import InputError, listed, not_found

if TYPE_CHECKING:
    from anndata import AnnData

_LARGEST = 2**63 - 1
"""Largest integer that compiled code takes."""


def check_integer(argument: str, value: object, *, minimum: int, maximum: int = _LARGEST) -> int:
    """Accept an integer between `minimum` and `maximum` (not a bool)."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, numbers.Integral) or int(value) < minimum:
        raise InputError(f"{argument}={value!r} is not accepted. Pass an integer of at least {minimum}.")
    if int(value) > maximum:
        raise InputError(f"{argument}={value!r} is too large. Pass an integer of at most {maximum}.")
    return int(value)


def check_number(
    argument: str, value: object, *, minimum: float = -math.inf, maximum: float = math.inf, open_ends: bool = False
) -> float:
    """Accept a finite number between `minimum` and `maximum`; `open_ends` excludes the two ends themselves."""
    accepted = f"a finite number in {'(' if open_ends else '['}{minimum:g}, {maximum:g}{')' if open_ends else ']'}"
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, numbers.Real) or not _is_finite(value):
        raise InputError(f"{argument}={value!r} is not accepted. Pass {accepted}.")
    number = float(value)
    inside = minimum < number < maximum if open_ends else minimum <= number <= maximum
    if not inside:
        raise InputError(f"{argument}={value!r} is out of range. Pass {accepted}.")
    return number


def _is_finite(value: numbers.Real) -> bool:
    try:
        return math.isfinite(float(value))
    except OverflowError:  # an integer of hundreds of digits
        return False


def check_choice(argument: str, value: object, accepted: Sequence[str]) -> str:
    """Accept one of a few names."""
    if not isinstance(value, str) or value not in accepted:
        raise not_found(argument, value, "the accepted values", accepted)
    return value


def check_flag(argument: str, value: object) -> bool:
    """Accept True or False."""
    if not isinstance(value, (bool, np.bool_)):
        raise InputError(f"{argument}={value!r} is not accepted. Pass True or False.")
    return bool(value)


def check_copy(adata: AnnData, copy: object) -> bool:
    """Accept True or False; True only for data in memory, because a file cannot be copied without a new name."""
    if check_flag("copy", copy) and getattr(adata, "isbacked", False):
        raise InputError("copy=True with an AnnData that is backed by a file. Pass adata.to_memory(), or copy=False.")
    return bool(copy)


def check_string(argument: str, value: object, *, empty: bool = False) -> str:
    """Accept a string, by default not the empty one."""
    if not isinstance(value, str) or not (value or empty):
        raise InputError(f"{argument}={value!r} is not accepted. Pass a {'' if empty else 'non-empty '}string.")
    return value


def check_options(argument: str, options: dict[str, Any], accepted: Sequence[str]) -> None:
    """Reject keyword options that nobody would read."""
    unknown = [name for name in options if name not in accepted]
    if unknown:
        known = f"Accepted: {listed(list(accepted))}." if accepted else "None are accepted."
        raise InputError(f"{argument} has unknown names {listed(unknown)}. {known}")
