"""The part that works: opens codecs, loads images, makes rows. One in each process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from toolkit.codec.base import Codec, as_pixels
from toolkit_evaluation.run.codec_runner import Apart, Hands, Here, Pair
from toolkit_evaluation.run.measure import Row, Settings, Task, error_row, measure
from toolkit_evaluation.run.verify import verify

if TYPE_CHECKING:
    from toolkit.codec.base import Pixels
    from toolkit.plugin.loader import Plugins
    from toolkit.plugin.presets import Preset
    from toolkit.plugin.specs import Knob

WARM_UP_SIDE = 64
MOST_APART = 4
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


class Bench:
    """Makes rows, keeping codecs open and the last image loaded.

    A codec's first encoding and decoding, of a small drawn picture, loads weights and compiles;
    it isn't counted. Where the settings say so, codecs work in processes of their own.
    """

    def __init__(self, plugins: Plugins, settings: Settings) -> None:
        self.plugins = plugins
        self.settings = settings
        self._codecs: dict[str, tuple[Codec, Hands]] = {}
        self._pairs: dict[str, Pair] = {}
        self._image: tuple[Path, Pixels] | None = None

    def run(self, job: Job) -> Row:
        """The row of a job; anything that fails ends in an error row."""
        try:
            if job.stored is not None:
                return verify(self.plugins, job.preset, job.stored)
            pixels = self.pixels(job.path)
            codec, hands = self._codec(job, pixels)
        except Exception as error:  # a codec may raise anything, and the run goes on
            return error_row(job.task, error)
        metrics: Mapping[str, Any] = self.plugins.metrics
        return measure(codec, pixels, job.task, metrics, self.settings, hands)

    def close(self) -> None:
        """End the processes that it has started."""
        for pair in self._pairs.values():
            pair.close()

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

    def _codec(self, job: Job, pixels: Pixels) -> tuple[Codec, Hands]:
        name = f"{job.preset.name} {job.preset.identity}"
        if name not in self._codecs:
            from toolkit.plugin.presets import open_codec

            codec = open_codec(self.plugins, job.preset)
            point = job.task.point if job.task.point is not None else _middle(codec.spec.knob)
            hands = self._apart(job.preset, name) if self.settings.separate else Here(codec)
            _warm_up(hands, pixels.shape[2], point)
            self._codecs[name] = codec, hands
        self._codecs[name] = self._codecs.pop(name)  # last used, last to go
        return self._codecs[name]

    def _apart(self, preset: Preset, name: str) -> Hands:
        """Processes for a codec, none of which has seen another; the one least used goes."""
        if len(self._pairs) >= MOST_APART:
            oldest = next(iter(self._codecs))
            del self._codecs[oldest]
            self._pairs.pop(oldest).close()
        self._pairs[name] = Pair(self.plugins.files)
        return Apart(self._pairs[name], preset)


def _middle(knob: Knob) -> float:
    return float((knob.low + knob.high) // 2) if knob.integer else (knob.low + knob.high) / 2


def _warm_up(hands: Hands, channels: int, point: float) -> None:
    ramp = np.linspace(0, 255, WARM_UP_SIDE)
    picture = np.add.outer(ramp, ramp[::-1])[:, :, None] / np.arange(2, 2 + channels)
    try:
        hands.decode(hands.encode(picture.astype(np.uint8), point, 1).result.data, 1)
    except Exception:  # the real call will say what is wrong
        return
