"""Results to lines of a table, Markdown and JSON."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

HEADER = (
    "work",
    "pertpy first s",
    "pertpy warm s",
    "ptg first s",
    "ptg warm s",
    "ratio warm",
    "ratio first",
    "peak MB pertpy / ptg",
    "target",
    "reached",
)


@dataclass(frozen=True)
class Timing:
    """Times of one side: per step, the first call and the median of the warm ones.

    `first_cached` is the first call of a second process, which finds what the first one compiled and kept on disk.
    `calls` has the seconds of every call of the first process, for whoever wants to see how much they vary.
    """

    first: dict[str, float]
    first_cached: dict[str, float]
    warm: dict[str, float]
    peak_bytes: int
    peak_bytes_with_data_only: int
    import_seconds: float
    calls: list[dict[str, float]]


@dataclass(frozen=True)
class Outcome:
    """What is known about one row after a run. Times are shown only where the answers agree."""

    name: str
    work: str
    tolerance: str
    note: str
    target_warm: float
    target_first: float | None
    skipped: str = ""
    agrees: bool = False
    agreement: str = ""
    ptg: Timing | None = None
    peer: Timing | None = None

    def as_json(self) -> dict[str, Any]:
        """Return all fields, with the ratios where there are any."""
        ratios = {"ratio_warm": ratio(self, "warm"), "ratio_first": ratio(self, "first")}
        return {**asdict(self), **ratios, "reached": reached(self)}


def summarise(seconds: Sequence[Mapping[str, float]], cached: Mapping[str, float], report: Mapping[str, Any]) -> Timing:
    """Turn the seconds of repeated calls into first, cached first and median warm times."""
    warm = {name: statistics.median(took[name] for took in seconds[1:]) for name in seconds[0]} if seconds[1:] else {}
    return Timing(
        first=dict(seconds[0]),
        first_cached=dict(cached),
        warm=warm,
        peak_bytes=int(report["peak_bytes"]),
        peak_bytes_with_data_only=int(report["peak_bytes_with_data_only"]),
        import_seconds=float(report["import_seconds"]),
        calls=[dict(took) for took in seconds],
    )


def ratio(outcome: Outcome, kind: str, step: str | None = None) -> float | None:
    """How many times faster ptg is, or None where there is nothing to compare or the answers disagree."""
    if not outcome.agrees or outcome.ptg is None or outcome.peer is None:
        return None
    mine, theirs = _seconds(outcome.ptg, kind, step), _seconds(outcome.peer, kind, step)
    return theirs / mine if mine and theirs else None


def reached(outcome: Outcome) -> bool | None:
    """Whether every target of the row is reached; None where nothing was measured."""
    wanted = [(ratio(outcome, "warm"), outcome.target_warm), (ratio(outcome, "first"), outcome.target_first)]
    if wanted[0][0] is None:
        return None
    return all(target is None or (found is not None and found >= target) for found, target in wanted)


def _seconds(timing: Timing, kind: str, step: str | None) -> float | None:
    times: dict[str, float] = getattr(timing, kind)
    return times.get(step) if step else (sum(times.values()) if times else None)


def table(outcomes: Sequence[Outcome]) -> list[tuple[str, ...]]:
    """Return the lines of the table, `HEADER` first; a row of several steps gets one line for each of them."""
    lines: list[tuple[str, ...]] = [HEADER]
    for outcome in outcomes:
        if outcome.skipped or not outcome.agrees:
            why = f"skipped: {outcome.skipped}" if outcome.skipped else f"ANSWERS DISAGREE: {outcome.agreement}"
            lines.append((f"{outcome.work} ({why})", *[""] * (len(HEADER) - 1)))
            continue
        lines.append(_line(outcome))
        steps = list(outcome.ptg.first) if outcome.ptg else []
        if len(steps) > 1:
            lines.extend(_step_line(outcome, step) for step in steps)
    return lines


def _line(outcome: Outcome) -> tuple[str, ...]:
    targets = f"{outcome.target_warm:g}x warm" + (f", {outcome.target_first:g}x first" if outcome.target_first else "")
    verdict = {True: "yes", False: "no", None: "-"}[reached(outcome)]
    peaks = [f"{side.peak_bytes / 1e6:.0f}" for side in (outcome.peer, outcome.ptg) if side is not None]
    return (outcome.work, *_times(outcome, None), " / ".join(peaks), targets, verdict)


def _step_line(outcome: Outcome, step: str) -> tuple[str, ...]:
    return (f"- {step}", *_times(outcome, step), "", "", "")


def _times(outcome: Outcome, step: str | None) -> tuple[str, ...]:
    sides = [side for side in (outcome.peer, outcome.ptg) if side is not None]
    seconds = [_seconds(side, kind, step) for side in sides for kind in ("first", "warm")]
    ratios = [ratio(outcome, kind, step) for kind in ("warm", "first")]
    return (
        *("-" if value is None else _short(value) for value in seconds),
        *("-" if value is None else f"{value:.1f}x" for value in ratios),
    )


def _short(seconds: float) -> str:
    return f"{seconds:.3f}" if seconds < 1 else f"{seconds:.2f}" if seconds < 10 else f"{seconds:.0f}"


def plain(outcomes: Sequence[Outcome]) -> str:
    """Render the table for a terminal, with what was compared below it."""
    lines = table(outcomes)
    widths = [max(len(line[column]) for line in lines if line[1] or column) for column in range(len(HEADER))]
    rendered = [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    ]
    rendered.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join([*rendered, "", *_remarks(outcomes)])


def markdown(results: Mapping[str, Any]) -> str:
    """Render a results file for the README and the documentation."""
    outcomes = [from_json(row) for row in results["rows"]]
    lines = [f"| {' | '.join(line)} |" for line in table(outcomes)]
    lines.insert(1, f"|{'---|' * len(HEADER)}")
    where = _where(results)
    return "\n".join([*lines, "", where, "", *[f"- {remark}" for remark in _remarks(outcomes)], ""])


def _where(results: Mapping[str, Any]) -> str:
    machine, versions = results["machine"], results["versions"]
    ptg, peer = ({"python": "?", "ptg": "?", "pertpy": "?", **versions[side]} for side in ("ptg", "peer"))
    return (
        f"{results['date']}, {machine['processor']}, {machine['cores']} cores, "
        f"{machine['memory_bytes'] / 2**30:.0f} GiB, load {machine['load_before']:g} before the run, "
        f"median of {results['repeat']} warm calls. "
        f"ptg {ptg['ptg']} on Python {ptg['python']}; pertpy {peer['pertpy']} on Python {peer['python']}."
    )


def _remarks(outcomes: Sequence[Outcome]) -> list[str]:
    return [
        f"{outcome.work}: {outcome.agreement} (accepted: {outcome.tolerance})."
        + (f" Note: {outcome.note}." if outcome.note else "")
        for outcome in outcomes
        if outcome.agrees
    ]


def from_json(row: Mapping[str, Any]) -> Outcome:
    """Rebuild an outcome from a results file."""
    fields = {name: row[name] for name in Outcome.__dataclass_fields__}
    for side in ("ptg", "peer"):
        fields[side] = Timing(**fields[side]) if fields[side] else None
    return Outcome(**fields)
