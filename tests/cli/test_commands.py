from __future__ import annotations

import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest

from ptg import Distance, DistanceTest, GuideAssignment, Mixscape

COMMANDS = ("run", "guides", "mixscape", "distance", "simulate")


def test_version_and_help(ptg):
    assert ptg("--version").stdout.strip() == f"ptg {version('ptg')}"
    text = ptg("--help").stdout
    assert [name for name in COMMANDS if name not in text] == []
    for name in COMMANDS:
        assert ptg(name, "--help").exit_code == 0
    assert "cells with guides of" in " ".join(ptg("run", "--help").stdout.split())


def test_the_installed_command_starts_fast_and_without_heavy_imports():
    program = (
        "import sys, ptg.cli.app\n"
        "heavy = {'numpy', 'pandas', 'scipy', 'anndata', 'matplotlib', 'numba', 'sklearn'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
    command = Path(sys.executable).with_name("ptg")
    start = time.perf_counter()
    result = subprocess.run([command, "--help"], check=True, capture_output=True, text=True)
    assert "Usage: ptg" in result.stdout
    assert time.perf_counter() - start < 5


def test_a_failing_process_prints_one_line_and_exits_with_1(tmp_path):
    command = [Path(sys.executable).with_name("ptg"), "distance", "--rna", tmp_path / "no.h5ad", "--groupby", "g"]
    result = subprocess.run(command, check=False, capture_output=True, text=True)
    assert result.returncode == 1
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    assert result.stderr.startswith("ptg: error: --rna")


def test_simulate_writes_what_the_function_draws(ptg, tmp_path):
    from ptg.datasets import simulate_screen

    result = ptg("simulate", "--out", tmp_path / "new", "--n-cells", 300, "--n-genes", 40, "--n-targets", 3,
                 "--guides-per-target", 2, "--seed", 5)  # fmt: skip
    assert result.exit_code == 0, result.output
    rna, guides = simulate_screen(300, 40, 3, 2, seed=5)
    assert (ad.read_h5ad(tmp_path / "new" / "rna.h5ad").X != rna.X).nnz == 0
    assert (ad.read_h5ad(tmp_path / "new" / "guides.h5ad").X != guides.X).nnz == 0


@pytest.mark.parametrize("method", ["mixture", "max", "threshold"])
def test_guides_gives_the_numbers_of_the_class(method, data, ptg, tmp_path):
    result = ptg("guides", "--guides", data / "guides.h5ad", "--method", method, "--threshold", 8, "-o", tmp_path)
    assert result.exit_code == 0, result.output
    expected, tool = ad.read_h5ad(data / "guides.h5ad"), GuideAssignment()
    if method == "mixture":
        tool.assign_mixture_model(expected)
    elif method == "max":
        tool.assign_to_max_guide(expected, assignment_threshold=8)
    else:
        tool.assign_by_threshold(expected, assignment_threshold=8)
    found = ad.read_h5ad(tmp_path / "guides.h5ad")
    assert (found.layers["assigned_guides"] != expected.layers["assigned_guides"]).nnz == 0
    cells = pd.read_csv(tmp_path / "cells.csv", keep_default_na=False)
    assert np.array_equal(cells["n_guides"], np.asarray(expected.layers["assigned_guides"].sum(1)).ravel())
    one = cells["n_guides"] == 1
    position = expected.layers["assigned_guides"][one.to_numpy()].argmax(1)
    assert list(cells.loc[one, "guides"]) == list(expected.var_names[np.asarray(position).ravel()])
    assert set(cells.loc[cells["n_guides"] == 0, "guides"]) <= {""}
    assert (tmp_path / "figures" / "guides_per_cell.png").exists()
    assert f"{(cells['n_guides'] > 0).sum()} of 900 cells have a guide" in result.stdout


def test_mixscape_gives_the_numbers_of_the_class(data, ptg, tmp_path):
    result = ptg("mixscape", "--rna", data / "rna.h5ad", "--perturbation", "perturbation", "--control", "NT",
                 "--replicate", "replicate", "-o", tmp_path)  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "without a label" in result.stderr
    found = ad.read_h5ad(tmp_path / "screen.h5ad")
    again = ad.AnnData(found.X, obs=found.obs[["perturbation", "replicate"]], var=found.var, obsm=dict(found.obsm))
    Mixscape().perturbation_signature(again, "perturbation", "NT", split_by="replicate", use_rep="X_pca")
    Mixscape().mixscape(again, "perturbation", "NT")
    assert list(again.obs["mixscape_class"].astype(str)) == list(found.obs["mixscape_class"].astype(str))
    cells = pd.read_csv(tmp_path / "cells.csv")
    assert np.allclose(cells["mixscape_class_p_ko"], again.obs["mixscape_class_p_ko"])
    assert pd.read_csv(tmp_path / "targets.csv")["target"].nunique() == 5


@pytest.fixture(scope="module")
def embedded(data, tmp_path_factory):
    """The screen with a random embedding, as a file and in memory."""
    adata = ad.read_h5ad(data / "rna.h5ad")
    adata.obsm["X_pca"] = np.random.default_rng(0).normal(size=(adata.n_obs, 5))
    adata.obsm["other"] = adata.obsm["X_pca"][:, :2] * 3
    path = tmp_path_factory.mktemp("embedded") / "cells.h5ad"
    adata.write_h5ad(path)
    return path, adata


def test_distance_between_all_groups_goes_to_standard_output(embedded, ptg, tmp_path):
    path, adata = embedded
    result = ptg("distance", "--rna", path, "--groupby", "perturbation", "-q")
    assert result.exit_code == 0, result.output
    (tmp_path / "d.csv").write_text(result.stdout)
    found = pd.read_csv(tmp_path / "d.csv").set_index(["group", "other"])["distance"]
    expected = Distance("edistance").pairwise(adata, "perturbation")
    for one in expected.index:
        for other in expected.index:
            assert found[one, other] == pytest.approx(expected.loc[one, other], rel=1e-12)


def test_distance_to_a_control_with_bootstrap_goes_to_a_file(embedded, ptg, tmp_path):
    path, adata = embedded
    result = ptg("distance", "--rna", path, "--groupby", "perturbation", "--control", "NT", "--metric", "euclidean",
                 "--obsm-key", "other", "--n-bootstrap", 20, "--seed", 3, "-o", tmp_path / "d.csv")  # fmt: skip
    assert result.exit_code == 0, result.output
    assert result.stdout == ""
    found = pd.read_csv(tmp_path / "d.csv").set_index("group")
    mean, variance = Distance("euclidean", obsm_key="other").onesided_distances(
        adata, "perturbation", "NT", bootstrap=True, n_bootstrap=20, random_state=3
    )
    np.testing.assert_allclose(found["mean"], mean, rtol=1e-12)
    np.testing.assert_allclose(found["variance"], variance, rtol=1e-9, atol=1e-15)
    assert [path.name for path in tmp_path.iterdir()] == ["d.csv"]


def test_distance_with_a_permutation_test(embedded, ptg, tmp_path):
    path, adata = embedded
    result = ptg("distance", "--rna", path, "--groupby", "perturbation", "--control", "NT", "--n-perms", 30,
                 "--seed", 3, "-o", tmp_path / "d.csv", "-q")  # fmt: skip
    assert result.exit_code == 0, result.output
    found = pd.read_csv(tmp_path / "d.csv").set_index("group")
    expected = DistanceTest(n_perms=30, random_state=3)(adata, "perturbation", "NT")
    pd.testing.assert_frame_equal(found, expected, check_names=False, check_index_type=False)


@pytest.mark.parametrize("options", [(), ("--control", "NT", "--n-bootstrap", 10)])
def test_a_test_needs_a_control_and_no_bootstrap(embedded, ptg, options):
    result = ptg("distance", "--rna", embedded[0], "--groupby", "perturbation", "--n-perms", 30, *options)
    assert result.exit_code == 1
    assert "--n-perms tests against --control" in result.stderr


def test_distance_of_expression(embedded, ptg):
    path, _ = embedded
    result = ptg("distance", "--rna", path, "--groupby", "replicate", "--layer-key", "X", "--metric", "mse", "-q")
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[0] == "group,other,distance"
    assert len(result.stdout.splitlines()) == 10


def test_a_control_that_is_a_number_is_found_by_what_it_reads(data, ptg, tmp_path):
    rna = ad.read_h5ad(data / "rna.h5ad")
    rna.obs["number"] = rna.obs["perturbation"].astype("category").cat.codes.astype(int)
    rna.write_h5ad(tmp_path / "rna.h5ad")
    control = rna.obs.loc[rna.obs["perturbation"] == "NT", "number"].iloc[0]
    options = ("--rna", tmp_path / "rna.h5ad", "--control", control, "-q")
    mixscape = ptg("mixscape", *options, "--perturbation", "number", "--out", tmp_path / "out")
    assert mixscape.exit_code == 0, mixscape.output
    assert str(control) in set(pd.read_csv(tmp_path / "out" / "cells.csv", dtype=str)["mixscape_class_global"])
    for more in ((), ("--n-perms", 5)):
        result = ptg("distance", *options, "--groupby", "number", "--layer-key", "X", *more)
        assert result.exit_code == 0, result.output
        assert len(result.stdout.splitlines()) == 1 + rna.obs["number"].nunique()
