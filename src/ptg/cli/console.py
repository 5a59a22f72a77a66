"""Progress of an analysis on the terminal, one line for each step."""

from __future__ import annotations

import typer

_NAME_WIDTH = 23


class StepLines:
    """Writes a line to standard error when a step ends, so that standard output keeps to results."""

    def started(self, step: str) -> None:
        """Write nothing: the tools show a bar of their own when a step takes a while."""

    def finished(self, step: str, remark: str, seconds: float) -> None:
        """Write what the step found and how long it took."""
        typer.echo(f"{step:<{_NAME_WIDTH}} {seconds:6.1f} s   {remark}".rstrip(), err=True)
