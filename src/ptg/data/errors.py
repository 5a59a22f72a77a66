"""Errors that name the argument, what was found, what is accepted and the likely fix."""

from __future__ import annotations

import functools
import inspect
import warnings
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from typing import Any, ParamSpec, TypeVar

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")

_LISTED = 8


class InputError(ValueError):
    """A call that cannot be answered as asked.

    The message starts with the public function that was called, e.g. ``Distance.pairwise: groupby='x' is not ...``.
    """

    where: str | None = None

    def __str__(self) -> str:
        message = super().__str__()
        return f"{self.where}: {message}" if self.where else message


def entry_point(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """Mark a public function or method: an `InputError` leaving it says which was called, and of which class.

    The class is that of the object the method was called on, wherever the method is defined.
    """
    is_method = next(iter(inspect.signature(function).parameters), "") in {"self", "cls"}

    @functools.wraps(function)
    def call(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        try:
            return function(*args, **kwargs)
        except InputError as error:
            # The outermost entry point is the one that the user called.
            owner = args[0] if is_method else None
            kind = owner if isinstance(owner, type) else type(owner)
            error.where = f"{kind.__name__}.{function.__name__}" if is_method else function.__qualname__
            raise

    return call


def warn(message: str) -> None:
    """Issue a UserWarning that points at the caller's line, not at one of ours."""
    frame, level = inspect.currentframe(), 1
    while frame is not None and f"{frame.f_globals.get('__name__', '')}.".startswith("ptg."):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, stacklevel=level)


def listed(names: Sequence[Any]) -> str:
    """Spell out up to eight of `names`, then how many more there are."""
    shown = ", ".join(repr(name) for name in names[:_LISTED])
    return shown if len(names) <= _LISTED else f"{shown} and {len(names) - _LISTED} more"


def not_found(argument: str, value: object, place: str, accepted: Sequence[Any], *, fix: str = "") -> InputError:
    """Build the error for a name that does not exist in `place`, with the nearest names that do.

    Parameters
    ----------
    argument
        Name of the caller's argument.
    value
        What the caller passed.
    place
        Where it was looked for, e.g. ``obs['perturbation']`` or ``adata.layers``.
    accepted
        The names that exist there.
    fix
        One sentence with the likely fix; by default, to pass one of the accepted names.
    """
    names = list(accepted)
    spelled = {str(name): name for name in names}
    nearest = [spelled[match] for match in get_close_matches(str(value), list(spelled), n=3, cutoff=0.5)]
    if not names:
        found = f"{place} is empty"
    elif nearest:
        found = f"{len(names)} there; nearest: {listed(nearest)}"
    else:
        found = f"there: {listed(names)}"
    return InputError(f"{argument}={value!r} is not in {place} ({found}). {fix or 'Pass one of them.'}".rstrip())
