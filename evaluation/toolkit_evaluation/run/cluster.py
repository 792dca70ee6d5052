"""The same jobs on a cluster, through Dask: ``dask scheduler`` and ``dask worker`` anywhere.

Workers need this toolkit and see images, plugins and kept files under the same paths. A worker
that is lost costs nothing: the scheduler gives its jobs to others.
"""

from __future__ import annotations

import importlib
import threading
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from typing import Any

from toolkit.errors import MissingError
from toolkit_evaluation.run.measure import Row, error_row
from toolkit_evaluation.run.pool import Workers
from toolkit_evaluation.run.threads import set_threads
from toolkit_evaluation.run.worker import Bench, Job

CONNECT_S = 10
WAITING = 4
"""Jobs that wait for each thread of the cluster, so that none is ever idle."""
_own = threading.local()


def run_on_cluster(
    scheduler: str, setup: Workers, jobs: Iterator[Job]
) -> Iterator[tuple[Job, Row]]:
    """Jobs on the cluster at ``scheduler`` (``tcp://host:port``), as they get done.

    Raises MissingError where Dask isn't installed or the scheduler can't be reached.
    """
    try:
        distributed: Any = importlib.import_module("dask.distributed")
    except ImportError:
        raise MissingError("--scheduler needs the package 'distributed': not installed") from None
    try:
        client = distributed.Client(scheduler, timeout=CONNECT_S, set_as_default=False)
    except (OSError, ValueError) as error:
        raise MissingError(f"no Dask scheduler at {scheduler} ({error})") from None
    setup = _with_absolute_paths(setup)
    sent: dict[str, Job] = {}

    def send(job: Job) -> Any:
        future = client.submit(_work, job, setup, key=f"row-{job.slot}-{job.task.key}", pure=False)
        sent[future.key] = job
        return future

    with client:
        threads = max(1, sum(client.nthreads().values()))
        done = distributed.as_completed(
            (send(job) for job in islice(jobs, WAITING * threads)), loop=client.loop
        )
        try:
            for future in done:
                job = sent.pop(future.key)
                yield job, _row(job, future)
                following = next(jobs, None)
                if following is not None:
                    done.add(send(following))
        finally:
            client.cancel(list(done.futures), force=True)


def _with_absolute_paths(setup: Workers) -> Workers:
    keep = setup.settings.keep
    settings = replace(setup.settings, keep=keep.resolve() if keep else None)
    return replace(
        setup, settings=settings, plugin_files=tuple(p.resolve() for p in setup.plugin_files)
    )


def _row(job: Job, future: Any) -> Row:
    """A future's row; an error row where the job killed every worker that tried it."""
    if future.status == "finished":
        row: Row = future.result()
        return row
    return error_row(job.task, future.exception() or f"the cluster gave it up ({future.status})")


def _work(job: Job, setup: Workers) -> Row:
    """On a worker: codecs and image are kept from job to job, by each of its threads."""
    known: dict[Any, Bench] = _own.__dict__.setdefault("benches", {})
    which = (setup.settings, setup.plugin_files)
    if which not in known:
        from toolkit.plugin.loader import load_plugins

        set_threads(setup.threads)
        known[which] = Bench(load_plugins(setup.plugin_files), setup.settings)
    return known[which].run(job)
