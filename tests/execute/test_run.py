from __future__ import annotations

import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

import ptg
from ptg.data import InputError
from ptg.execute import open_run, settings
from ptg.execute.device import why_no_gpu
from ptg.execute.progress import ProgressBar


@pytest.mark.parametrize("device", ["auto", "cpu", None])
def test_auto_takes_a_gpu_where_there_is_one(device):
    with open_run("work", device=device) as run:
        assert run.kernels.name == ("cpu" if device == "cpu" or why_no_gpu() else "cuda")
        assert bool(run.resources.devices) == (run.kernels.name == "cuda")
        assert run.resources.n_threads >= 1
        assert run.resources.memory >= 1 << 20


@pytest.mark.parametrize("multi_gpu", [None, True, False, [0], [0, 2], "0,2", "0, 2"])
def test_multi_gpu_is_accepted_on_a_cpu(multi_gpu):
    with open_run("work", device="cpu", multi_gpu=multi_gpu) as run:
        assert run.kernels.name == "cpu"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"device": "gpu"}, ("device='gpu'", "'cuda'")),
        ({"device": 0}, ("device=0", "'auto'")),
        ({"device": "cuda:x"}, ("device='cuda:x'",)),
        ({"multi_gpu": "one"}, ("multi_gpu='one'", "'0,2'")),
        ({"multi_gpu": []}, ("multi_gpu=[]",)),
        ({"multi_gpu": 2}, ("multi_gpu=2",)),
        ({"multi_gpu": [-1]}, ("multi_gpu=[-1]",)),
    ],
)
def test_devices_that_do_not_exist(arguments, words):
    with pytest.raises(InputError) as caught, open_run("work", **{"device": "cpu"} | arguments):
        pass
    assert all(word in str(caught.value) for word in words), caught.value


@pytest.mark.parametrize(("name", "value"), [("n_threads", 0), ("n_threads", "two"), ("memory", 10), ("device", "gpu")])
def test_settings_are_checked_when_used(monkeypatch, name, value):
    monkeypatch.setattr(settings, name, value)
    with pytest.raises(InputError, match=name), open_run("work"):
        pass


def test_settings_are_public_and_used(monkeypatch):
    assert ptg.settings is settings
    monkeypatch.setattr(settings, "n_threads", 3)
    monkeypatch.setattr(settings, "memory", 5 << 20)
    with open_run("work") as run:
        assert (run.resources.n_threads, run.resources.memory) == (3, 5 << 20)


def test_progress_is_drawn_for_long_work_only_when_watched(monkeypatch, capsys):
    monkeypatch.setattr("ptg.execute.progress._PATIENCE", -1.0)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with ProgressBar("counting sheep", show=True) as bar:
        bar.start(2)
        bar.advance(1)
        assert bar._bar is not None
        assert bar._bar.tasks[0].completed == 1
    with ProgressBar("counting sheep", show=False) as bar:
        bar.start(1)
        bar.advance(1)
        assert bar._bar is None


def test_threads_share_one_bar(monkeypatch, capsys):
    """Each GPU reports from a thread of its own: a second bar would never be stopped."""
    monkeypatch.setattr("ptg.execute.progress._PATIENCE", -1.0)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    opened = []

    def open_slowly(bar):
        opened.append(bar)
        time.sleep(0.05)
        return open_at_once(bar)

    open_at_once = ProgressBar._open
    monkeypatch.setattr(ProgressBar, "_open", open_slowly)
    with ProgressBar("counting sheep", show=True) as bar, ThreadPoolExecutor(4) as pool:
        bar.start(4)
        list(pool.map(bar.advance, [1.0] * 4))
    assert len(opened) == 1
    assert bar._bar.tasks[0].completed == 4


@pytest.mark.skipif(not why_no_gpu(), reason="a GPU is there")
@pytest.mark.parametrize("device", ["cuda", "cuda:0"])
def test_a_gpu_that_is_not_there(device):
    with (
        pytest.raises(InputError, match=f"device='{device}' cannot be used: .*CuPy.* Pass device='cpu'"),
        open_run("work", device=device),
    ):
        pass


@pytest.mark.gpu
@pytest.mark.skipif(bool(why_no_gpu()), reason=why_no_gpu() or "a GPU is there")
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"device": "cuda:99"}, ("there is no GPU 99",)),
        ({"device": "cuda", "multi_gpu": [0, 99]}, ("there is no GPU 99", "multi_gpu=[0, 99]")),
        ({"device": "cuda:0", "multi_gpu": [1]}, ("device='cuda:0' is one GPU",)),
    ],
)
def test_gpus_that_do_not_exist(arguments, words):
    with pytest.raises(InputError) as caught, open_run("work", **arguments):
        pass
    assert all(word in str(caught.value) for word in words), caught.value
