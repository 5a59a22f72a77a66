"""The one place where CPU kernels use several threads.

A kernel cuts its work into tasks and hands them to `run_tasks`. Tasks release the GIL (BLAS, or functions compiled with
`compilation.jit`, which are never parallel themselves), BLAS is held to one thread meanwhile, and results come back in
the order of the tasks: the numbers do not depend on the number of threads.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import cache
from typing import TypeVar

from threadpoolctl import ThreadpoolController

from ptg.kernels.contract.resources import Resources

Task = TypeVar("Task")
Result = TypeVar("Result")


@cache
def _blas() -> ThreadpoolController:
    return ThreadpoolController()


def run_tasks(
    function: Callable[[Task], Result],
    tasks: Iterable[Task],
    resources: Resources,
    *,
    work: Sequence[float] | None = None,
) -> list[Result]:
    """Call `function` on every task, `resources.n_threads` at a time.

    Parameters
    ----------
    function
        Must not share mutable state between tasks.
    tasks
        What to call it with.
    resources
        Number of threads, and the progress to report to.
    work
        Cost of each task, for the progress; 1 each by default.

    Returns
    -------
    The results in the order of the tasks. On an error or Ctrl-C the tasks not yet started are dropped.
    """
    tasks = list(tasks)
    cost = [1.0] * len(tasks) if work is None else list(work)
    resources.progress.start(float(sum(cost)))
    with _blas().limit(limits=1, user_api="blas"):
        if resources.n_threads == 1 or len(tasks) < 2:
            return _run_here(function, tasks, resources, cost)
        return _run_in_threads(function, tasks, resources, cost)


def _run_here(
    function: Callable[[Task], Result], tasks: Sequence[Task], resources: Resources, cost: Sequence[float]
) -> list[Result]:
    results = []
    for task, done in zip(tasks, cost, strict=True):
        results.append(function(task))
        resources.progress.advance(done)
    return results


def _run_in_threads(
    function: Callable[[Task], Result], tasks: Sequence[Task], resources: Resources, cost: Sequence[float]
) -> list[Result]:
    stop = threading.Event()

    def call(task: Task) -> Result | None:
        if stop.is_set():
            return None
        try:
            return function(task)
        except BaseException:
            stop.set()  # at once: this thread would otherwise take the next task
            raise

    pool = _pool(resources.n_threads)
    futures: list[Future[Result | None]] = [pool.submit(call, task) for task in tasks]
    results = []
    try:
        for future, done in zip(futures, cost, strict=True):
            results.append(future.result())
            resources.progress.advance(done)
    except BaseException:
        stop.set()
        wait(futures)  # tasks that have begun still read the caller's arrays
        raise
    return results  # type: ignore[return-value]


@cache
def _pool(n_threads: int) -> ThreadPoolExecutor:
    """Threads that stay: starting them anew takes longer than a small kernel. A forked process starts its own."""
    return ThreadPoolExecutor(n_threads, thread_name_prefix="ptg")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)
