"""What goes wrong on the command line: one clear line, the right exit code, nothing half written."""

from __future__ import annotations

import errno
import functools
import hashlib
import json
import os
import resource
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from typer.testing import CliRunner

from ptg.cli import files, write
from ptg.cli.app import app
from ptg.datasets import simulate_screen

PTG = Path(sys.executable).with_name("ptg")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A small screen and broken variants of it, as files."""
    folder = tmp_path_factory.mktemp("data")
    rna, guides = simulate_screen(400, 60, 4, 2, counts_per_cell=1000, seed=2)
    variants = {"rna": rna, "guides": guides, "strangers": guides.copy(), "fractions": guides.copy()}
    variants["strangers"].obs_names = [f"other{i}" for i in range(400)]
    variants["fractions"].X = guides.X * 0.5
    variants["untargeted"] = guides.copy()
    variants["untargeted"].var.iloc[3, 0] = np.nan
    scaled = rna.X.toarray() - rna.X.toarray().mean(0)
    variants["scaled"] = ad.AnnData(scaled, obs=rna.obs, var=rna.var)
    variants["logs"] = ad.AnnData(np.log1p(rna.X.toarray()), obs=rna.obs, var=rna.var)
    variants["missing"] = ad.AnnData(np.where(rna.X.toarray() > 30, np.nan, 1.0), obs=rna.obs, var=rna.var)
    variants["empty"] = ad.AnnData(rna.X * 0, obs=rna.obs, var=rna.var)
    variants["unseen"] = ad.AnnData(guides.X * 0, obs=guides.obs, var=guides.var)
    variants["unmarked"] = ad.AnnData(rna.X, obs=rna.obs, var=rna.var.assign(highly_variable=False))
    variants["depth"] = rna.copy()
    variants["depth"].obs["depth"] = np.r_[0.0, np.ones(399)]
    for name, adata in variants.items():
        adata.write_h5ad(folder / f"{name}.h5ad")
    (folder / "text.h5ad").write_text("not HDF5")
    (folder / "cut.h5ad").write_bytes((folder / "rna.h5ad").read_bytes()[:3000])
    with h5py.File(folder / "other.h5ad", "w") as file:
        file["x"] = 1
    return folder


@dataclass(frozen=True)
class BadLine:
    """A command line that must fail; `{d}` is the folder with the data, `{out}` one that does not exist yet."""

    name: str
    line: str
    words: tuple[str, ...]
    code: int = 1


RUN = "run --rna {d}/rna.h5ad --perturbation perturbation --control NT --out {out} "
GUIDES = "run --rna {d}/rna.h5ad --guides {d}/%s.h5ad --perturbation label --control NT --out {out} "
BAD = [
    BadLine("no file", RUN.replace("rna.h5ad", "rnaa.h5ad"), ("--rna", "rnaa.h5ad", "does not exist")),
    BadLine("folder", RUN.replace("/rna.h5ad", ""), ("--rna", "is a folder")),
    BadLine("text file", RUN.replace("rna.h5ad", "text.h5ad"), ("text.h5ad", "not a readable .h5ad")),
    BadLine("cut file", RUN.replace("rna.h5ad", "cut.h5ad"), ("cut.h5ad", "not a readable .h5ad")),
    BadLine("other HDF5", RUN.replace("rna.h5ad", "other.h5ad"), ("other.h5ad", "not a readable .h5ad")),
    BadLine("no guides file", RUN + "--guides {d}/g.h5ad", ("--guides", "g.h5ad", "does not exist")),
    BadLine("column", RUN.replace("n perturbation", "n perturbaton"), ("'perturbaton'", "nearest: 'perturbation'")),
    BadLine("control", RUN.replace("NT", "nt"), ("control='nt'", "'NT'")),
    BadLine("replicate", RUN + "--replicate rep", ("replicate='rep'", "nearest: 'replicate'")),
    BadLine("metric", RUN + "--metric edist", ("metric='edist'", "'edistance'")),
    BadLine("metric of one control", RUN + "--metric classifier_cp", ("metric='classifier_cp'", "all groups at once")),
    BadLine("metric of counts", RUN + "--metric nb_ll", ("metric='nb_ll'", "raw counts", "ptg distance")),
    BadLine("no counts", RUN.replace("rna.h5", "empty.h5"), ("none of the 388 cells has an RNA count",)),
    BadLine("no guide counts", GUIDES % "unseen", ("no cell has guides of exactly one target", "ptg guides")),
    BadLine("no variable genes", RUN.replace("rna.h5", "unmarked.h5"), ("var['highly_variable']", "marks no gene")),
    BadLine("bootstrap", RUN + "--n-bootstrap -1", ("n_bootstrap=-1", "at least 0")),
    BadLine("device", RUN + "--device gpu", ("device='gpu'", "'cpu'")),
    BadLine("no CUDA", RUN + "--device cuda", ("device='cuda'", "device='cpu'")),
    BadLine("size factor", RUN + "--size-factor depth", ("size_factor='depth'", "adata.obs")),
    BadLine(
        "zero depth", RUN.replace("rna.h5", "depth.h5") + "--size-factor depth", ("size_factors", "1 value", "zero")
    ),
    BadLine("scaled", RUN.replace("rna.h5", "scaled.h5"), ("neither raw counts nor log1p", "values from -")),
    BadLine("depth of logs", RUN.replace("rna.h5", "logs.h5") + "--size-factor n_counts", ("not raw counts",)),
    BadLine("NaN", RUN.replace("rna.h5", "missing.h5"), ("NaN or infinite",)),
    BadLine("strangers", GUIDES % "strangers", ("no cell name in common", "cell001", "other0")),
    BadLine("fractional guides", GUIDES % "fractions", ("not whole numbers", "raw")),
    BadLine("guide without target", GUIDES % "untargeted", ("guide-target", "missing", "NTg4")),
    BadLine(
        "guide target", GUIDES % "guides" + "--guide-target gene", ("guide-target='gene'", "guides.var", "'target'")
    ),
    BadLine("control among guides", (GUIDES % "guides").replace("NT", "ctrl"), ("control='ctrl'", "'NT'")),
    BadLine("out is a file", RUN.replace("{out}", "{d}/text.h5ad"), ("--out", "text.h5ad", "cannot be written")),
    BadLine("out below a file", RUN.replace("{out}", "{d}/text.h5ad/x"), ("--out", "text.h5ad/x", "cannot be written")),
    BadLine("method", "guides --guides {d}/guides.h5ad --method em --out {out}", ("--method='em'", "'mixture'")),
    BadLine("threshold", "guides --guides {d}/guides.h5ad --method max --threshold 0 --out {out}", ("threshold=0",)),
    BadLine(
        "posterior", "guides --guides {d}/guides.h5ad --posterior-threshold 2 --out {out}", ("posterior_threshold=2",)
    ),
    BadLine("embedding", "distance --rna {d}/rna.h5ad --groupby perturbation", ("X_pca", "adata.obsm")),
    BadLine("layer", "distance --rna {d}/rna.h5ad --groupby perturbation --layer-key raw", ("'raw'", "layers")),
    BadLine("groupby", "distance --rna {d}/rna.h5ad --groupby depth --layer-key X", ("groupby='depth'",)),
    BadLine(
        "both keys", "distance --rna {d}/rna.h5ad --groupby x --layer-key X --obsm-key y", ("layer_key", "obsm_key")
    ),
    BadLine(
        "no folder", "distance --rna {d}/rna.h5ad --groupby replicate --layer-key X -o {out}/d.csv", ("--out", "d.csv")
    ),
    BadLine(
        "mixscape control", "mixscape --rna {d}/rna.h5ad --perturbation perturbation --control N --out {out}", ("'N'",)
    ),
    BadLine("too few cells", "simulate --out {out} --n-cells 60", ("n_cells=60", "12 targets")),
    BadLine("no command", "analyse", ("No such command", "analyse"), 2),
    BadLine("no option", RUN + "--colour red", ("No such option", "--colour"), 2),
    BadLine("missing option", "run --rna {d}/rna.h5ad", ("Missing option",), 2),
    BadLine("not a number", RUN + "--seed one", ("--seed", "integer"), 2),
]


def invoke(line: str, data: Path, out: Path):
    return CliRunner().invoke(app, line.format(d=data, out=out).split())


def digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: bad.name)
def test_bad_lines_end_with_one_clear_line(bad, data, tmp_path):
    before = digests(data)
    result = invoke(bad.line, data, tmp_path / "out")
    assert result.exit_code == bad.code, result.output
    assert result.stdout == ""
    assert [word for word in bad.words if word not in result.stderr] == [], result.stderr
    if bad.code == 1:
        last = result.stderr.splitlines()[-1]
        assert last.startswith("ptg: error: ")
        assert [word for word in bad.words if word not in last] == []
        assert "Traceback" not in result.stderr
    assert list(tmp_path.iterdir()) == []
    assert digests(data) == before


@pytest.mark.parametrize(
    "name",
    [
        "no file",
        "control",
        "metric",
        "metric of one control",
        "metric of counts",
        "device",
        "replicate",
        "out is a file",
        "guide target",
    ],
)
def test_what_can_be_known_is_said_before_any_work(name, data, tmp_path):
    bad = next(bad for bad in BAD if bad.name == name)
    assert len(invoke(bad.line, data, tmp_path / "out").stderr.splitlines()) == 1


def full_disk(*_args, **_kwargs):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


WRITING = {
    "run": (RUN, write, "write_h5ad"),
    "run, tables": (RUN, pd.DataFrame, "to_csv"),
    "run, pictures": (RUN, Path, "write_bytes"),
    "run, report": (RUN, Path, "write_text"),
    "run, at the end": (RUN, Path, "replace"),
    "guides": ("guides --guides {d}/guides.h5ad --out {out}", write, "write_h5ad"),
    "mixscape": (RUN.replace("run", "mixscape", 1), write, "write_h5ad"),
    "distance": (
        "distance --rna {d}/rna.h5ad --groupby replicate --layer-key X --metric mse -q -o {out}.csv",
        Path,
        "write_text",
    ),
    "simulate": ("simulate --out {out} --n-cells 200 --n-genes 50", Path, "replace"),
}


@pytest.mark.parametrize("step", WRITING)
def test_a_full_disk_leaves_nothing(step, data, tmp_path, monkeypatch):
    line, owner, name = WRITING[step]
    monkeypatch.setattr(owner, name, full_disk)
    result = invoke(line, data, tmp_path / "out")
    monkeypatch.undo()
    assert result.exit_code == 1, result.output
    assert f"--out '{tmp_path / 'out'}" in result.stderr.splitlines()[-1]
    assert "No space left on device" in result.stderr.splitlines()[-1]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("limit", [1_000, 200_000])
def test_a_disk_that_is_really_full_does_not_crash_hdf5(limit, tmp_path):
    def limited():
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    command = [PTG, "simulate", "--out", tmp_path / "out", "--n-cells", "600", "--n-genes", "200", "--n-targets", "4"]
    result = subprocess.run(command, check=False, capture_output=True, text=True, preexec_fn=limited)
    assert result.returncode == 1, result
    assert result.stderr.count("\n") == 1
    assert "File too large" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_failure_leaves_an_earlier_run_as_it_was(data, tmp_path, monkeypatch):
    out = tmp_path / "out"
    assert invoke(RUN + "-q", data, out).exit_code == 0
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    monkeypatch.setattr(write, "write_h5ad", full_disk)
    assert invoke(RUN + "-q --seed 1", data, out).exit_code == 1
    monkeypatch.undo()
    assert invoke(RUN + "-q --n-bootstrap -3", data, out).exit_code == 1
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


STEPS = [
    "ptg.data.embedding.principal_components",
    "ptg.guides.GuideAssignment.assign_mixture_model",
    "ptg.mixscape.Mixscape.perturbation_signature",
    "ptg.mixscape.Mixscape.mixscape",
    "ptg.mixscape.Mixscape.mixscale",
    "ptg.mixscape.Mixscape.lda",
    "ptg.distance.Distance.onesided_distances",
    "ptg.distance.Distance.pairwise",
    "ptg.report.figures.draw_pictures",
    "ptg.cli.write.write_h5ad",
]


@pytest.mark.parametrize("step", STEPS)
def test_ctrl_c_in_any_step_leaves_nothing(step, data, tmp_path, monkeypatch):
    def interrupt(*_args, **_kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(step, interrupt)
    before = digests(data)
    result = invoke(GUIDES % "guides" + "-q", data, tmp_path / "out")
    assert result.exit_code == 130, result.output
    assert result.stderr == "ptg: error: interrupted; nothing was written.\n"
    assert list(tmp_path.iterdir()) == []
    assert digests(data) == before


def test_a_real_interrupt_stops_the_process(data, tmp_path):
    line = (RUN + "--n-bootstrap 20000000").format(d=data, out=tmp_path / "out")
    # A background job of a shell inherits that Ctrl-C is ignored; no lock is taken between fork and exec.
    heed = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    process = subprocess.Popen([PTG, *line.split()], stderr=subprocess.PIPE, text=True, preexec_fn=heed)  # noqa: PLW1509
    seen = []
    for text in process.stderr:
        seen.append(text)
        if text.startswith("Principal components"):
            break
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    _, rest = process.communicate(timeout=60)
    assert process.returncode == 130, (seen, rest)
    assert "Traceback" not in rest
    assert rest.splitlines()[-1] == "ptg: error: interrupted; nothing was written."
    assert list(tmp_path.iterdir()) == []


def test_a_bug_is_not_dressed_up_as_a_user_error(data, tmp_path, monkeypatch):
    def bug(*_args, **_kwargs):
        raise ValueError("shapes do not match")

    monkeypatch.setattr("ptg.mixscape.Mixscape.mixscape", bug)
    result = invoke(RUN + "-q", data, tmp_path / "out")
    assert isinstance(result.exception, ValueError)
    assert list(tmp_path.iterdir()) == []


def test_only_files_of_an_earlier_run_are_removed(tmp_path):
    outside = tmp_path / "outside.txt"
    outside.write_text("x")
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine.txt").write_text("x")
    (out / "old.csv").write_text("x")
    (out / "run.json").write_text(json.dumps({"files": ["old.csv", "../outside.txt", str(outside), 3]}))
    with files.OutputFolder(out) as folder:
        folder.new_file("new.csv").write_text("y")
    assert outside.exists()
    assert sorted(path.name for path in out.iterdir()) == ["mine.txt", "new.csv"]


def test_cells_without_counts_and_sparse_formats_are_no_error(tmp_path, data):
    rna = ad.read_h5ad(data / "rna.h5ad")
    x = rna.X.toarray()
    x[:3] = 0
    ad.AnnData(sp.csc_matrix(x), obs=rna.obs, var=rna.var).write_h5ad(tmp_path / "rna.h5ad")
    result = invoke(RUN, tmp_path, tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert "Left out: 3 cells without a single RNA count" in (tmp_path / "out" / "report.html").read_text()
