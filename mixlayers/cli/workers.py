"""Runs side by side: one process with one thread for each processor core.

Threads within a run would gain little on so small a network, and lose much on a busy machine.
"""

from __future__ import annotations

import multiprocessing
import os
import queue
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from mixlayers.cli.data import DataSet, Split
from mixlayers.cli.methods import METHODS
from mixlayers.cli.sides import side
from mixlayers.cli.stop import Stop, cause

if TYPE_CHECKING:
    from mixlayers.cli.train import Glimpse, Run

MOST: Final = 8
_NEWS_EVERY: Final = 0.1  # seconds between two glimpses of a run


@dataclass(frozen=True)
class Job:
    """One run to make: a method, by its name, and a seed."""

    method: str
    seed: int


@dataclass(frozen=True)
class Task:
    """The part that all runs share."""

    data: DataSet
    splits: Sequence[Split]
    epochs: int
    framework: str


@dataclass(frozen=True)
class News:
    """A run's message: a glimpse of a step; or its end, with the trained weights; or an error."""

    job: Job
    glimpse: Glimpse | None = None
    run: Run | None = None
    weights: dict[str, Any] | None = None
    error: str = ""


def available_cores() -> int:
    """The number of cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on every system
        return os.cpu_count() or 1


def run_jobs(jobs: Sequence[Job], task: Task, workers: int, tell: Callable[[News], None]) -> None:
    """Make all runs, in this process if there is one worker, and tell of each step and each end.

    Raises:
        Stop: If a run cannot be finished.
    """
    if workers == 1:
        side(task.framework).one_thread()
        for job in jobs:
            _make(job, task, tell)
        return

    context = multiprocessing.get_context("spawn")
    todo, news = context.Queue(), context.Queue()
    for order in (*jobs, *[None] * workers):
        todo.put(order)
    crew = [context.Process(target=_work, args=(todo, news, task), daemon=True) for _ in range(workers)]
    try:
        with _deaf_to_interrupts():
            for worker in crew:
                worker.start()
        left = len(jobs)
        while left:
            try:
                item: News = news.get(timeout=1.0)
            except queue.Empty:
                _check(crew)
                continue
            if item.error:
                raise Stop(item.error)
            left -= item.run is not None
            tell(item)
    finally:
        for worker in crew:
            if worker.pid is not None:
                worker.terminate()
                worker.join()
        for channel in (todo, news):
            channel.cancel_join_thread()
            channel.close()


def _check(crew: Sequence[Any]) -> None:
    for worker in crew:
        if worker.exitcode:
            raise Stop(
                f"A worker process ended with code {worker.exitcode}, perhaps for lack of memory: try --workers 1."
            )


@contextmanager
def _deaf_to_interrupts() -> Iterator[None]:
    """Processes started in here ignore Ctrl-C: their parent hears it and ends them."""
    try:
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    except ValueError:  # not in the main thread, where Ctrl-C does not arrive anyway
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _work(todo: Any, news: Any, task: Task) -> None:
    """A worker's life."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    side(task.framework).one_thread()
    while (job := todo.get()) is not None:
        try:
            _make(job, task, news.put)
        except Exception as error:  # to be told in the parent
            news.put(
                News(job, error=str(error) if isinstance(error, Stop) else f"{job.method}: {cause(error)}")
            )
            return


def _make(job: Job, task: Task, tell: Callable[[News], None]) -> None:
    from mixlayers.cli.train import train

    last = -_NEWS_EVERY

    def watch(glimpse: Glimpse) -> None:
        nonlocal last
        now = time.perf_counter()
        if now - last >= _NEWS_EVERY:
            last = now
            tell(News(job, glimpse))

    run, learner = train(
        job.method,
        METHODS[job.method],
        task.data,
        task.splits[job.seed],
        framework=task.framework,
        seed=job.seed,
        epochs=task.epochs,
        watch=watch,
    )
    tell(News(job, run=run, weights=learner.state()))
