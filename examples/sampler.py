"""A sampler: runs of latents, each coded as the best of a few shared draws.

    toolkit bench samplers --plugin examples/sampler.py --synthetic --sampler best
    toolkit eval --plugin examples/sampler.py --codec pln-fast \
        -o levels.level1.sampler=best photos
"""

from typing import Annotated

import numpy as np
from msgspec import Meta

from toolkit.plugin import BadStream, CodedSample, Options, Sampler, SamplerSpec, hookimpl


@hookimpl
def toolkit_samplers():
    yield SamplerSpec("best", "runs of latents, the best of 256 draws", f"{__name__}:Best")


class BestOptions(Options, frozen=True):
    """Options of the sampler; files say those that differ from the defaults."""

    run: Annotated[int, Meta(ge=1, le=64)] = 4
    """Latents that share a draw: a byte each run."""


class Best(Sampler):
    """A byte a run says which of 256 draws has the largest weight q(c) / p(c)."""

    options_class = BestOptions

    def encode(self, d, r, random):
        shape = d.shape
        d, r = self.runs(d, 0), self.runs(r, 1)
        best = np.zeros(len(d), np.uint8)
        for start in range(0, len(d), 1024):  # to bound memory
            part = slice(start, start + 1024)
            draws = self.draws(random, np.arange(len(d))[part, None], np.arange(256))
            errors = (draws - d[part, None]) / r[part, None]
            best[part] = (draws**2 - errors**2).sum(2).argmax(1)
        data = best.tobytes()
        return CodedSample(data, self.decode(data, shape, random))

    def decode(self, data, shape, random):
        size = int(np.prod(shape))
        if len(data) != -(-size // self.options.run):
            raise BadStream(f"{len(data)} bytes for {size} latents")
        best = np.frombuffer(data, np.uint8)
        # addressed, not consumed: only the draws that were chosen are made
        draws = self.draws(random, np.arange(len(best)), best)
        return draws.reshape(-1)[:size].reshape(shape).astype(np.float32)

    def runs(self, values, rest):
        """(C, H, W) as runs (n, run), the last one filled up."""
        padded = np.full(-(-values.size // self.options.run) * self.options.run, rest, float)
        padded[: values.size] = values.reshape(-1)
        return padded.reshape(-1, self.options.run)

    def draws(self, random, runs, numbers):
        """Draws of N(0, 1) by run and number, (..., run)."""
        rows = np.asarray(runs, np.uint64) * np.uint64(256) + numbers.astype(np.uint64)
        found = random.normals(0, rows.reshape(-1), self.options.run)
        return found.reshape(*rows.shape, -1).astype(float)
