from __future__ import annotations

import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest

from ptg.cli.pipeline import ScreenSettings, analyse_screen
from ptg.datasets import simulate_screen
from ptg.report import Note, html, render_report
from ptg.report.figures import Picture, draw_pictures, strongest_targets, typical_guides
from ptg.report.tables import guide_table, target_table

EVIL = "<script>alert('x')</script>&\"NT\""


class Outline(HTMLParser):
    """Tags in order, attributes and text; fails on tags that are closed in the wrong order."""

    EMPTY = frozenset({"meta", "img", "br"})

    def __init__(self, page):
        super().__init__()
        self.tags, self.attributes, self.text, self._open = [], [], "", []
        self.feed(page)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in self.EMPTY:
            self._open.append(tag)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        if not self._open or self._open[-1] != "style":
            self.text += data


@pytest.fixture(scope="module")
def results():
    rna, guides = simulate_screen(700, 80, 5, 2, counts_per_cell=1500, seed=1)
    guides.var.loc["NTg1", "target"] = "NT"
    counts = guides.X.toarray()
    counts[:, 4] = np.minimum(counts[:, 4], 1)
    guides.X = counts
    return analyse_screen(
        rna, guides, ScreenSettings("perturbation", "NT", replicate="replicate", n_bootstrap=20, n_perms=50)
    )


@pytest.fixture(scope="module")
def pictures(results):
    return draw_pictures(results)


@pytest.fixture(scope="module")
def page(results, pictures):
    return render_report(results, pictures, title="A screen")


def test_the_page_is_well_formed_and_needs_nothing_else(page, pictures):
    outline = Outline(page)
    assert page.startswith("<!DOCTYPE html>")
    assert {"script", "link", "iframe"}.isdisjoint(outline.tags)
    sources = [value for name, value in outline.attributes if name == "src"]
    assert len(sources) == len(pictures)
    assert all(source.startswith("data:image/png;base64,iVBOR") for source in sources)
    assert "http" not in re.sub(r'src="[^"]*"', "", page)
    assert "url(" not in page
    assert outline.tags.count("img") == [name for name, _ in outline.attributes].count("alt")


def test_links_of_the_contents_lead_to_sections(page):
    outline = Outline(page)
    targets = {value for name, value in outline.attributes if name == "id"}
    links = {value.removeprefix("#") for name, value in outline.attributes if name == "href"}
    assert links == targets
    assert len(links) == 8


def test_the_page_says_what_happened(page, results):
    text = Outline(page).text
    cells = results.guides.cells
    assert sum(cells.values()) == 700
    for number in (results.screen.n_obs, cells["no guide"], cells["guides of several targets"]):
        assert f"{number:,}" in text
    for words in (
        "maximum count below 2",
        "1 guide without threshold (target1g1)",
        "fewer than min_de_genes=5",
        "20 bootstrap draws",
        "permuted 50 times",
        "adjusted p",
        "natural log1p",
        "n_bootstrap",
        "mixscape: min_de_genes",
        "guides: posterior_threshold",
        "distance: estimator",
        "numpy",
        "all steps",
        "was replaced",
    ):
        assert words in text, words
    for target in results.screen.uns["mixscape_targets"].index:
        assert target in text


def test_target_table_counts_cells(results):
    table = target_table(results.screen, results.perturbation).set_index("target")
    obs = results.screen.obs
    for target, row in table.iterrows():
        own = obs[obs["perturbation"] == target]
        assert row["cells"] == len(own)
        assert row["perturbed"] == (own["mixscape_class_global"] == "KO").sum()
        if row["tested"]:
            assert row["share perturbed"] == pytest.approx(row["perturbed"] / row["cells"])
            assert row["median mixscale score"] == pytest.approx(own["mixscale_score"].median())
        else:
            assert np.isnan(row["share perturbed"])
            assert row["reason"]


def test_guide_table_has_cells_and_reasons(results):
    table = guide_table(results.guides.adata, "target").set_index("guide")
    assert table.loc["target1g1", "reason"] == "maximum count below 2"
    assert table.loc["target1g1", "cells"] == 0
    assert np.isnan(table.loc["target1g1", "threshold"])
    counts = results.guides.adata[:, "NTg1"].X.toarray()
    assert table.loc["NTg1", "cells"] == (counts >= table.loc["NTg1", "threshold"]).sum()


def test_names_are_escaped_wherever_they_come_from(results, pictures):
    hostile = type(results)(**{**vars(results), "control": EVIL, "notes": [Note(EVIL, EVIL)], "perturbation": EVIL})
    hostile.screen = results.screen.copy()
    labels = results.screen.obs["perturbation"].cat.rename_categories({"NT": EVIL, "target1": f"{EVIL}1"})
    hostile.screen.obs[EVIL] = labels
    hostile.screen.uns["mixscape_targets"] = results.screen.uns["mixscape_targets"].rename({"target1": f"{EVIL}1"})
    hostile.parameters = {EVIL: EVIL}
    images = {name: Picture(picture.png, picture.width, EVIL) for name, picture in pictures.items()}
    page = render_report(hostile, images, title=EVIL)
    assert "<script" not in page
    assert Outline(page).text.count(EVIL) > 5


def test_figures_show_typical_guides_and_strong_targets(results):
    guides = results.guides.adata
    chosen = typical_guides(guides.var, guides.layers["assigned_guides"])
    cells = np.asarray(guides.layers["assigned_guides"].sum(0)).ravel()
    sizes = [cells[guides.var_names.get_loc(name)] for name in chosen]
    assert len(chosen) == 6
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] == cells.max()
    assert "target1g1" not in chosen
    share = (results.screen.obs["mixscape_class_global"] == "KO").groupby(
        results.screen.obs["perturbation"], observed=True
    )
    assert strongest_targets(results.screen, "perturbation")[0] == share.mean().idxmax()


def test_long_tables_are_folded_and_cut():
    short, long = pd.DataFrame({"x": range(10)}), pd.DataFrame({"x": range(1000)})
    assert "<details>" not in html.table(short, more_in="x.csv")
    text = html.table(long, more_in="x.csv")
    Outline(text)
    assert text.startswith("<details><summary>Show the table of 1,000 rows")
    assert text.count("<tr>") == 201
    assert "800 more rows are in x.csv." in text


@pytest.mark.parametrize(
    ("value", "spec", "text"),
    [
        (None, "", "\N{EN DASH}"),
        (float("nan"), ".1%", "\N{EN DASH}"),
        ("", "", "\N{EN DASH}"),
        (12345, "", "12,345"),
        (np.int64(7), "", "7"),
        (0.123456, "", "0.1235"),
        (np.float32(0.5), ".1%", "50.0%"),
        (-0.00001, ".3f", "0.000"),
        (-0.25, ".1f", "-0.2"),
        (True, "", "yes"),
        (np.False_, "", "no"),
        ("<b>", "", "<b>"),
    ],
)
def test_values_are_spelled(value, spec, text):
    assert html.spell(value, spec) == text


@pytest.mark.parametrize(("largest", "spec"), [(123.4, ",.2f"), (1.2, ",.4f"), (0.012, ",.6f"), (0.0, ",.4f")])
def test_compared_numbers_share_a_format(largest, spec):
    assert html.fixed_decimals(pd.DataFrame({"a": [-largest, 0.001 * largest, np.nan]})) == spec
