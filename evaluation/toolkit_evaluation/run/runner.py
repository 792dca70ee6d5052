"""What is to be done, what is done already, and doing the rest."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from toolkit.codec.base import as_pixels
from toolkit.codec.search import PointTarget
from toolkit.errors import MissingError, ToolkitError, UsageError
from toolkit.options import identity
from toolkit.plugin.presets import Preset, open_codec
from toolkit_evaluation.results.row import Row, column
from toolkit_evaluation.run.kept_files import kept_path, reconstruction_path
from toolkit_evaluation.run.settings import EvaluationSettings
from toolkit_evaluation.run.task import Task, key_of, pixels_sha256
from toolkit_evaluation.run.worker import Job

if TYPE_CHECKING:
    from toolkit.plugin.loader import Plugins
    from toolkit_evaluation.data.datasets import ImageFile
    from toolkit_evaluation.run.store import Store

Execute = Callable[[Iterator[Job]], Iterator[tuple[Job, Row]]]


@dataclass(frozen=True)
class Entry:
    """A preset of the run with its points and everything its results depend on."""

    preset: Preset
    points: tuple[float | PointTarget, ...]
    details: dict[str, Any]
    """``Codec.identity()``."""
    suffix: str

    @property
    def codec_identity(self) -> str:
        """Hash of ``details``."""
        return identity(self.details)


def make_entry(
    plugins: Plugins,
    preset: Preset,
    points: Sequence[float] | None = None,
    targets: Sequence[PointTarget] = (),
    device: str = "cpu",
) -> Entry:
    """Open the preset's codec, so that whatever it lacks is said before anything runs.

    Where there are targets and no points, the preset's own points are left out.

    Raises UsageError for points out of range or none at all, MissingError for weights,
    programs or packages that aren't there.
    """
    codec = open_codec(plugins, preset)
    if points is None:
        points = () if targets else preset.sweep
    chosen = tuple(dict.fromkeys(float(point) for point in points))
    if not chosen and not targets:
        raise UsageError(f"preset '{preset.name}' has no sweep: name points with --point")
    parameter = codec.spec.rate_parameter
    for point in chosen:
        if not parameter.low <= point <= parameter.high or (
            parameter.integer and point != int(point)
        ):
            kind = "a whole number from " if parameter.integer else ""
            raise UsageError(
                f"preset '{preset.name}': {parameter.name} must be {kind}{parameter.low:g} to "
                f"{parameter.high:g}, not {point:g}"
            )
    identity = codec.identity()
    if device != "cpu":  # what is computed elsewhere differs in its last digits, and its times
        identity["device"] = device
    codec.require(chosen)
    return Entry(preset, (*chosen, *targets), identity, codec.spec.suffix)


def make_entries(
    plugins: Plugins,
    presets: Sequence[Preset],
    settings: EvaluationSettings,
    notice: Callable[[str], None],
) -> tuple[list[Entry], dict[str, str]]:
    """Entries of the presets for which all is there; the others' names with what they lack.

    Raises UsageError as ``make_entry`` does, and MissingError where nothing is left to run.
    """
    entries: list[Entry] = []
    skipped: dict[str, str] = {}
    last: MissingError | None = None
    for preset in presets:
        points = settings.points_of(preset.name)
        try:
            entry = make_entry(plugins, preset, points, settings.targets, settings.device)
            fixed = {"deterministic": True} if settings.deterministic else {}
            entries.append(dataclasses.replace(entry, details={**entry.details, **fixed}))
        except MissingError as error:
            skipped[preset.name], last = str(error), error
    if last is not None and not entries:
        raise last
    for name, reason in skipped.items():
        notice(f"{name} is skipped: {reason}")
    return entries, skipped


@dataclass
class Run:
    """A pass over images, codecs and points, in which only what is missing is computed."""

    images: Sequence[ImageFile]
    entries: Sequence[Entry]
    store: Store
    settings: EvaluationSettings
    on_row: Callable[[Row, bool], None] = lambda row, cached: None
    """Called with every row and whether it was there already."""
    computed: int = 0
    image_records: list[dict[str, Any]] = field(default_factory=list)
    _rows: dict[int, Row] = field(default_factory=dict)
    _slots: int = 0

    @property
    def total(self) -> int:
        """Rows that there will be, if all images can be read."""
        return len(self.images) * sum(len(entry.points) for entry in self.entries)

    def execute(self, execute: Execute) -> list[Row]:
        """All rows, image by image in the given order; new ones are stored as they come."""
        for job, row in execute(self._missing()):
            if not row.transient:
                self.store.add(row)
            self.computed += 1
            self._done(job.slot, row, cached=False)
        return [self._rows[slot] for slot in sorted(self._rows)]

    def _done(self, slot: int, row: Row, cached: bool) -> None:
        self._rows[slot] = row
        self.on_row(row, cached)

    def _missing(self) -> Iterator[Job]:
        """The jobs that the store has no row for, image by image: full curves come early."""
        for image in self.images:
            try:
                pixels = as_pixels(image.path)
            except (ToolkitError, OSError) as error:
                self._unreadable(image, error)
                continue
            digest, shape = pixels_sha256(pixels), pixels.shape
            del pixels
            self.image_records.append(
                {"name": image.name, "path": str(image.path), "pixels_sha256": digest}
            )
            for entry in self.entries:
                for point in entry.points:
                    task = _task(image, digest, shape, entry, point)
                    slot, self._slots = self._slots, self._slots + 1
                    known = self._known(task, entry)
                    if known is None:
                        yield Job(slot, task, image.path.resolve(), entry.preset)
                    else:
                        self._done(slot, known, cached=True)

    def _unreadable(self, image: ImageFile, error: Exception) -> None:
        """One error row for each codec: without pixels there are no points."""
        digest = _file_hash(image.path)
        self.image_records.append(
            {"name": image.name, "path": str(image.path), "pixels_sha256": None}
        )
        for entry in self.entries:
            task = _task(image, digest, (), entry, None)
            row = task.error_row(error)
            slot, self._slots = self._slots, self._slots + 1
            cached = self.store.get(task.key) is not None
            if not cached and not row.transient:
                self.store.add(row)
            self._done(slot, row, cached)

    def _known(self, task: Task, entry: Entry) -> Row | None:
        """The stored row of a task, if it has all that is asked for now."""
        row = self.store.get(task.key)
        if row is None:
            return None
        row = replace(row, image=task.image, codec=task.codec)
        if not self.store.holds(row):  # another image of the same pixels, or a new name
            self.store.add(row)
        if not row.ok:
            return None if self.settings.retry_errors else row
        if any(column(name) not in row.metrics for name in self.settings.metrics):
            return None
        if self.settings.separate and not row.separate:
            return None
        if self.settings.keep_files is None:
            return row
        path = kept_path(self.settings.keep_files, task, entry.suffix)
        if _file_hash(path) != row.file_sha256:
            return None
        shown = reconstruction_path(path, task.image)
        return replace(row, file=str(path)) if shown.exists() else None


def _task(
    image: ImageFile,
    digest: str,
    shape: tuple[int, ...],
    entry: Entry,
    point: float | PointTarget | None,
) -> Task:
    target = str(point) if isinstance(point, PointTarget) else None
    found = None if isinstance(point, PointTarget) else point
    key = key_of(digest, shape, entry.preset.identity, target or found, entry.codec_identity)
    return Task(
        key,
        image.name,
        digest,
        entry.preset.name,
        entry.preset.identity,
        entry.codec_identity,
        found,
        target,
    )


def _file_hash(path: Path) -> str:
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return hashlib.sha256(str(path).encode()).hexdigest()
