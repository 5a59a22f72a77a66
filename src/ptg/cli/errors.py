"""From exceptions to one line on standard error and an exit code."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NoReturn, ParamSpec

import typer

Parameters = ParamSpec("Parameters")

FAILED = 1
INTERRUPTED = 130


def one_line_errors(command: Callable[Parameters, None]) -> Callable[Parameters, None]:
    """Report what is wrong with data or arguments in one line, without a traceback. Anything else is a bug of ptg."""

    @functools.wraps(command)
    def call(*args: Parameters.args, **kwargs: Parameters.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except ValueError as error:
            # Imported late: it would make `ptg --help` wait for NumPy and pandas.
            from ptg.data.errors import InputError

            if not isinstance(error, InputError):
                raise
            _stop(str(error), FAILED)
        except MemoryError as error:
            _stop(f"not enough memory. {error}", FAILED)
        except KeyboardInterrupt:
            _stop("interrupted; nothing was written.", INTERRUPTED)

    return call


def _stop(message: str, code: int) -> NoReturn:
    typer.echo(f"ptg: error: {' '.join(message.split())}", err=True)
    raise typer.Exit(code)
