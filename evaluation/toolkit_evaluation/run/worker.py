"""The part that works: opens codecs, loads images, makes rows. One in each process."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from toolkit.codec.base import Codec, as_pixels
from toolkit.deterministic import deterministic
from toolkit_evaluation.results.row import Row
from toolkit_evaluation.run.codec_runner import CodecRunner, InProcess, Subprocesses
from toolkit_evaluation.run.measure import measure
from toolkit_evaluation.run.settings import EvaluationSettings
from toolkit_evaluation.run.task import Task
from toolkit_evaluation.run.verify import verify

if TYPE_CHECKING:
    from toolkit.codec.base import Pixels
    from toolkit.plugin.loader import Plugins
    from toolkit.plugin.presets import Preset
    from toolkit.plugin.specs import RateParameter

WARM_UP_SIDE = 64
MOST_SEPARATE = 4
"""Codecs that have processes of their own at a time: each pair holds the libraries twice."""


@dataclass(frozen=True)
class Job:
    """A row to make, in terms that another process understands."""

    slot: int
    """Its place in the table."""
    task: Task
    path: Path
    preset: Preset
    stored: Row | None = None
    """A row to check rather than to make: its file is decoded again and compared."""


class Worker:
    """Makes rows, keeping codecs open and the last image loaded.

    A codec's first encoding and decoding, of a small drawn picture, loads weights and compiles;
    it isn't counted. Where the settings say so, codecs work in processes of their own.
    """

    def __init__(self, plugins: Plugins, settings: EvaluationSettings) -> None:
        self.plugins = plugins
        self.settings = settings
        self._codecs: dict[str, tuple[Codec, CodecRunner]] = {}
        self._image: tuple[Path, Pixels] | None = None

    def run(self, job: Job) -> Row:
        """The row of a job; anything that fails ends in an error row."""
        with self.settings.limits(), deterministic(self.settings.deterministic):
            return self._run(job)

    def _run(self, job: Job) -> Row:
        try:
            if job.stored is not None:
                return verify(self.plugins, job.preset, job.stored)
            pixels = self.pixels(job.path)
            codec, runner = self._codec(job, pixels)
        except Exception as error:  # a codec may raise anything, and the run goes on
            return job.task.error_row(error)
        return measure(codec, pixels, job.task, self.plugins.metrics, self.settings, runner)

    def close(self) -> None:
        """End the processes that it has started."""
        for _, runner in self._codecs.values():
            runner.close()

    def prepare(self, job: Job) -> None:
        """Open the job's codec and load what it needs; failures come back with the row."""
        if job.stored is not None:
            return
        try:
            self._codec(job, self.pixels(job.path))
        except Exception:  # a codec may raise anything
            return

    def pixels(self, path: Path) -> Pixels:
        """The image at ``path``, kept until another is asked for. Raises InputError."""
        if self._image is None or self._image[0] != path:
            self._image = None  # let go of the old one before the new one takes memory
            self._image = (path, as_pixels(path))
        return self._image[1]

    def _codec(self, job: Job, pixels: Pixels) -> tuple[Codec, CodecRunner]:
        name = f"{job.preset.name} {job.preset.identity}"
        if name not in self._codecs:
            from toolkit.plugin.presets import open_codec

            codec = open_codec(self.plugins, job.preset, self.settings.device)
            point = job.task.point
            if point is None:
                point = _middle(codec.spec.rate_parameter)
            runner = self._separate(job.preset) if self.settings.separate else InProcess(codec)
            _warm_up(runner, pixels.shape[2], point)
            self._codecs[name] = codec, runner
        self._codecs[name] = self._codecs.pop(name)  # last used, last to go
        return self._codecs[name]

    def _separate(self, preset: Preset) -> CodecRunner:
        """Processes for a codec, none of which has seen another; the one least used goes."""
        if len(self._codecs) >= MOST_SEPARATE:
            _, oldest = self._codecs.pop(next(iter(self._codecs)))
            oldest.close()
        return Subprocesses(preset, self.settings, self.plugins.files)


def _middle(parameter: RateParameter) -> float:
    low, high = parameter.low, parameter.high
    return float((low + high) // 2) if parameter.integer else (low + high) / 2


def _warm_up(runner: CodecRunner, channels: int, point: float) -> None:
    ramp = np.linspace(0, 255, WARM_UP_SIDE)
    picture = np.add.outer(ramp, ramp[::-1])[:, :, None] / np.arange(2, 2 + channels)
    try:
        runner.decode(runner.encode(picture.astype(np.uint8), point, 1).result.data, 1)
    except Exception:  # the real call will say what is wrong
        return
