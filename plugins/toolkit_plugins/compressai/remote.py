"""What the sandbox runs: the decoding of a file's streams."""

from __future__ import annotations

import msgspec
import numpy as np

from toolkit.format.container import BadStream, OtherModel
from toolkit_plugins.compressai.checkpoints import Source, load_network
from toolkit_plugins.compressai.rans import Coded, decompress, multiple
from toolkit_plugins.hyperprior.images import from_network, padded


class Job(msgspec.Struct, frozen=True):
    """A file's streams, and what is needed to decode them."""

    strings: list[bytes]
    digest: bytes
    fingerprint: bytes
    point: float
    height: int
    width: int
    precision: str
    threads: int


def prepare(setup: bytes) -> None:
    """Load the network, for all workers to come."""
    import torch

    torch.set_num_threads(1)  # before any work: a pool of threads doesn't survive a fork
    load_network(msgspec.msgpack.decode(setup, type=Source))


def run(setup: bytes, payload: bytes) -> bytes:
    """Pixels, uint8 (H, W, 3) as bytes. Raises Disagreement, OtherModel, BadStream."""
    network = load_network(msgspec.msgpack.decode(setup, type=Source))
    job = msgspec.msgpack.decode(payload, type=Job)
    if job.fingerprint != network.fingerprint:
        raise OtherModel(
            f"the file was made with weights {job.fingerprint.hex()}, those at hand are "
            f"{network.fingerprint.hex()}: name the file of the right ones with --weights"
        )
    step = multiple(network.architecture)
    size = padded(job.height, step), padded(job.width, step)
    coded = Coded(job.strings, job.digest)
    image = decompress(network, coded, size, job.point, job.precision, job.threads)
    try:
        pixels: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]
        pixels = from_network(image, job.height, job.width)
    except ValueError as error:
        raise BadStream(str(error)) from None
    return pixels.tobytes()
