from __future__ import annotations

import threading

import pytest

from ptg.kernels.contract import Resources
from ptg.kernels.cpu.threads import run_tasks


class Recorder:
    def __init__(self):
        self.total, self.done = 0.0, 0.0

    def start(self, total):
        self.total += total

    def advance(self, done):
        self.done += done


@pytest.mark.parametrize("n_threads", [1, 2, 5])
def test_results_come_in_the_order_of_the_tasks(n_threads):
    progress = Recorder()
    results = run_tasks(lambda i: i * i, range(50), Resources(n_threads, progress=progress), work=[2.0] * 50)
    assert results == [i * i for i in range(50)]
    assert progress.total == progress.done == 100.0


def test_several_threads_are_really_used():
    barrier = threading.Barrier(3, timeout=10)
    assert run_tasks(lambda _: barrier.wait() >= 0, range(3), Resources(3)) == [True] * 3


@pytest.mark.parametrize("n_threads", [1, 3])
@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError])
def test_an_error_stops_the_tasks_not_yet_started(n_threads, error):
    started = []

    def task(i):
        started.append(i)
        if i == 2:
            raise error
        return i

    with pytest.raises(error):
        run_tasks(task, range(10_000), Resources(n_threads))
    assert len(started) < 10_000


def test_no_tasks():
    assert run_tasks(lambda i: i, [], Resources(2)) == []
