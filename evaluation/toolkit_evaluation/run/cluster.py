"""The same jobs on a cluster, through Dask: ``dask scheduler`` and ``dask worker`` anywhere.

Workers need this toolkit and see images, plugins and kept files under the same paths. A worker
that is lost costs nothing: the scheduler gives its jobs to others.
"""

from __future__ import annotations

import importlib
import threading
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from toolkit.errors import MissingError
from toolkit.packages import not_installed
from toolkit.threads import set_threads
from toolkit_evaluation.results.row import Row
from toolkit_evaluation.run.settings import EvaluationSettings
from toolkit_evaluation.run.worker import Job, Worker

CONNECT_S = 10
WAITING = 4
"""Jobs that wait for each thread of the cluster, so that none is ever idle."""
_own = threading.local()


def run_on_cluster(
    settings: EvaluationSettings, plugin_files: Sequence[Path], jobs: Iterator[Job]
) -> Iterator[tuple[Job, Row]]:
    """Jobs on the cluster at ``settings.scheduler`` (``tcp://host:port``), as they get done.

    Raises MissingError where Dask isn't installed or the scheduler can't be reached.
    """
    try:
        distributed: Any = importlib.import_module("dask.distributed")
    except ImportError:
        raise not_installed("--scheduler", ["distributed"]) from None
    scheduler = settings.scheduler
    try:
        client = distributed.Client(scheduler, timeout=CONNECT_S, set_as_default=False)
    except (OSError, ValueError) as error:
        raise MissingError(f"no Dask scheduler at {scheduler} ({error})") from None
    files = tuple(file.resolve() for file in plugin_files)
    keep = settings.keep_files.resolve() if settings.keep_files else None
    settings = replace(settings, keep_files=keep)
    sent: dict[str, Job] = {}

    def send(job: Job) -> Any:
        future = client.submit(
            _work, job, settings, files, key=f"row-{job.slot}-{job.task.key}", pure=False
        )
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


def _row(job: Job, future: Any) -> Row:
    """A future's row; an error row where the job killed every worker that tried it."""
    if future.status == "finished":
        row: Row = future.result()
        return row
    return job.task.error_row(future.exception() or f"the cluster gave it up ({future.status})")


def _work(job: Job, settings: EvaluationSettings, plugin_files: tuple[Path, ...]) -> Row:
    """On a worker: codecs and image are kept from job to job, by each of its threads."""
    known: dict[Any, Worker] = _own.__dict__.setdefault("workers", {})
    which = (repr(settings), plugin_files)
    if which not in known:
        from toolkit.plugin.loader import load_plugins

        set_threads(settings.threads)
        known[which] = Worker(load_plugins(plugin_files), settings)
    return known[which].run(job)
