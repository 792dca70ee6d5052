"""Ways to work through jobs: here and now, or in worker processes.

Each takes an iterator of jobs, from which it draws as it goes, and yields (job, row) as rows
are done.
"""

from __future__ import annotations

import multiprocessing
import signal
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path

from toolkit_evaluation.run.interrupts import interrupts_held, leave_interrupts_to_parent
from toolkit_evaluation.run.measure import Row, Settings, error_row
from toolkit_evaluation.run.threads import threads_of_children
from toolkit_evaluation.run.worker import Bench, Job

OPENING = 300.0
"""Seconds that a worker may take to load a codec, where rows have a limit."""
ATTEMPTS = 2
"""Times that a job is tried when its worker dies (not when it fails: that is a result)."""


def run_here(bench: Bench, jobs: Iterator[Job]) -> Iterator[tuple[Job, Row]]:
    """One job after the other, in this process."""
    try:
        for job in jobs:
            yield job, bench.run(job)
    finally:
        bench.close()


@dataclass
class Workers:
    """How many processes work, and how they are set up."""

    count: int
    settings: Settings
    plugin_files: Sequence[Path] = ()
    threads: int | None = None
    timeout: float | None = None
    """Seconds that a row may take, opening its codec not counted; None for no limit."""


@dataclass
class _Worker:
    process: SpawnProcess
    pipe: Connection[Job, Row | None]
    job: Job | None = None
    deadline: float | None = None


@dataclass
class _Pool:
    setup: Workers
    jobs: Iterator[Job]
    workers: list[_Worker] = field(default_factory=list)
    again: deque[Job] = field(default_factory=deque)
    deaths: dict[str, int] = field(default_factory=dict)

    def next_job(self) -> Job | None:
        return self.again.popleft() if self.again else next(self.jobs, None)


def run_in_workers(setup: Workers, jobs: Iterator[Job]) -> Iterator[tuple[Job, Row]]:
    """Jobs in worker processes, each with its own codecs.

    A worker that dies under a job (a crash in a codec, killed for memory) is replaced and the
    job tried once more; one that takes longer than the limit is killed and its job fails.
    Workers end with this process, however it ends: their pipe closes.
    """
    pool = _Pool(setup, jobs)
    try:
        while True:
            _hand_out(pool)
            if not any(worker.job for worker in pool.workers):
                return
            yield from _collect(pool)
    finally:
        for worker in pool.workers:
            worker.process.kill()
            worker.process.join()
            worker.pipe.close()


def _hand_out(pool: _Pool) -> None:
    """Give every idle worker a job; start workers while there are jobs for them."""
    for worker in pool.workers:
        if worker.job is None:
            _give(pool, worker, pool.next_job())
    while len(pool.workers) < pool.setup.count:
        job = pool.next_job()
        if job is None:
            return
        worker = _start(pool.setup)
        pool.workers.append(worker)
        _give(pool, worker, job)


def _give(pool: _Pool, worker: _Worker, job: Job | None) -> None:
    worker.job = job
    if job is not None:
        _set_clock(pool, worker, OPENING)
        try:
            worker.pipe.send(job)
        except OSError:
            return  # it is dead; _collect will see that


def _set_clock(pool: _Pool, worker: _Worker, seconds: float | None) -> None:
    limited = pool.setup.timeout is not None and seconds is not None
    worker.deadline = time.monotonic() + seconds if limited and seconds else None


def _collect(pool: _Pool) -> Iterator[tuple[Job, Row]]:
    """Wait until something happens; yield the rows that came of it."""
    busy = [worker for worker in pool.workers if worker.job is not None]
    limits = [worker.deadline for worker in busy if worker.deadline is not None]
    patience = max(0.0, min(limits) - time.monotonic()) if limits else None
    wait([worker.pipe for worker in busy], timeout=patience)
    for worker in busy:
        job = worker.job
        assert job is not None
        if worker.pipe.poll():
            try:
                row = worker.pipe.recv()
            except (EOFError, OSError):
                yield from _bury(pool, worker, job)
                continue
            if row is None:  # the codec is open; the row's clock starts
                _set_clock(pool, worker, pool.setup.timeout)
                continue
            worker.job = None
            yield job, row
        elif worker.deadline is not None and time.monotonic() >= worker.deadline:
            _remove(pool, worker)
            text = f"took longer than {pool.setup.timeout:g} s"
            yield job, error_row(job.task, text, pool.setup.timeout or 0.0)


def _bury(pool: _Pool, worker: _Worker, job: Job) -> Iterator[tuple[Job, Row]]:
    _remove(pool, worker)
    deaths = pool.deaths[job.task.key] = pool.deaths.get(job.task.key, 0) + 1
    if deaths < ATTEMPTS:
        pool.again.append(job)
        return
    code = worker.process.exitcode
    how = signal.Signals(-code).name if code is not None and code < 0 else f"exit status {code}"
    yield job, error_row(job.task, f"the worker process died {deaths} times ({how})")


def _remove(pool: _Pool, worker: _Worker) -> None:
    worker.process.kill()
    worker.process.join()
    worker.pipe.close()
    pool.workers.remove(worker)


def _start(setup: Workers) -> _Worker:
    context = multiprocessing.get_context("spawn")  # fork and threads of torch don't mix
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(theirs, setup), daemon=True)
    with threads_of_children(setup.threads), interrupts_held():
        process.start()
    theirs.close()
    return _Worker(process, ours)


def _work(pipe: Connection[Row | None, Job], setup: Workers) -> None:
    """A worker's life: a job in, None when its codec is open, its row; until the pipe closes."""
    leave_interrupts_to_parent()
    from toolkit.plugin.loader import load_plugins

    bench = Bench(load_plugins(setup.plugin_files), setup.settings)
    while True:
        try:
            job = pipe.recv()
            bench.prepare(job)
            pipe.send(None)
            pipe.send(bench.run(job))
        except (EOFError, OSError):
            return
