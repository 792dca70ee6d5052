"""The best of 16 draws for each latent, by itself."""

import math

import numpy as np

from toolkit import hookimpl
from toolkit.plugin.specs import SamplerSpec
from toolkit.sampling.coding.bits import BitReader, BitWriter
from toolkit.sampling.contract import CodedSample, Sampler


@hookimpl
def toolkit_samplers():
    yield SamplerSpec("best16", "best of 16 draws", f"{__name__}:Best16", tag="b16")


class Best16(Sampler):
    def encode(self, d, r, random):
        draws = random.normals(0, np.arange(16), d.size)
        log_weights = 0.5 * draws**2 - 0.5 * ((draws - d.ravel()) / r.ravel()) ** 2
        writer = BitWriter()
        writer.write(log_weights.argmax(axis=0), 4)
        data = writer.data()
        return CodedSample(data, self.decode(data, d.shape, random))

    def decode(self, data, shape, random):
        reader = BitReader(data)
        best = reader.read(4, math.prod(shape))
        reader.finish()  # nothing may follow
        draws = random.normals(0, np.arange(16), best.size)
        return draws[best, np.arange(best.size)].reshape(shape)
