from __future__ import annotations

import os
import subprocess
import sys
import threading
import time

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


def test_running_tasks_end_before_the_error_is_raised():
    """They may still read arrays that the caller is about to free."""
    running, ended = threading.Barrier(2, timeout=10), []

    def task(i):
        running.wait()
        if i == 0:
            raise ZeroDivisionError
        time.sleep(0.1)
        ended.append(i)

    with pytest.raises(ZeroDivisionError):
        run_tasks(task, range(2), Resources(2))
    assert ended == [1]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")
def test_a_forked_process_has_threads_of_its_own():
    code = """
import os, sys
from ptg.kernels.contract import Resources
from ptg.kernels.cpu.threads import run_tasks
expected = list(range(4))
assert run_tasks(lambda i: i, range(4), Resources(2)) == expected
child = os.fork()
if child == 0:
    os._exit(0 if run_tasks(lambda i: i, range(4), Resources(2)) == expected else 1)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    assert subprocess.run([sys.executable, "-W", "ignore", "-c", code], timeout=60, check=False).returncode == 0


def test_no_tasks():
    assert run_tasks(lambda i: i, [], Resources(2)) == []
