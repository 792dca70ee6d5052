"""``evaluate``: the whole of an evaluation as one call, and the plan of it."""

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
from toolkit.notebook import notebook_progress
from toolkit.plugin.loader import Plugins, load_plugins
from toolkit.plugin.presets import Preset, load_registry
from toolkit_evaluation.data.datasets import ImageFile, find_images
from toolkit_evaluation.results.row import METRICS, Row, column
from toolkit_evaluation.results.table import Table
from toolkit_evaluation.run.environment import versions
from toolkit_evaluation.run.observers import Observers
from toolkit_evaluation.run.pool import run_in_process, run_in_workers
from toolkit_evaluation.run.runner import Entry, Execute, Run, make_entries
from toolkit_evaluation.run.settings import EvaluationSettings
from toolkit_evaluation.run.store import FolderStore, MemoryStore
from toolkit_evaluation.run.task import task_of
from toolkit_evaluation.run.worker import Job, Worker

Notice = Callable[[str], None]
OnRow = Callable[[Row, bool], None]


def _warn(text: str) -> None:
    print(text, file=sys.stderr)


@dataclass
class Plan:
    """An evaluation that is ready to run: everything named was found, every codec opened."""

    plugins: Plugins
    entries: list[Entry]
    images: list[ImageFile]
    settings: EvaluationSettings
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
        with self.settings.limits(), ExitStack() as stack:
            store: FolderStore | MemoryStore = MemoryStore()
            if self.settings.out is not None:
                store = stack.enter_context(FolderStore(self.settings.out, self.notice))
            observers = Observers(self.plugins, self.notice, self.on_row)
            run = Run(self.images, self.entries, store, self.settings, observers)
            self._record(store, run, None)
            start = time.perf_counter()
            rows = run.execute(self._execute())
            self._record(store, run, time.perf_counter() - start)
        more = tuple(column(name) for name in self.settings.metrics if name not in METRICS)
        return Table(rows, more, self._anchor(), self.skipped)

    def _execute(self) -> Execute:
        settings = self.settings
        if settings.scheduler is not None:
            from toolkit_evaluation.run.cluster import run_on_cluster

            return partial(run_on_cluster, settings.for_workers(), self.plugins.files)
        if settings.in_process:
            return partial(run_in_process, Worker(self.plugins, settings))
        return partial(run_in_workers, settings.for_workers(), self.plugins.files)

    def verify(self, table: Table) -> list[Row]:
        """Decode every kept file again, in fresh processes; error rows for what differs."""
        presets = {entry.preset.name: entry.preset for entry in self.entries}
        places = {image.name: image.path for image in self.images}
        jobs = (
            Job(slot, task_of(row), places[row.image], presets[row.codec], row)
            for slot, row in enumerate(table.rows)
            if row.ok and row.file is not None
        )
        results: list[Row] = []
        for _, row in run_in_workers(self.settings.for_workers(), self.plugins.files, jobs):
            self.on_row(row, False)
            results.append(row)
        return [row for row in results if not row.ok]

    def _anchor(self) -> str | None:
        """The first codec that writes files of a standard format, if others are compared."""
        for entry in self.entries:
            if entry.suffix != ".qf":
                return entry.preset.name
        return None

    def _record(self, store: FolderStore | MemoryStore, run: Run, seconds: float | None) -> None:
        if not isinstance(store, FolderStore):
            return
        settings = self.settings
        store.write_run(
            {
                "command": _command(),
                "started": self.started,
                "finished": None if seconds is None else _now(),
                "seconds": seconds,
                "computed": run.computed,
                "anchor": self._anchor(),
                "presets": [_preset_record(entry) for entry in self.entries],
                "skipped": self.skipped,
                "images": run.image_records or [_image_record(image) for image in self.images],
                "metrics": list(settings.metrics),
                "workers": settings.workers,
                "repeat": settings.repeat,
                "threads": settings.threads,
                "separate": settings.separate,
                "deterministic": settings.deterministic,
                "versions": versions(self.plugins),
            }
        )


def _command() -> list[str]:
    """The words of the command that runs."""
    name = Path(sys.argv[0]).name
    return ["toolkit" if name == "__main__.py" else name, *sys.argv[1:]]


def _image_record(image: ImageFile) -> dict[str, Any]:
    return {"name": image.name, "path": str(image.path)}


def _preset_record(entry: Entry) -> dict[str, Any]:
    return {
        "name": entry.preset.name,
        "codec": entry.preset.codec,
        "options": entry.preset.options,
        "points": [p if isinstance(p, float) else str(p) for p in entry.points],
        "preset_identity": entry.preset.identity,
        "codec_identity": entry.codec_identity,
        "identity": entry.details,
    }


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def plan(
    presets: Sequence[Preset],
    images: Iterable[str | Path],
    settings: EvaluationSettings,
    plugins: Plugins,
    *,
    notice: Notice = _warn,
    on_row: OnRow = lambda row, cached: None,
) -> Plan:
    """Check everything that can be checked before the work; arguments as of ``evaluate``."""
    if not presets:
        raise UsageError("no presets were named")
    for name in settings.metrics:
        plugins.metric(name).prepare()
    found = find_images(images)
    unique = list({preset.name: preset for preset in presets}.values())
    entries, skipped = make_entries(plugins, unique, settings, notice)
    return Plan(plugins, entries, found, settings, notice, on_row, skipped)


def evaluate(
    presets: str | Preset | Sequence[str | Preset],
    images: str | Path | Iterable[str | Path],
    settings: EvaluationSettings = EvaluationSettings(),
    *,
    options: Mapping[str, Any] | None = None,
    plugins: Plugins | None = None,
    registry: str | Path | None = None,
    notice: Notice = _warn,
    on_row: OnRow | None = None,
) -> Table:
    """Rate and distortion of presets on images.

    Arguments:
        presets: Names in the registry, or presets.
        images: Folders, files or named data sets (``samples``, ``kodak``).
        settings: What is measured, where results are kept, how the work is done.
        options: Dotted options laid over every preset named here, as in ``{"seed": 3}``.
        plugins: All plugins; those that are installed where None.
        registry: The file of presets, where it isn't found by itself.
        notice: Called with one-line messages; by default they go to standard error.
        on_row: Called with every row as it comes, and whether it was there already; by default a
            notebook shows a progress bar.

    Returns:
        The rows, one for each image, preset and point, and their means. An image that fails
        gives a row of status ``error``. Of several presets, those that lack a program, a package
        or weights are left out; ``skipped`` says why.

    Raises:
        UnknownName, UsageError, InputError, MissingError: Before anything runs.
    """
    plugins = plugins or load_plugins()
    names = [presets] if isinstance(presets, (str, Preset)) else list(presets)
    if any(isinstance(name, str) for name in names):
        known = load_registry(plugins, Path(registry) if registry else None)
        names = [known.preset(n, options) if isinstance(n, str) else n for n in names]
    work = plan(
        [preset for preset in names if isinstance(preset, Preset)],
        [images] if isinstance(images, (str, Path)) else images,
        settings,
        plugins,
        notice=notice,
    )
    if on_row is not None:
        work.on_row = on_row
        return work.run()
    with notebook_progress(work.total, "rows") as step:
        work.on_row = lambda row, _: step(f"{row.image} {row.codec} {row.point_label}")
        return work.run()
