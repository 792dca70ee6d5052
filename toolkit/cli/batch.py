"""Many files in one call: what to do, by how many processes, and a summary."""

from __future__ import annotations

import glob
import os
import signal
import threading
import time
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Protocol

from toolkit.cli import Session, busy, print_json, say, session, tell
from toolkit.cli.streams import STANDARD, input_name
from toolkit.errors import InputError, ToolkitError, UsageError
from toolkit.format.limits import current_limits, limited
from toolkit.threads import processors, set_threads

_WATCH_SECONDS = 0.5
_FAILURES = 5


@dataclass(frozen=True)
class Job:
    """One file to make of another."""

    source: Path
    target: Path


class Work(Protocol):
    """What is done to each file; it must be picklable, to be done in other processes."""

    def __call__(self, job: Job, here: Session) -> dict[str, Any]:
        """Do it; returns what ``--json`` tells. Raises ToolkitErrors."""

    def line(self, told: dict[str, Any]) -> str:
        """What a person is told."""


def plan(paths: list[Path], out: Path | None, suffix: str, wanted: Collection[str]) -> list[Job]:
    """The files that the arguments of a command mean.

    Arguments:
        paths: with ``out``, files, folders and patterns; else an input and perhaps an output.
        out: the folder for all outputs; made where it isn't there.
        suffix: what the names of outputs end in, where none is given.
        wanted: suffixes of the files that are meant in a folder.

    Raises:
        UsageError: more than two paths without ``out``, or two outputs of one name.
        InputError: a folder that can't be read, or nothing found.
    """
    if out is None:
        if len(paths) > 2:
            raise UsageError("many inputs need --out FOLDER")
        return [Job(paths[0], paths[1] if len(paths) == 2 else _named(paths[0], suffix))]
    sources = [file for path in paths for file in _files(path, wanted)]
    jobs: dict[Path, Job] = {}
    for source in dict.fromkeys(sources):
        target = out / _named(source, suffix).name
        if target in jobs:
            raise UsageError(f"{jobs[target].source} and {source} would both be {target}")
        jobs[target] = Job(source, target)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{out}: can't be made ({error.strerror})") from None
    return list(jobs.values())


def _named(source: Path, suffix: str) -> Path:
    if source == Path("-"):
        raise UsageError("standard input needs the name of an output, or - for standard output")
    return source.with_suffix(suffix)


def _files(path: Path, wanted: Collection[str]) -> Iterator[Path]:
    try:
        if path.is_dir():
            found = sorted(file for file in path.iterdir() if file.suffix.lower() in wanted)
        elif not path.exists() and glob.has_magic(str(path)):
            found = sorted(map(Path, glob.glob(str(path), recursive=True)))
        else:
            found = [path]
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from None
    if not found:
        raise InputError(f"{path}: no files to take there")
    yield from found


def run_one(work: Work, jobs: list[Job], doing: str, threads: int | None, json: bool) -> None:
    """Do the work on the only file, and tell what became of it; ``doing`` says so meanwhile."""
    set_threads(threads)
    (job,) = jobs
    with busy(f"{doing} {input_name(job.source)}"):
        told = work(job, session())
    aside = job.target == STANDARD
    if json:
        print_json(told, aside)
    else:
        tell(work.line(told), aside)


def run_all(work: Work, jobs: list[Job], workers: int, threads: int | None, json: bool) -> None:
    """Do the work on all files, tell what became of each, then of all.

    Raises SystemExit with status 5 where some failed.
    """
    start = time.perf_counter()
    done: list[dict[str, Any]] = []
    failed: list[dict[str, str]] = []
    with _progress(len(jobs)) as advance:
        for job, result in _results(work, jobs, workers, threads):
            advance()
            if isinstance(result, str):
                failed.append({"file": str(job.source), "error": result})
                say(result if str(job.source) in result else f"{job.source}: {result}")
            else:
                done.append(result)
                if not json:
                    tell(work.line(result))
    seconds = time.perf_counter() - start
    if json:
        print_json({"files": done, "failed": failed, "seconds": seconds})
    else:
        pixels = sum(told["width"] * told["height"] for told in done)
        rest = f"; {len(failed)} failed" if failed else ""
        tell(f"{len(done)} files, {pixels / 1e6:.1f} megapixels, {seconds:.0f} s{rest}")
    if failed:
        raise SystemExit(_FAILURES)


@contextmanager
def _progress(total: int) -> Iterator[Callable[[], None]]:
    """A progress bar on standard error, on a terminal; gives what advances it."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, disable=not console.is_terminal) as progress:
        bar = progress.add_task("files", total=total)
        yield lambda: progress.advance(bar)


def _results(
    work: Work, jobs: list[Job], workers: int, threads: int | None
) -> Iterator[tuple[Job, dict[str, Any] | str]]:
    """What was told of each job, or the message of its error, as they are done."""
    workers = min(workers, len(jobs))
    if workers == 1:
        set_threads(threads)
        for job in jobs:
            yield job, _attempt(work, job, session())
        return
    here, limits = session(), current_limits()
    pixels = limits.pixels if limits.pixels_per_byte is None else None
    threads = threads or max(1, processors() // workers)
    settings = (here.plugin_files, here.registry_file, threads, pixels, limits.memory, os.getpid())
    pool = ProcessPoolExecutor(workers, get_context("spawn"), _prepare, settings)
    try:
        futures = {pool.submit(_in_worker, work, job): job for job in jobs}
        for future in as_completed(futures):
            try:
                yield futures[future], future.result()
            except BrokenProcessPool:
                yield futures[future], "a worker was killed, perhaps for want of memory"
    except BaseException:
        for process in list((pool._processes or {}).values()):
            process.kill()  # what they do is of no use any more, and may take minutes
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _attempt(work: Work, job: Job, here: Session) -> dict[str, Any] | str:
    try:
        return work(job, here)
    except ToolkitError as error:
        return " ".join(str(error).split())


# -- in a worker -----------------------------------------------------------------

_here = Session()


def _prepare(
    plugin_files: tuple[Path, ...],
    registry_file: Path | None,
    threads: int,
    pixels: int | None,
    memory: int | None,
    parent: int,
) -> None:
    global _here
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent's to handle
    threading.Thread(target=_watch, args=(parent,), daemon=True).start()
    _here = Session(plugin_files, registry_file)
    _here.resources.enter_context(limited(pixels, memory))
    set_threads(threads)


def _watch(parent: int) -> None:
    """End with the parent, however that one ends."""
    while os.getppid() == parent:
        time.sleep(_WATCH_SECONDS)
    os._exit(1)


def _in_worker(work: Work, job: Job) -> dict[str, Any] | str:
    return _attempt(work, job, _here)
