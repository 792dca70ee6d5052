"""A codec: cosine transforms of 8x8 blocks, rounded and deflated, in the toolkit's container.

toolkit eval --plugin examples/codec.py --codec blocks photos
toolkit encode --plugin examples/codec.py --codec blocks --point 20 a.png a.qf
toolkit decode --plugin examples/codec.py a.qf b.png
"""

import zlib
from functools import partial
from typing import Annotated

import numpy as np
from msgspec import Meta

from toolkit.plugin import (
    BadStream,
    CodecSpec,
    ContainerCodec,
    Decoded,
    Options,
    Payload,
    RateParameter,
    Stream,
    hookimpl,
)

N = 8
WAVES = np.sqrt(2 / N) * np.cos(np.pi / N * np.outer(np.arange(N), np.arange(N) + 0.5))
WAVES[0] /= np.sqrt(2)


@hookimpl
def toolkit_codecs():
    parameter = RateParameter("step", 1, 255, integer=True, more_bits="down")
    yield CodecSpec(
        "blocks", "cosine transform and deflate", f"{__name__}:Blocks", rate_parameter=parameter
    )


class BlocksOptions(Options, frozen=True):
    effort: Annotated[int, Meta(ge=1, le=9)] = 9
    """Of deflate; ``-o effort=1`` or a preset sets it."""


class Blocks(ContainerCodec):
    """RGB in, RGB out: gray, alpha and the file itself are the base class's work."""

    options_class = BlocksOptions

    def encode_rgb(self, rgb, point, room=None):
        height, width = rgb.shape[:2]
        pads = ((0, -height % N), (0, -width % N), (0, 0))
        padded = np.pad(rgb, pads, mode="edge").astype(float) - 128
        blocks = padded.reshape(len(padded) // N, N, -1, N, 3).transpose(4, 0, 2, 1, 3)
        numbers = np.rint(WAVES @ blocks @ WAVES.T / point).astype("<i2")
        by_frequency = numbers.transpose(3, 4, 0, 1, 2).tobytes()
        stream = Stream("blocks", zlib.compress(by_frequency, self.options.effort))
        show = partial(shown, numbers, point, height, width)
        return Payload(bytes([int(point)]), (stream,), fingerprint=None, show=show)

    def decode_rgb(self, container, settings):
        height, width = container.height, container.width
        shape = (N, N, 3, -(-height // N), -(-width // N))
        size = 2 * int(np.prod(shape))
        inflate = zlib.decompressobj()
        try:  # never more than there can be, whatever the file says
            data = inflate.decompress(container.stream("blocks"), size)
        except zlib.error as error:
            raise BadStream(f"blocks: {error}") from None
        if len(data) != size or len(container.parameters) != 1 or len(container.streams) != 1:
            raise BadStream("blocks: not what an encoder writes")
        numbers = np.frombuffer(data, "<i2").reshape(shape).transpose(2, 3, 4, 0, 1)
        return Decoded(shown(numbers, container.parameters[0], height, width))


def shown(numbers, step, height, width):
    """Pixels of the rounded coefficients (3, rows, columns, 8, 8)."""
    blocks = WAVES.T @ (numbers * float(step)) @ WAVES + 128
    image = blocks.transpose(1, 3, 2, 4, 0).reshape(numbers.shape[1] * N, -1, 3)
    return np.clip(np.rint(image[:height, :width]), 0, 255).astype(np.uint8)
