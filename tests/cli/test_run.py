from __future__ import annotations

import json
import re

import anndata as ad
import numpy as np
import pandas as pd
import pytest

from ptg import Distance

TABLES = {"targets", "cells", "distances_to_control", "pairwise_distances", "guides"}
FIGURES = {"guides_per_cell", "guide_mixtures", "perturbed_cells", "distances_to_control", "distance_heatmap",
           "perturbation_scores", "discriminant_space"}  # fmt: skip


@pytest.fixture(scope="module")
def out(data, ptg, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "out"
    call = ("run", "--rna", data / "rna.h5ad", "--guides", data / "guides.h5ad", "--guide-target", "target")
    result = ptg(*call, "--perturbation", "label", "--control", "NT", "--replicate", "replicate", "-o", folder)
    assert result.exit_code == 0, result.output
    assert result.stdout.strip() == f"Report: {folder / 'report.html'}"
    assert "Guide assignment" in result.stderr
    return folder


def table(out, name):
    return pd.read_csv(out / "tables" / f"{name}.csv")


def test_all_files_are_there_and_listed(out):
    written = {str(path.relative_to(out).as_posix()) for path in out.rglob("*") if path.is_file()}
    expected = {f"tables/{name}.csv" for name in TABLES} | {f"figures/{name}.png" for name in FIGURES}
    assert written == expected | {"report.html", "screen.h5ad", "run.json"}
    assert set(json.loads((out / "run.json").read_text())["files"]) == written - {"run.json"}
    for name in FIGURES:
        assert (out / "figures" / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_screen_holds_labels_classes_and_scores(out, data):
    screen, rna = ad.read_h5ad(out / "screen.h5ad"), ad.read_h5ad(data / "rna.h5ad")
    truth = rna.obs["perturbation"].loc[screen.obs_names]
    known = truth.notna()
    assert (screen.obs["label"].astype(str)[known] == truth[known].astype(str)).mean() > 0.98
    assert {"mixscape_class", "mixscape_class_global", "mixscape_class_p_ko", "mixscale_score"} <= set(screen.obs)
    assert screen.obsm["X_pca"].shape == (screen.n_obs, 50)
    counts = screen.layers["counts"].toarray()
    expected = np.log1p(counts / counts.sum(1, keepdims=True) * 1e4)
    np.testing.assert_allclose(screen.X.toarray(), expected, rtol=1e-6)
    assert screen.uns["mixscape_targets"].index.is_unique


def test_perturbed_cells_are_those_that_truly_are(out, data):
    cells = table(out, "cells").set_index("cell")
    truth = ad.read_h5ad(data / "rna.h5ad").obs.loc[cells.index, "truly_perturbed"]
    strongest = cells["label"] == "target1"
    assert ((cells["mixscape_class_global"] == "KO") == truth)[strongest].mean() > 0.9


def test_cells_without_one_target_are_counted_and_kept_in_the_table(out):
    cells = table(out, "cells")
    assert len(cells) == 900
    took_part = cells["label"].notna()
    assert took_part.sum() == ad.read_h5ad(out / "screen.h5ad", backed="r").n_obs
    assert (cells.loc[cells["assigned_guide"] == "negative", "label"].isna()).all()
    page = (out / "report.html").read_text()
    assert f'<td>guides of one target</td><td class="n">{took_part.sum():,}</td>' in page


def test_tables_agree_with_each_other(out):
    targets, distances = table(out, "targets").set_index("target"), table(out, "distances_to_control")
    assert set(distances["target"]) == set(targets.index)
    assert distances["distance"].is_monotonic_decreasing
    assert (distances["cells"].to_numpy() == targets.loc[distances["target"], "cells"]).all()
    width = distances["upper end"] - distances["lower end"]
    np.testing.assert_allclose(width, 2 * 1.959963984540054 * distances["bootstrap s.d."])
    square = pd.read_csv(out / "tables" / "pairwise_distances.csv", index_col=0)
    np.testing.assert_allclose(square.loc["NT", distances["target"]], distances["distance"], rtol=1e-12)
    untested = targets[~targets["tested"]]
    assert untested["reason"].notna().all()
    assert targets.loc["target5", "reason"]


def test_distances_are_those_of_the_class_with_the_seed_that_was_given(out, data, ptg, tmp_path):
    screen = ad.read_h5ad(out / "screen.h5ad")
    call = ("run", "--rna", data / "rna.h5ad", "--guides", data / "guides.h5ad", "--perturbation", "label", "-q")
    options = ("--control", "NT", "--replicate", "replicate", "--n-bootstrap", 30, "--seed", 7, "-o", tmp_path)
    assert ptg(*call, *options).exit_code == 0
    distance = Distance("edistance", obsm_key="X_pca")
    for folder, n_bootstrap, seed in ((out, 100, 0), (tmp_path, 30, 7)):
        drawn = {"bootstrap": True, "n_bootstrap": n_bootstrap, "random_state": seed}
        _, variance = distance.onesided_distances(screen, "label", "NT", **drawn)
        found = table(folder, "distances_to_control").set_index("target")
        np.testing.assert_allclose(found["bootstrap s.d."], np.sqrt(variance[found.index]), rtol=1e-9)


def test_quiet_prints_nothing_and_labels_may_be_given(data, ptg, tmp_path):
    result = ptg("run", "--rna", data / "rna.h5ad", "--perturbation", "perturbation", "--control", "NT",
                 "--metric", "euclidean", "--n-bootstrap", 0, "--quiet", "--out", tmp_path)  # fmt: skip
    assert result.exit_code == 0, result.output
    assert result.output == ""
    assert "bootstrap s.d." not in table(tmp_path, "distances_to_control")
    assert not (tmp_path / "tables" / "guides.csv").exists()
    assert "without a label" in (tmp_path / "report.html").read_text()


def test_the_same_seed_gives_the_same_numbers_and_an_earlier_run_is_replaced(out, data, ptg, tmp_path):
    call = ("run", "--rna", data / "rna.h5ad", "--perturbation", "label", "--control", "NT", "-q", "--out", tmp_path)
    with_guides = ("--guides", data / "guides.h5ad", "--replicate", "replicate")
    (tmp_path / "notes.txt").write_text("mine")
    assert ptg(*call, *with_guides).exit_code == 0
    for name in TABLES:
        assert (tmp_path / "tables" / f"{name}.csv").read_text() == (out / "tables" / f"{name}.csv").read_text()
    without = [argument if argument != "label" else "perturbation" for argument in call]
    assert ptg(*without).exit_code == 0
    assert not (tmp_path / "tables" / "guides.csv").exists()
    assert not (tmp_path / "figures" / "guide_mixtures.png").exists()
    assert (tmp_path / "notes.txt").read_text() == "mine"
    assert not list(tmp_path.glob(".ptg*"))


def test_normalised_input_is_taken_as_it_is(out, data, ptg, tmp_path):
    screen = ad.read_h5ad(out / "screen.h5ad")
    for slot in (screen.layers, screen.obsm, screen.uns):
        for key in list(slot):
            del slot[key]
    screen.write_h5ad(tmp_path / "normalised.h5ad")
    result = ptg("run", "--rna", tmp_path / "normalised.h5ad", "--perturbation", "label", "--control", "NT",
                 "--replicate", "replicate", "--out", tmp_path / "again")  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "log1p-normalised already" in result.stderr
    for name in ("targets", "distances_to_control"):
        pd.testing.assert_frame_equal(table(tmp_path / "again", name), table(out, name), rtol=1e-6)


@pytest.mark.slow
def test_makefile_demo(ptg, tmp_path, monkeypatch, pytestconfig):
    makefile = (pytestconfig.rootpath / "Makefile").read_text().replace("\\\n", " ")
    recipe = re.search(r"^demo:.*\n((?:\t.*\n)+)", makefile, re.MULTILINE).group(1)
    commands = [line.split()[1:] for line in recipe.splitlines() if line.strip().startswith("$(BIN)/ptg")]
    assert [command[0] for command in commands] == ["simulate", "run"]
    monkeypatch.chdir(tmp_path)
    for command in commands:
        result = ptg(*command)
        assert result.exit_code == 0, result.output
    page = (tmp_path / "demo" / "report.html").read_text()
    assert "9 of 12 targets have cells that can be told from control" in page
