"""The documentation says what is true: its code runs, and the names, files and options in it exist."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

import matplotlib.pyplot as plt
import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(page for page in [*DOCS.glob("*.md"), *DOCS.glob("howto/*.md")] if page.name != "changelog.md")
NOT_RUN = re.compile(r"<!-- not run: (?P<reason>[^>]+) -->\n$")


def code_blocks(page: Path) -> list[str]:
    """Python blocks of a page, without those marked as not run."""
    parts = re.split(r"^```python\n(.*?)^```$", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    return [code for before, code in zip(parts[::2], parts[1::2], strict=False) if not NOT_RUN.search(before)]


@pytest.mark.parametrize(
    "page", [page for page in PAGES if code_blocks(page)], ids=lambda page: str(page.relative_to(DOCS))
)
@pytest.mark.filterwarnings("default")  # what other packages warn about is not the page's fault
def test_code_blocks_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {}
    for code in code_blocks(page):
        exec(compile(code, str(page), "exec"), namespace)
    plt.close("all")


def test_blocks_are_found_and_exceptions_have_a_reason():
    quickstart, migration = code_blocks(DOCS / "quickstart.md"), code_blocks(DOCS / "migration.md")
    assert len(quickstart) == 2
    assert "simulate_screen" in quickstart[0]
    assert migration
    assert not any("pertpy" in code for code in migration)


def documented_names() -> list[str]:
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    return sorted(set(re.findall(r"(?<![.\w])ptg(?:\.[A-Za-z_]+)+", text)))


@pytest.mark.parametrize("name", documented_names())
def test_names_exist(name):
    parts = name.split(".")
    found: object = None
    for length in range(len(parts), 0, -1):
        module = ".".join(parts[:length])
        try:
            found = import_module(module)
        except ModuleNotFoundError as error:
            if not module.startswith(str(error.name)):
                raise  # a missing dependency is another matter
        else:
            break
    for part in parts[length:]:
        found = getattr(found, part)


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CONTRIBUTING.md"], ids=lambda page: page.name)
def test_files_exist(page):
    text = page.read_text(encoding="utf-8")
    named = re.findall(r"`((?:src|tests|benchmarks|docs)/[\w/.-]+)`", text)
    assert not [name for name in named if not (ROOT / name).exists()]
    targets = re.findall(r"`make ([a-z-]+)`|^make ([a-z-]+)", text, flags=re.MULTILINE)
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert all(f"\n{first or second}:" in makefile for first, second in targets)


def test_contributing_steps_match_the_registry():
    from dataclasses import fields
    from inspect import signature

    from ptg.distance import Distance
    from ptg.distance.metrics import Metric, MetricRecord

    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    section = text[text.index("## Add a metric") : text.index("## Add a kernel")]
    named = set(re.findall(r"`([a-z_]+)`", section))
    known = {field.name for field in fields(MetricRecord)} | set(dir(Metric)) | set(dir(Distance))
    known |= {"undefined_because", *signature(Metric.values).parameters}
    assert named - known == set()


def test_every_metric_is_defined_in_the_conventions():
    from ptg.distance.metrics import available

    text = (DOCS / "conventions.md").read_text(encoding="utf-8")
    assert [name for name in available() if f"`{name}`" not in text] == []


def test_the_parity_table_is_of_these_metrics_and_within_the_tolerances():
    import json

    from docs.parity import KEPT, table
    from tests.parity.distance_cases import CASES

    from ptg.distance.metrics import available

    kept = {(r["label"], r["cells"]): r["difference"] for r in json.loads(KEPT.read_text(encoding="utf-8"))["results"]}
    assert set(kept) == {(case.label, case.cells) for case in CASES}, "run docs/parity.py"
    assert all(kept[case.label, case.cells] <= case.rtol for case in CASES)
    text = table()
    assert [name for name in available() if not re.search(rf"^\| `{name}[`,]", text, flags=re.MULTILINE)] == []


def test_sources_are_given_as_doi_links():
    links = re.findall(r"<(https://doi\.org/[^>]+)>", (DOCS / "conventions.md").read_text(encoding="utf-8"))
    assert len(links) >= 8
    assert all(re.fullmatch(r"https://doi\.org/10\.\d{4,5}/\S+", link) for link in links)


def test_pages_build_without_warnings(tmp_path):
    pytest.importorskip("sphinx", reason="the docs extra is not installed")
    pytest.importorskip("furo", reason="the docs extra is not installed")
    import subprocess
    import sys

    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", str(DOCS), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def console_commands() -> list[list[str]]:
    """The `ptg` commands of all console blocks, as words."""
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    blocks = re.findall(r"^```console\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [line.split() for line in lines if line.startswith("ptg ")]


@pytest.mark.parametrize("words", console_commands(), ids=" ".join)
def test_commands_have_the_options_that_pages_use(words):
    import typer

    from ptg.cli.app import app

    command = typer.main.get_command(app).commands[words[1]]  # type: ignore[attr-defined]
    known = {name for option in command.params for name in option.opts}
    required = {option.opts[0] for option in command.params if option.required}
    used = {word for word in words if word.startswith("--")}
    assert used <= known
    assert required <= used
