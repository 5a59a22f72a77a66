"""Compare every metric with pertpy's reference results and keep the differences: ``python docs/parity.py``.

The references are in the folder that PTG_REFERENCE_DIR names; only the differences are kept here, in `parity.json`,
with date and versions. `table` makes the table in the docs of them and of the registry.
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parent
KEPT = DOCS / "parity.json"
sys.path.insert(0, str(DOCS.parent))  # for tests.parity

from tests.parity.distance_cases import CASES, read_cells  # noqa: E402

from ptg.distance.metrics import available  # noqa: E402

_HOW = "PTG_REFERENCE_DIR=... python docs/parity.py"


def compare(reference: Path) -> dict[str, Any]:
    """Compute the largest relative difference of every case."""
    folder, cells = reference / "golden" / "distances", read_cells(reference)
    results = []
    for case in CASES:
        expected = case.expected(folder)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # groups without a value, fits cut short on purpose
            difference = case.difference(case.found(cells, list(expected.index)), expected)
        results.append(
            {
                "metric": case.metric,
                "label": case.label,
                "cells": case.cells,
                "n_values": int(difference.size),
                "difference": float(difference.max()),
            }
        )
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "versions": {name: version(name) for name in ("ptg", "numpy", "scipy", "scikit-learn", "numba")},
        "results": results,
    }


def table() -> str:
    """Render the kept differences: one row per case, and per metric without one."""
    if not KEPT.exists():
        return f"Not made yet: `{_HOW}`.\n"
    kept = json.loads(KEPT.read_text(encoding="utf-8"))
    cases = {(case.label, case.cells): case for case in CASES}
    rows = []
    for name in available():
        found = [result for result in kept["results"] if result["metric"] == name]
        for result in found:
            case = cases.get((result["label"], result["cells"]))
            cells = f"`{result['cells']}`"
            size = f"{result['difference']:.0e}"
            rows.append([f"`{result['label']}`", cells, str(result["n_values"]), size, case.why if case else ""])
        if not found:
            rows.append([f"`{name}`", "-", "-", "-", "pertpy does not have it; tested against its definition"])
    versions = ", ".join(f"{name} {number}" for name, number in kept["versions"].items())
    lines = ["| metric | cells | values | largest relative difference | cause |", "|---|---|---|---|---|"]
    lines += [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([*lines, "", f"Made on {kept['date']} with {versions}: `{_HOW}`.", ""])


def main() -> None:
    """Compare, and keep the result."""
    reference = Path(os.environ.get("PTG_REFERENCE_DIR", DOCS.parents[1] / "shared"))
    if not (reference / "golden").is_dir():
        raise SystemExit(f"no reference results in {reference}: {_HOW}")
    KEPT.write_text(json.dumps(compare(reference), indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
