"""What happened during an analysis: steps with their run time, warnings and remarks."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from ptg.report.results import Note


class Listener(Protocol):
    """Told about steps as they happen, e.g. a terminal."""

    def started(self, step: str) -> None:
        """Hear that a step begins."""

    def finished(self, step: str, remark: str, seconds: float) -> None:
        """Hear that a step has ended, with what it found."""


class Silent:
    """A listener that ignores everything."""

    def started(self, step: str) -> None:
        """Ignore it."""

    def finished(self, step: str, remark: str, seconds: float) -> None:
        """Ignore it."""


class Step:
    """The step that is running."""

    def __init__(self, name: str, notes: list[Note]) -> None:
        self._name, self._notes = name, notes
        self.remark = ""

    def note(self, text: str) -> None:
        """Keep something that a reader must know."""
        self._notes.append(Note(self._name, text))


class Journal:
    """Steps of an analysis. `UserWarning`s raised inside a step become notes instead of lines on the terminal."""

    def __init__(self, listener: Listener | None = None) -> None:
        #: Whether anybody listens, so that progress bars make sense.
        self.watched = listener is not None
        self._listener = Silent() if listener is None else listener
        self.notes: list[Note] = []
        self.seconds: dict[str, float] = {}

    @contextmanager
    def step(self, name: str) -> Iterator[Step]:
        """Time a step and collect its warnings."""
        self._listener.started(name)
        start = time.perf_counter()
        step = Step(name, self.notes)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", UserWarning)
            yield step
        for text in dict.fromkeys(str(warning.message) for warning in caught if warning.category is UserWarning):
            step.note(text)
        for other in caught:
            if other.category is not UserWarning:
                warnings.warn_explicit(other.message, other.category, other.filename, other.lineno)
        self.seconds[name] = time.perf_counter() - start
        self._listener.finished(name, step.remark, self.seconds[name])
