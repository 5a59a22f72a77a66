"""The main job on real data."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest

SCREEN = (
    "--guide-target target --perturbation perturbation --control NT --replicate replicate --size-factor n_umis_full"
)


@pytest.mark.slow
def test_papalexi_from_raw_counts_to_report(reference, tmp_path):
    folder = reference / "data"
    files = ["--rna", folder / "papalexi2021.h5ad", "--guides", folder / "papalexi2021_guides.h5ad"]
    command = [Path(sys.executable).with_name("ptg"), "run", *files, *SCREEN.split(), "--quiet", "-o", tmp_path / "out"]
    start = time.perf_counter()
    process = subprocess.Popen(command, stderr=subprocess.PIPE)
    with process.stderr:
        error = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)  # of this one process, as Popen.wait does not tell
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, error
    assert error == b""
    assert time.perf_counter() - start < 180
    assert usage.ru_maxrss < 4 << 20  # KiB

    out = tmp_path / "out"
    raw, screen = ad.read_h5ad(folder / "papalexi2021.h5ad"), ad.read_h5ad(out / "screen.h5ad")
    published = raw.obs.loc[screen.obs_names, "perturbation"].astype(str).to_numpy()
    assert 18_300 < screen.n_obs < 18_500
    assert (screen.obs["perturbation"].astype(str) == published).mean() > 0.99

    targets = pd.read_csv(out / "tables" / "targets.csv", index_col="target")
    tested = targets.index[targets["tested"]]
    assert set(tested) == {"STAT1", "IFNGR1", "IFNGR2", "JAK2", "IRF1", "SMAD4", "BRD4"}
    assert targets.loc[["STAT1", "JAK2", "IFNGR1", "IFNGR2"], "share perturbed"].min() > 0.6
    # Nearly the classes of the reference, which took the published labels and fewer genes.
    golden = pd.read_csv(reference / "golden" / "mixscape" / "pertpy_cells.csv.gz", index_col=0)
    known = screen.obs["perturbation"].isin(tested).to_numpy()
    found = screen.obs.loc[known, "mixscape_class_global"].astype(str)
    assert (found == golden.loc[found.index, "nn_exact_class_global"].to_numpy()).mean() > 0.95

    distances = pd.read_csv(out / "tables" / "distances_to_control.csv", index_col="target")
    assert list(distances.index[:4]) == ["STAT1", "JAK2", "IFNGR1", "IFNGR2"]
    assert (distances.loc[["STAT1", "SMAD4", "IRF1"], "lower end"] > 0).all()
    assert (np.abs(distances.loc[["CD86", "ATF2", "CAV1"], "distance"]) < 0.01).all()

    guides = pd.read_csv(out / "tables" / "guides.csv", index_col="guide")
    assert set(guides.index[guides["threshold"].isna()]) == {"PDL1g2", "PDL1g3", "MYCg4"}
    page = (out / "report.html").read_text()
    assert all(name in page for name in ("PDL1g2", "maximum count below 2", "n_umis_full", "99.7%"))
