"""``evaluate``: the whole of an evaluation as one call."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from toolkit.errors import UsageError
from toolkit.plugin.loader import Plugins, load_plugins
from toolkit.plugin.presets import Preset, load_registry
from toolkit.threads import processors
from toolkit_evaluation.data.datasets import ImageFile, find_images
from toolkit_evaluation.results.table import Table
from toolkit_evaluation.run.environment import versions
from toolkit_evaluation.run.measure import Row, Settings, column, task_of
from toolkit_evaluation.run.observers import Observers
from toolkit_evaluation.run.pool import Workers, run_here, run_in_workers
from toolkit_evaluation.run.runner import Entry, Execute, Run, make_entries
from toolkit_evaluation.run.store import FolderStore, MemoryStore
from toolkit_evaluation.run.target import Target
from toolkit_evaluation.run.worker import Bench, Job

METRICS = ("psnr", "ms-ssim")
Notice = Callable[[str], None]
OnRow = Callable[[Row, bool], None]


def _warn(text: str) -> None:
    print(text, file=sys.stderr)


@dataclass(frozen=True)
class Execution:
    """How the work is done; none of it changes what is measured but times."""

    workers: int = 1
    threads: int | None = None
    """Threads of each worker's numerical libraries; None: the cores, shared out among several
    workers, or left to the libraries for one."""
    timeout: float | None = None
    """Seconds that a row may take. Where this or ``threads`` is given, even one worker is a
    process of its own: libraries take the number of threads when they are loaded."""
    repeat: int = 1
    """Times to code and decode each; the fastest counts."""
    retry_errors: bool = False
    scheduler: str | None = None
    """Address of a Dask scheduler, whose workers then do the work."""
    separate: bool = False
    """Code in one process, decode in another: neither's time and memory has the other's share.
    Rows that were measured otherwise are measured again."""


@dataclass
class Plan:
    """An evaluation that is ready to run: everything named was found, every codec opened."""

    plugins: Plugins
    entries: list[Entry]
    images: list[ImageFile]
    settings: Settings
    execution: Execution
    out: Path | None = None
    notice: Notice = _warn
    on_row: OnRow = lambda row, cached: None
    skipped: dict[str, str] = field(default_factory=dict)
    """Presets that can't run here, and why."""
    started: str = field(default_factory=lambda: _now())

    @property
    def total(self) -> int:
        """Rows that there will be, if every image can be read."""
        return len(self.images) * sum(len(entry.points) for entry in self.entries)

    def run(self) -> Table:
        """Compute what is missing, and return everything that was asked for."""
        with ExitStack() as stack:
            store: FolderStore | MemoryStore = MemoryStore()
            if self.out is not None:
                store = stack.enter_context(FolderStore(self.out, self.notice))
            run = Run(
                self.images,
                self.entries,
                store,
                self.settings,
                self.execution.retry_errors,
                Observers(self.plugins, self.notice, self.on_row),
            )
            self._record(store, run, None)
            start = time.perf_counter()
            rows = run.execute(self._execute())
            self._record(store, run, time.perf_counter() - start)
        more = tuple(column(name) for name in self.settings.metrics if name not in METRICS)
        return Table(rows, more, self._anchor(), self.skipped)

    def _execute(self) -> Execute:
        execution = self.execution
        if execution.scheduler is not None:
            from toolkit_evaluation.run.cluster import run_on_cluster

            return partial(run_on_cluster, execution.scheduler, self._workers())
        if (execution.workers, execution.timeout, execution.threads) == (1, None, None):
            return partial(run_here, Bench(self.plugins, self.settings))
        return partial(run_in_workers, self._workers())

    def verify(self, table: Table) -> list[Row]:
        """Decode every kept file again, in fresh processes; error rows for what differs."""
        presets = {entry.preset.name: entry.preset for entry in self.entries}
        places = {image.name: image.path for image in self.images}
        jobs = (
            Job(slot, task_of(row), places[row["image"]], presets[row["codec"]], row)
            for slot, row in enumerate(table.rows)
            if row["status"] == "ok" and row["file"] is not None
        )
        results: list[Row] = []
        for _, row in run_in_workers(self._workers(), jobs):
            self.on_row(row, False)
            results.append(row)
        return [row for row in results if row["status"] != "ok"]

    def _workers(self) -> Workers:
        execution = self.execution
        threads = execution.threads or max(1, processors() // execution.workers)
        return Workers(
            execution.workers, self.settings, self.plugins.files, threads, execution.timeout
        )

    def _anchor(self) -> str | None:
        """The first codec that writes files of a standard format, if others are compared."""
        for entry in self.entries:
            if entry.suffix != ".qf":
                return entry.preset.name
        return None

    def _record(self, store: FolderStore | MemoryStore, run: Run, seconds: float | None) -> None:
        if not isinstance(store, FolderStore):
            return
        store.write_run(
            {
                "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
                "started": self.started,
                "finished": None if seconds is None else _now(),
                "seconds": seconds,
                "computed": run.computed,
                "anchor": self._anchor(),
                "presets": [_preset_record(entry) for entry in self.entries],
                "skipped": self.skipped,
                "images": run.image_records or [_image_record(image) for image in self.images],
                "metrics": list(self.settings.metrics),
                "workers": self.execution.workers,
                "repeat": self.execution.repeat,
                "threads": self.execution.threads,
                "separate": self.execution.separate,
                "versions": versions(self.plugins),
            }
        )


def _image_record(image: ImageFile) -> dict[str, Any]:
    return {"name": image.name, "path": str(image.path)}


def _preset_record(entry: Entry) -> dict[str, Any]:
    return {
        "name": entry.preset.name,
        "codec": entry.preset.codec,
        "options": entry.preset.options,
        "points": [str(p) if isinstance(p, Target) else p for p in entry.points],
        "preset_identity": entry.preset.identity,
        "codec_identity": entry.codec_identity,
        "identity": entry.details,
    }


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def plan(
    presets: Sequence[Preset],
    images: Iterable[str | Path],
    *,
    plugins: Plugins,
    points: Mapping[str, Sequence[float]] | Sequence[float] | None = None,
    targets: Sequence[Target] = (),
    metrics: Sequence[str] = METRICS,
    out: Path | None = None,
    keep_files: Path | None = None,
    execution: Execution = Execution(),
    notice: Notice = _warn,
    on_row: OnRow = lambda row, cached: None,
) -> Plan:
    """Check everything that can be checked before the work; arguments as of ``evaluate``."""
    if not presets:
        raise UsageError("no presets were named")
    for value, name in ((execution.workers, "workers"), (execution.repeat, "repeat")):
        if value < 1:
            raise UsageError(f"{name} must be at least 1, not {value}")
    if execution.scheduler is not None and execution.timeout is not None:
        raise UsageError("rows have no time limit on a cluster")
    for name in metrics:
        plugins.metric(name).prepare()
    found = find_images(images)
    unique = list({preset.name: preset for preset in presets}.values())
    entries, skipped = make_entries(
        plugins, unique, lambda name: _points(points, name), targets, notice
    )
    return Plan(
        plugins,
        entries,
        found,
        Settings(tuple(metrics), keep_files, execution.repeat, execution.separate),
        execution,
        out,
        notice,
        on_row,
        skipped,
    )


def targets_of(bpp: Sequence[float] = (), psnr: Sequence[float] = ()) -> list[Target]:
    """Targets for ``plan``. Raises UsageError for those that aren't above 0."""
    for value in (*bpp, *psnr):
        if not value > 0:
            raise UsageError(f"a target must be above 0, not {value:g}")
    return [*(Target("bpp", value) for value in bpp), *(Target("psnr", value) for value in psnr)]


def _points(
    points: Mapping[str, Sequence[float]] | Sequence[float] | None, preset: str
) -> Sequence[float] | None:
    return points.get(preset) if isinstance(points, Mapping) else points


def evaluate(
    presets: str | Preset | Sequence[str | Preset],
    images: str | Path | Iterable[str | Path],
    *,
    points: Mapping[str, Sequence[float]] | Sequence[float] | None = None,
    target_bpp: Sequence[float] = (),
    target_psnr: Sequence[float] = (),
    options: Mapping[str, Any] | None = None,
    plugins: Plugins | None = None,
    registry: Path | None = None,
    out: Path | str | None = None,
    keep_files: Path | str | None = None,
    metrics: Sequence[str] = METRICS,
    workers: int = 1,
    threads: int | None = None,
    timeout: float | None = None,
    repeat: int = 1,
    retry_errors: bool = False,
    scheduler: str | None = None,
    separate: bool = False,
    on_row: OnRow = lambda row, cached: None,
    notice: Notice = _warn,
) -> Table:
    """Rate and distortion of presets on images.

    Arguments:
        presets: Names in the registry, or presets.
        images: Folders, files or named data sets (``samples``, ``kodak``).
        points: Points of the curves instead of the presets' own; a mapping from preset name
            to points sets them for these presets alone.
        target_bpp: Rates in bits per pixel; for each image the point nearest to, but not above,
            each is found.
        target_psnr: Qualities in dB; the cheapest point that reaches each is found.
        options: Dotted options laid over every preset named here, as in
            ``{"level1.bits": 10}``.
        out: Folder that keeps the rows; with it a second call computes only what is missing,
            whatever ended the first. None: nothing is kept.
        keep_files: Folder for coded files and reconstructions.
        metrics: Names of metrics; PSNR and MS-SSIM where none are named.
        workers: Processes to work with.
        threads: Threads of each.
        timeout: Seconds that a row may take.
        repeat: Times to code and decode; the fastest counts.
        retry_errors: Compute failed rows again.
        scheduler: Address of a Dask scheduler, whose workers then do the work.
        separate: Code in one process and decode in another, for times and memory of each.
        on_row: Called with every row as it comes, and whether it was there already.
        notice: Called with one-line messages; by default they go to standard error.

    Raises UnknownName, UsageError, InputError or MissingError before anything runs; an image
    that fails later gives a row of status ``error``. Of several presets, those that lack a program,
    a package or weights are skipped; the table's ``skipped`` says why.
    """
    plugins = plugins or load_plugins()
    names = [presets] if isinstance(presets, (str, Preset)) else list(presets)
    if any(isinstance(name, str) for name in names):
        known = load_registry(plugins, registry)
        names = [known.preset(n, options) if isinstance(n, str) else n for n in names]
    return plan(
        [preset for preset in names if isinstance(preset, Preset)],
        [images] if isinstance(images, (str, Path)) else images,
        plugins=plugins,
        points=points,
        targets=targets_of(target_bpp, target_psnr),
        metrics=metrics,
        out=Path(out) if out else None,
        keep_files=Path(keep_files) if keep_files else None,
        execution=Execution(workers, threads, timeout, repeat, retry_errors, scheduler, separate),
        notice=notice,
        on_row=on_row,
    ).run()
