"""A plugin for the tests of the harness: a small real codec whose images can be made to fail.

``grid`` rounds to multiples of its point and deflates. What it does on an image depends on the
image's first pixel, so that failures are in the data, as in life.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
import time
import zlib
from pathlib import Path

import numpy as np

from toolkit import hookimpl
from toolkit.codec.base import Codec, Decoded, DecodeSettings, Encoded, LatentLevel, Theoretical
from toolkit.format.container import BadStream
from toolkit.options import Options
from toolkit.plugin.specs import CodecSpec, MetricSpec, RateParameter
from toolkit.threads import threads_allowed

RAISES, DIES, HANGS, WRONG_SHAPE, DIFFERS, NOT_RECONSTRUCTED, NO_MEMORY, NO_ROOM = range(1, 9)
"""Values of an image's first byte, and what becomes of the image."""


def note(variable, text):
    """A line in the file that an environment variable names, if it does."""
    if path := os.environ.get(variable):
        with Path(path).open("a") as file:
            file.write(text + "\n")


def tasks():
    """Threads that this process has, those of libraries among them."""
    return len(os.listdir("/proc/self/task")) if sys.platform == "linux" else 1


class GridOptions(Options):
    level: int = 6
    delay: float = 0.0
    latents: bool = False
    latent_seed: int = 0
    one_level: bool = False


class Grid(Codec):
    """Rounds pixels to a grid, deflates them."""

    options_class = GridOptions

    def encode_pixels(self, pixels, point):
        time.sleep(self.options.delay)
        fault = int(pixels.flat[0])
        if fault == RAISES:
            raise RuntimeError("this image\nis cursed")
        if fault == DIES:
            os.kill(os.getpid(), signal.SIGKILL)
        if fault == HANGS:
            time.sleep(3600)
        if fault == NO_MEMORY:
            raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")
        if fault == NO_ROOM:
            raise OSError(errno.ENOSPC, "No space left on device")
        note("GRID_LOG", f"{pixels.shape} {point}")
        note("GRID_PROCESSES", f"encode {os.getpid()} {threads_allowed()} {tasks()}")
        step = int(point)
        values = (pixels.astype(int) + step // 2) // step
        shape = np.array(pixels.shape, "<u2").tobytes()
        data = bytes([step]) + shape + zlib.compress(values.astype(np.uint8), self.options.level)

        def reconstruct():
            if fault == NOT_RECONSTRUCTED:
                raise RuntimeError("nothing to see")
            return self._decoded(data).pixels ^ (fault == DIFFERS)

        parts = {"header": 56.0, "top.side": 3.0, "top": 5.0, "low": 8.0 * (len(data) - 8)}
        return Encoded(data, reconstruct, parts, {"top": 1.0, "low": 3.0}, coder_seconds=1e-6)

    def decode(self, data, settings=DecodeSettings()):
        note("GRID_PROCESSES", f"decode {os.getpid()} {threads_allowed()} {tasks()}")
        return self._decoded(data)

    def _decoded(self, data):
        shape = tuple(np.frombuffer(data[1:7], "<u2").astype(int))
        try:
            values = np.frombuffer(zlib.decompress(data[7:]), np.uint8).reshape(shape)
        except (zlib.error, ValueError) as error:
            raise BadStream(f"grid: {error}") from None
        pixels = np.minimum(values.astype(int) * data[0], 255).astype(np.uint8)
        if pixels.flat[0] == WRONG_SHAPE:
            pixels = pixels[:-1]
        return Decoded(pixels, coder_seconds=1e-6)

    def theoretical(self, pixels, point):
        return Theoretical(100.0, (pixels // 2 * 2).astype(np.uint8))

    def latent_levels(self, pixels, point):
        """A top level of noise that explains nothing, and one that is mostly its prior."""
        if not self.options.latents:
            return None
        generator = np.random.default_rng(self.options.latent_seed)
        noise = generator.normal(size=(3, 4, 6)).astype(np.float32)
        ones = np.ones_like(noise)
        top = LatentLevel("top", 0 * ones, ones, noise, ones / 2, noise)
        ramp = np.arange(24, dtype=np.float32).reshape(1, 4, 6) * ones
        low = LatentLevel("low", ramp, point * ones, ramp + noise, ones / point, ramp + noise)
        return [low] if self.options.one_level else [top, low]

    def identity(self):
        return {"stream_version": int(os.environ.get("GRID_VERSION", "1"))}


def mean_shift(original, decoded):
    return float(decoded.mean() - original.mean())


@hookimpl
def toolkit_codecs():
    step = RateParameter("step", 1, 128, integer=True, more_bits="down")
    yield CodecSpec(
        "grid", "rounds and deflates", f"{__name__}:Grid", rate_parameter=step, suffix=".grid"
    )
    yield CodecSpec(
        "grid-png",
        "the same, by another name",
        f"{__name__}:Grid",
        rate_parameter=step,
        suffix=".png",
    )


@hookimpl
def toolkit_metrics():
    yield MetricSpec("mean-shift", "difference of the means", f"{__name__}:mean_shift")


@hookimpl
def toolkit_row_done(row):
    if os.environ.get("GRID_OBSERVED"):
        note("GRID_OBSERVED", row["image"])
        raise ValueError("observers may fail")
