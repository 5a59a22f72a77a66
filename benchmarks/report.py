"""Results to lines of a table, Markdown and JSON.

``python -m benchmarks.report RESULT.json`` prints the Markdown again; with ``--readme`` it puts the short table into
the README, between the marks that say where.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
_MARKS = "<!-- {suite} benchmark: begin -->", "<!-- {suite} benchmark: end -->"
#: Tensor-core operations that the distance of one pair of 50 dimensions takes: three products of 64 padded ones.
_OPERATIONS_PER_PAIR = 3 * 2 * 64
_NOT_RAPIDS = (
    "The peer ran without RAPIDS: its neighbours (cuVS) were found with PyTorch and its principal axes (cuML) with "
    "CuPy, so its times of the signature and of lda are not RAPIDS's own."
)


@dataclass(frozen=True)
class Timing:
    """Times of one side: per step, the first call and the median of the warm ones.

    `first_cached` is the first call of a second process, which finds what the first one compiled and kept on disk.
    `calls` has the seconds of every call of the first process, for whoever wants to see how much they vary.
    `peak_device_bytes` is what all GPUs together gave to the process beyond its start.
    """

    first: dict[str, float]
    first_cached: dict[str, float]
    warm: dict[str, float]
    peak_bytes: int
    peak_bytes_with_data_only: int
    import_seconds: float
    calls: list[dict[str, float]]
    peak_device_bytes: int = 0


@dataclass(frozen=True)
class Outcome:
    """What is known about one row after a run. Ratios are shown only where the answers agree."""

    name: str
    work: str
    tolerance: str
    note: str
    target_warm: float | None
    target_first: float | None
    skipped: str = ""
    failed: str = ""
    compared: bool = True
    agrees: bool = False
    agreement: str = ""
    n_pairs: float | None = None
    ptg: Timing | None = None
    peer: Timing | None = None

    @property
    def disagrees(self) -> bool:
        """Whether both sides answered, and differently."""
        return self.compared and not (self.agrees or self.skipped or self.failed)

    def as_json(self) -> dict[str, Any]:
        """Return all fields, with the ratios where there are any."""
        ratios = {"ratio_warm": ratio(self, "warm"), "ratio_first": ratio(self, "first")}
        return {**asdict(self), **ratios, "pairs_per_second": rate(self), "reached": reached(self)}


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
        peak_device_bytes=int(report.get("peak_device_bytes", 0)),
    )


def ratio(outcome: Outcome, kind: str, step: str | None = None) -> float | None:
    """How many times faster ptg is, or None where there is nothing to compare or the answers disagree."""
    if not outcome.agrees or outcome.ptg is None or outcome.peer is None:
        return None
    mine, theirs = _seconds(outcome.ptg, kind, step), _seconds(outcome.peer, kind, step)
    return theirs / mine if mine and theirs else None


def reached(outcome: Outcome) -> bool | None:
    """Whether every target of the row is reached; None where nothing was measured or nothing is asked for."""
    targets = {"warm": outcome.target_warm, "first": outcome.target_first}
    wanted = [(ratio(outcome, kind), target) for kind, target in targets.items() if target is not None]
    if not wanted or ratio(outcome, "warm") is None:
        return None
    return all(found is not None and found >= target for found, target in wanted)


def rate(outcome: Outcome) -> float | None:
    """Distances between cells that ptg's warm call takes in a second, from AnnData to table."""
    seconds = _seconds(outcome.ptg, "warm", None) if outcome.ptg else None
    return outcome.n_pairs / seconds if outcome.n_pairs and seconds else None


def _seconds(timing: Timing, kind: str, step: str | None) -> float | None:
    times: dict[str, float] = getattr(timing, kind)
    return times.get(step) if step else (sum(times.values()) if times else None)


@dataclass(frozen=True)
class Column:
    """One column of the table.

    Attributes
    ----------
    title
        May contain ``{peer}``.
    cell
        Text for an outcome, one of its steps or None for all of them, and the machine.
    steps
        Also filled in the lines of single steps.
    short
        Part of the README's table.
    """

    title: str
    cell: Callable[[Outcome, str | None, Mapping[str, Any]], str]
    steps: bool = True
    short: bool = True


def _time(side: str, kind: str) -> Callable[[Outcome, str | None, Mapping[str, Any]], str]:
    def cell(outcome: Outcome, step: str | None, _: Mapping[str, Any]) -> str:
        timing: Timing | None = getattr(outcome, side)
        seconds = _seconds(timing, kind, step) if timing else None
        return "-" if seconds is None else _short(seconds)

    return cell


def _ratio(kind: str) -> Callable[[Outcome, str | None, Mapping[str, Any]], str]:
    def cell(outcome: Outcome, step: str | None, _: Mapping[str, Any]) -> str:
        found = ratio(outcome, kind, step)
        return "-" if found is None else f"{found:.1f}x"

    return cell


def _peaks(outcome: Outcome, _: str | None, __: Mapping[str, Any]) -> str:
    return " / ".join(f"{side.peak_bytes / 1e6:.0f}" for side in (outcome.peer, outcome.ptg) if side is not None)


def _device_peaks(outcome: Outcome, _: str | None, __: Mapping[str, Any]) -> str:
    sides = (outcome.peer, outcome.ptg)
    return " / ".join("-" if side is None else f"{side.peak_device_bytes / 1e9:.2f}" for side in sides)


def _targets(outcome: Outcome, _: str | None, __: Mapping[str, Any]) -> str:
    if outcome.target_warm is None:
        return "-" if outcome.compared else "runs"
    return f"{outcome.target_warm:g}x warm" + (f", {outcome.target_first:g}x first" if outcome.target_first else "")


def _reached(outcome: Outcome, _: str | None, __: Mapping[str, Any]) -> str:
    runs = outcome.target_warm is None and outcome.ptg is not None and not outcome.compared
    return {True: "yes", False: "no", None: "-"}[True if runs else reached(outcome)]


def _pairs(outcome: Outcome, _: str | None, __: Mapping[str, Any]) -> str:
    found = rate(outcome)
    return "" if found is None else f"{found:.2g}"


def _share(limit: str, cost: float) -> Callable[[Outcome, str | None, Mapping[str, Any]], str]:
    def cell(outcome: Outcome, _: str | None, machine: Mapping[str, Any]) -> str:
        found, available = rate(outcome), machine.get("gpu", {}).get(limit, 0.0)
        return f"{found * cost / available:.0%}" if found and available else ""

    return cell


def _work(outcome: Outcome, step: str | None, _: Mapping[str, Any]) -> str:
    return f"- {step}" if step else outcome.work


_TARGET = Column("target", _targets, steps=False, short=False)
COLUMNS: dict[str, tuple[Column, ...]] = {
    "cpu": (
        Column("work", _work),
        Column("{peer} first s", _time("peer", "first")),
        Column("{peer} warm s", _time("peer", "warm")),
        Column("ptg first s", _time("ptg", "first")),
        Column("ptg warm s", _time("ptg", "warm")),
        Column("ratio warm", _ratio("warm")),
        Column("ratio first", _ratio("first")),
        Column("peak MB {peer} / ptg", _peaks, steps=False, short=False),
        _TARGET,
        Column("reached", _reached, steps=False, short=False),
    ),
    "gpu": (
        Column("work", _work),
        Column("{peer} s", _time("peer", "warm")),
        Column("ptg s", _time("ptg", "warm")),
        Column("ratio", _ratio("warm")),
        _TARGET,
        Column("reached", _reached, steps=False, short=False),
        Column("ptg first s", _time("ptg", "first")),
        Column("device GB {peer} / ptg", _device_peaks, steps=False),
        Column("pairs/s", _pairs, steps=False, short=False),
        Column("of sqrt limit", _share("square_roots_per_second", 1.0), steps=False, short=False),
        Column(
            "of tensor limit", _share("tensor_operations_per_second", _OPERATIONS_PER_PAIR), steps=False, short=False
        ),
    ),
}


def table(results: Mapping[str, Any], *, short: bool = False) -> list[tuple[str, ...]]:
    """Return the lines of the table, titles first; a row of several steps gets one line for each of them."""
    columns = [column for column in COLUMNS[results.get("suite", "cpu")] if column.short or not short]
    peer = results.get("peer", "pertpy")
    lines = [tuple(column.title.format(peer=peer) for column in columns)]
    for outcome in _outcomes(results):
        why = _why_no_times(outcome)
        if why:
            lines.append((f"{outcome.work} ({why})", *[""] * (len(columns) - 1)))
            continue
        steps = list(outcome.ptg.first) if outcome.ptg else []
        for step in [None, *(steps if len(steps) > 1 and not short else [])]:
            cells = (
                column.cell(outcome, step, results["machine"]) if column.steps or not step else "" for column in columns
            )
            lines.append(tuple(cells))
    return lines


def _why_no_times(outcome: Outcome) -> str:
    if outcome.skipped:
        return f"skipped: {outcome.skipped}"
    if outcome.failed:
        return f"FAILED: {outcome.failed}"
    return f"ANSWERS DISAGREE: {outcome.agreement}" if outcome.disagrees else ""


def _short(seconds: float) -> str:
    return f"{seconds:.3f}" if seconds < 1 else f"{seconds:.2f}" if seconds < 10 else f"{seconds:.0f}"


def plain(results: Mapping[str, Any]) -> str:
    """Render the table for a terminal, with what was compared below it."""
    lines = table(results)
    widths = [max(len(line[column]) for line in lines if line[1] or column) for column in range(len(lines[0]))]
    rendered = [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    ]
    rendered.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join([*rendered, "", *_remarks(results)])


def markdown(results: Mapping[str, Any]) -> str:
    """Render a results file for the documentation."""
    remarks = [f"- {remark}" for remark in _remarks(results)]
    return "\n".join([*_markdown_table(table(results)), "", _where(results), "", *remarks, ""])


def _markdown_table(lines: Sequence[tuple[str, ...]]) -> list[str]:
    rendered = [f"| {' | '.join(line)} |" for line in lines]
    rendered.insert(1, f"|{'---|' * len(lines[0])}")
    return rendered


def _where(results: Mapping[str, Any]) -> str:
    machine, versions, peer_name = results["machine"], results["versions"], results.get("peer", "pertpy")
    ptg, peer = ({"python": "?", **versions[side]} for side in ("ptg", "peer"))
    wanted = peer_name.replace("_", "-")
    more = " (more of short ones)" if results.get("repeats_short_calls") else ""
    release = next((number for name, number in peer.items() if name.startswith(wanted)), "?")
    return (
        f"{results['date']}, {_gpu(machine)}{machine['processor']}, {machine['cores']} cores, "
        f"{machine['memory_bytes'] / 2**30:.0f} GiB, load {machine['load_before']:g} before the run, "
        f"median of up to {results['repeat']} warm calls{more}. "
        f"ptg {ptg.get('ptg', '?')} on Python {ptg['python']}{_cupy(ptg)}; "
        f"{peer_name} {release} on Python {peer['python']}{_cupy(peer)}."
    )


def _gpu(machine: Mapping[str, Any]) -> str:
    gpu = machine.get("gpu")
    if not gpu:
        return ""
    several = f"{gpu['count']} x " if gpu["count"] > 1 else ""
    return f"{several}{gpu['name']} ({gpu['memory_bytes'] / 2**30:.0f} GiB, driver {gpu['driver']}), "


def _cupy(versions: Mapping[str, str]) -> str:
    return "".join(f", {name} {number}" for name, number in versions.items() if name.startswith("cupy"))


def _remarks(results: Mapping[str, Any]) -> list[str]:
    remarks = [_remark(outcome) for outcome in _outcomes(results) if not _why_no_times(outcome)]
    if {"cuml", "cuvs"} & set(results.get("absent", [])):
        remarks.append(_NOT_RAPIDS)
    return [remark for remark in remarks if remark]


def _remark(outcome: Outcome) -> str:
    parts = [f"{outcome.agreement} (accepted: {outcome.tolerance})"] if outcome.compared else []
    parts += [f"Note: {outcome.note}"] if outcome.note else []
    return f"{outcome.work}: {'. '.join(parts)}." if parts else ""


def _outcomes(results: Mapping[str, Any]) -> list[Outcome]:
    return [from_json(row) for row in results["rows"]]


def from_json(row: Mapping[str, Any]) -> Outcome:
    """Rebuild an outcome from a results file; fields that are newer than the file have their defaults."""
    values = {field.name: row[field.name] for field in fields(Outcome) if field.name in row or field.default is MISSING}
    for side in ("ptg", "peer"):
        values[side] = Timing(**values[side]) if values[side] else None
    return Outcome(**values)


def put_into_readme(results: Mapping[str, Any], readme: Path) -> None:
    """Replace what is between the marks of a suite by the short table, without rows that could not be measured.

    Raises
    ------
    SystemExit
        The marks are not there, once each.
    """
    begin, end = (mark.format(suite=results.get("suite", "cpu")) for mark in _MARKS)
    text = readme.read_text(encoding="utf-8")
    if text.count(begin) != 1 or text.count(end) != 1:
        raise SystemExit(f"{readme} must contain {begin} and {end} once each")
    before, after = text.split(begin)[0], text.split(end)[1]
    results = {**results, "rows": [row for row in results["rows"] if not row.get("failed")]}
    lines = [begin, *_markdown_table(table(results, short=True)), "", _where(results), "", end]
    readme.write_text(before + "\n".join(lines) + after, encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("result", type=Path, help="a file of benchmarks/results")
    parser.add_argument("--readme", action="store_true", help="replace the table in README.md")
    arguments = parser.parse_args()
    results = json.loads(arguments.result.read_text(encoding="utf-8"))
    if arguments.readme:
        put_into_readme(results, ROOT / "README.md")
    else:
        print(markdown(results))


if __name__ == "__main__":
    main()
