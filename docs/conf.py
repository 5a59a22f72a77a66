"""Sphinx configuration: ``make docs``."""

from __future__ import annotations

import json
import sys
from importlib.metadata import version as installed_version
from pathlib import Path

from sphinx.application import Sphinx

DOCS = Path(__file__).resolve().parent
sys.path.insert(0, str(DOCS.parent))  # for benchmarks.report, which renders the benchmark page

from benchmarks.report import markdown  # noqa: E402
from docs.parity import table as parity_table  # noqa: E402

from ptg.distance.metrics import available  # noqa: E402

project = "ptg"
author = "The ptg developers"
copyright = "2026, the ptg developers"
release = installed_version("ptg")

extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx.ext.viewcode",
]
exclude_patterns = ["_build", "_templates", "api/*.md"]
templates_path = ["_templates"]
html_theme = "furo"
html_title = f"ptg {release}"

default_role = "code"  # `name` in docstrings

myst_enable_extensions = ["dollarmath", "amsmath", "deflist"]
myst_heading_anchors = 3

autosummary_generate = True
autodoc_typehints = "none"  # the docstrings say it, with shapes and units
numpydoc_show_class_members = False  # the class template lists them
numpydoc_xref_param_type = False


def generate_pages() -> None:
    """Write what is included in pages but comes from elsewhere: the metrics table and the latest benchmarks."""
    folder = DOCS / "api"
    folder.mkdir(exist_ok=True)
    (folder / "metrics_table.md").write_text(metrics_table(), encoding="utf-8")
    (folder / "parity_table.md").write_text(parity_table(), encoding="utf-8")
    kept = sorted((DOCS.parent / "benchmarks" / "results").glob("*.json"))
    for name, suite in (("benchmark_table.md", "cpu"), ("benchmark_gpu_table.md", "gpu")):
        (folder / name).write_text(benchmark_table(kept, suite), encoding="utf-8")


def metrics_table() -> str:
    """Table of the registered metrics, from their records."""
    lines = [
        "| name | definition | options | symmetric | compares | runs on | source |",
        "|---|---|---|---|---|---|---|",
    ]
    compared = {"cells": "all cells", "means": "group means", "moments": "means and variances", "counts": "all counts"}
    for record in available().values():
        names = ", ".join(f"`{name}`" for name in (record.name, *record.aliases))
        options = "; ".join(
            f"`{option.name}`: {option.describe()} (default {option.default})".replace("|", "\\|")
            for option in record.options
        )
        cells = [
            names,
            record.formula.replace("|", "\\|").replace("_", "\\_"),
            options or "-",
            "yes" if record.symmetric else "no",
            compared[record.needs],
            "CPU, GPU" if record.on_gpu else "CPU",
            f"<https://doi.org/{record.source}>",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def benchmark_table(kept: list[Path], suite: str) -> str:
    """The latest kept results of a part of the benchmark, rendered as the benchmark itself renders them."""
    results = [json.loads(path.read_text(encoding="utf-8")) for path in kept]
    of_suite = [result for result in results if result.get("suite", "cpu") == suite]
    return markdown(of_suite[-1]) if of_suite else "No results are kept in `benchmarks/results` yet.\n"


def join_literals(_app: object, _what: str, _name: str, _obj: object, _options: object, lines: list[str]) -> None:
    """Put an inline literal that wraps onto one line: numpydoc cuts lists under "Returns" apart between lines."""
    for number in range(len(lines) - 1):
        if lines[number].count("``") % 2:
            start, end = lines[number].rsplit("``", 1)
            rest, after = lines[number + 1].split("``", 1) if "``" in lines[number + 1] else ("", lines[number + 1])
            indent = len(rest) - len(rest.lstrip())
            lines[number] = f"{start}``{end} {rest.strip()}``"
            lines[number + 1] = " " * indent + after.lstrip()


def setup(app: Sphinx) -> None:
    """Run before numpydoc does."""
    app.connect("autodoc-process-docstring", join_literals, priority=400)


generate_pages()
