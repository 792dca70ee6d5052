"""Ways to work through jobs: one after the other in this process, or in worker processes.

Each takes an iterator of jobs, from which it draws as it goes, and yields (job, row) as rows
are done.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from pathlib import Path

from toolkit.errors import ResourceError
from toolkit_evaluation.results.row import Row
from toolkit_evaluation.run.process import ATTEMPTS, KILLED, Child, ChildDied, Handler, Reply
from toolkit_evaluation.run.settings import EvaluationSettings
from toolkit_evaluation.run.worker import Job, Worker

OPENING = 300.0
"""Seconds that a worker may take to load a codec, where rows have a limit."""


def run_in_process(worker: Worker, jobs: Iterator[Job]) -> Iterator[tuple[Job, Row]]:
    """One job after the other, in this process."""
    try:
        for job in jobs:
            yield job, worker.run(job)
    finally:
        worker.close()


@dataclass
class _Busy:
    """A worker process with its job."""

    child: Child
    job: Job
    deadline: float | None = None
    limit: float = 0.0
    opened: bool = False
    """Whether its codec is loaded."""

    def allow(self, seconds: float) -> None:
        """From now on, for what comes next."""
        self.limit, self.deadline = seconds, time.monotonic() + seconds


@dataclass
class _Pool:
    settings: EvaluationSettings
    plugin_files: Sequence[Path]
    jobs: Iterator[Job]
    busy: list[_Busy] = field(default_factory=list)
    idle: list[Child] = field(default_factory=list)
    again: deque[Job] = field(default_factory=deque)
    """Jobs whose worker died."""
    deaths: dict[str, int] = field(default_factory=dict)

    def next_job(self) -> Job | None:
        return self.again.popleft() if self.again else next(self.jobs, None)

    def start(self) -> Child:
        return Child(
            serve_rows, self.settings, tuple(self.plugin_files), threads=self.settings.threads
        )


def run_in_workers(
    settings: EvaluationSettings, plugin_files: Sequence[Path], jobs: Iterator[Job]
) -> Iterator[tuple[Job, Row]]:
    """Jobs in worker processes, each with its own codecs.

    A worker that dies under a job (a crash in a codec, killed for memory) is replaced and the
    job tried once more; one that takes longer than the limit is killed and its job fails.
    """
    pool = _Pool(settings, plugin_files, jobs)
    try:
        while True:
            _hand_out(pool)
            if not pool.busy:
                return
            yield from _collect(pool)
    finally:
        for child in [*pool.idle, *(worker.child for worker in pool.busy)]:
            child.close()


def _hand_out(pool: _Pool) -> None:
    """Give every idle worker a job; start workers while there are jobs for them."""
    while len(pool.busy) < pool.settings.workers:
        job = pool.next_job()
        if job is None:
            return
        worker = _Busy(pool.idle.pop() if pool.idle else pool.start(), job)
        pool.busy.append(worker)
        if pool.settings.timeout is not None:
            worker.allow(OPENING)
        worker.child.send(job)


def _collect(pool: _Pool) -> Iterator[tuple[Job, Row]]:
    """Wait until something happens; yield the rows that came of it."""
    limits = [worker.deadline for worker in pool.busy if worker.deadline is not None]
    patience = max(0.0, min(limits) - time.monotonic()) if limits else None
    ready = wait([worker.child.pipe for worker in pool.busy], timeout=patience)
    for worker in list(pool.busy):
        if worker.child.pipe in ready:
            yield from _take(pool, worker)
        elif worker.deadline is not None and time.monotonic() >= worker.deadline:
            pool.busy.remove(worker)
            worker.child.close()
            what = "took" if worker.opened else "loading the codec took"
            text = f"{what} longer than {worker.limit:g} s"
            yield worker.job, worker.job.task.error_row(text, worker.limit)


def _take(pool: _Pool, worker: _Busy) -> Iterator[tuple[Job, Row]]:
    """What a worker has to say: that its codec is open, or a row; or it is dead."""
    try:
        row: Row | None = worker.child.receive()
    except ChildDied as how:
        pool.busy.remove(worker)
        yield from _after_death(pool, worker.job, str(how))
        return
    if row is not None:
        pool.busy.remove(worker)
        pool.idle.append(worker.child)
        yield worker.job, row
    elif pool.settings.timeout is not None:  # the row's clock starts
        worker.opened = True
        worker.allow(pool.settings.timeout)


def _after_death(pool: _Pool, job: Job, how: str) -> Iterator[tuple[Job, Row]]:
    deaths = pool.deaths[job.task.key] = pool.deaths.get(job.task.key, 0) + 1
    if deaths < ATTEMPTS:
        pool.again.append(job)
    else:
        text = f"the worker process died {deaths} times ({how})"
        yield job, job.task.error_row(ResourceError(text) if how == KILLED else text)


def serve_rows(settings: EvaluationSettings, plugin_files: Sequence[Path]) -> Handler:
    """In a child: answers a job with None when its codec is open, then with its row."""
    from toolkit.plugin.loader import load_plugins

    worker = Worker(load_plugins(plugin_files), settings)

    def handle(job: Job, reply: Reply) -> None:
        worker.prepare(job)
        reply(None)
        reply(worker.run(job))

    return handle
