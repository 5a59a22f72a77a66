"""Every CUDA source compiles for every supported architecture; no GPU is needed for that.

Without CuPy these tests are skipped, and with ``PTG_REQUIRE_NVRTC=1``, as in continuous integration, they fail.
"""

from __future__ import annotations

import os
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

import ptg.kernels

if os.environ.get("PTG_REQUIRE_NVRTC") != "1":
    pytest.importorskip("cupy", reason="CuPy is not installed")

FOLDER = Path(ptg.kernels.__file__).parent / "cuda"
ARCHITECTURES = ["sm_75", "sm_80", "sm_90", "sm_120"]
#: Sources with instructions that some architectures lack.
SPECIAL = {"energy_wgmma.cu": ["sm_90a"], "energy_mma.cu": ["sm_80", "sm_90", "sm_120"]}


#: Other types and layouts than those that a source has by default.
VARIANTS = [
    ("counts.cu", ("-DIndex=long long", "-DCount=bool")),
    ("counts.cu", ("-DCount=unsigned long long",)),
    ("matrices.cu", ("-DDENSE", "-DValue=double")),
    ("matrices.cu", ("-DValue=double", "-DIndex=long long")),
    ("signature_blocks.cu", ("-DDENSE", "-DValue=double")),
    ("signature_blocks.cu", ("-DValue=double", "-DIndex=long long")),
    ("energy_differences.cu", ("-DDRAWS=128",)),
    ("energy_mma.cu", ("-DDRAWS=128",)),
    ("energy_mma.cu", ("-DWARP_FRAGMENTS=2", "-DSTAGES=3", "-DBLOCKS=2")),
    ("energy_mma.cu", ("-DEIGHTS=16", "-DREST=2", "-DDRAWS=128", "-DCOLUMNS=32")),
    ("energy_prepare.cu", ("-DEIGHTS=0", "-DREST=4", "-DWeight=bool")),
    ("kernel_sums.cu", ("-DACCUMULATE=1", "-DFINISH=0")),
    ("kernel_sums.cu", ("-DACCUMULATE=2", "-DFINISH=0")),
    ("kernel_sums.cu", ("-DACCUMULATE=3", "-DFINISH=2")),
    ("moments.cu", ("-DDENSE", "-DValue=double", "-DDRAWS=8", "-DWeight=unsigned short")),
    ("moments.cu", ("-DValue=double", "-DIndex=long long", "-DWeight=bool")),
    ("neighbor_means.cu", ("-DDENSE", "-DOut=double")),
    ("neighbor_means.cu", ("-DValue=double", "-DIndex=long long")),
    ("permutation.cu", ("-DValue=double",)),
    ("principal_axes.cu", ("-DDENSE",)),
    ("principal_axes.cu", ("-DValue=double", "-DIndex=long long")),
    ("ranksum.cu", ("-DDENSE",)),
    ("ranksum.cu", ("-DValue=double", "-DIndex=long long")),
    ("sinkhorn_bands.cu", ("-DReal=double", "-DChain=double")),
    ("sinkhorn_cells.cu", ("-DDENSE",)),
    ("sinkhorn_cells.cu", ("-DReal=double", "-DValue=double", "-DIndex=long long")),
    ("sinkhorn_products.cu", ("-DReal=double",)),
    ("sinkhorn_step.cu", ("-DReal=double", "-DChain=double")),
    ("sinkhorn_sweep.cu", ("-DWIDE_LANES",)),
    ("sinkhorn_sweep.cu", ("-DChain=double", "-DWIDE_LANES")),
    ("sinkhorn_sweep.cu", ("-DReal=double", "-DChain=double")),
]


def cases():
    return [(path.name, arch) for path in sorted(FOLDER.glob("*.cu")) for arch in SPECIAL.get(path.name, ARCHITECTURES)]


@pytest.mark.parametrize(("name", "architecture"), cases())
def test_every_source_compiles(name, architecture):
    from ptg.kernels.cuda.source import cubin

    assert len(cubin(name, (), architecture)) > 1000


@pytest.mark.parametrize(("name", "options"), VARIANTS)
def test_sources_compile_for_other_types(name, options):
    from ptg.kernels.cuda.source import cubin

    assert len(cubin(name, options, "sm_90")) > 1000


def test_an_error_in_a_source_is_shown(monkeypatch):
    from ptg.kernels.cuda import source

    monkeypatch.setattr(source, "read_source", lambda name: "__global__ void broken( {")
    with pytest.raises(RuntimeError, match="does not compile for sm_90"):
        source.cubin("broken.cu", (), "sm_90")


def test_the_sanitizer_knows_every_kernel():
    from tests.sanitized import declared

    names = declared()
    for path in FOLDER.glob("*.cu"):
        text = path.read_text(encoding="utf-8")
        assert any(re.search(rf"\b{name}(##\w+)*\(", text) for name in names), path.name
    assert {"symmetric_eigen", "nearest_", "classify_targets"} <= names
    assert not any(name.startswith("__") for name in names)


def test_threads_that_compile_the_same_do_not_meet(monkeypatch, tmp_path):
    """Each GPU is used from a thread of its own, and all want the kernel at once."""
    from ptg.kernels.cuda import source

    compiled = Barrier(2)

    def code(*_):
        compiled.wait(timeout=10)
        return b"x" * (1 << 22)

    monkeypatch.setenv("CUPY_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(source, "cubin", code)
    monkeypatch.setattr(source.cp, "RawModule", lambda path: Path(path).read_bytes())
    find = source._architecture_module.__wrapped__
    for turn in range(20):
        options = (f"-DTURN={turn}",)
        with ThreadPoolExecutor(2) as pool:
            found = list(pool.map(lambda _, options=options: find("counts.cu", options, "sm_90a"), range(2)))
        assert found == [b"x" * (1 << 22)] * 2
    assert {path.suffix for path in tmp_path.iterdir()} == {".cubin"}
