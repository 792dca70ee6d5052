"""CompressAI's own ``compress`` and ``decompress``, made to agree or to say that they don't."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

import numpy as np

from toolkit.format.container import BadStream
from toolkit_plugins.compressai.checkpoints import Network
from toolkit_plugins.compressai.parameter_check import ParameterCheck
from toolkit_plugins.hyperprior.images import synthesise
from toolkit_plugins.hyperprior.parameter_check import fixed_order

_LEAST_BYTES = 8
_PAST_END_BYTES = 40
_WORD = 4
ALONE = threading.Lock()
"""A model that codes is being watched, and its tables may be those of one rate."""


@dataclass(frozen=True)
class Coded:
    """What ``compress`` made: one string a latent (y, then z), and hashes of what it coded."""

    strings: list[bytes]
    digest: bytes


def multiple(architecture: str) -> int:
    """What the sides of a picture must be multiples of."""
    return 16 if architecture == "bmshj2018-factorized" else 64


def stream_count(architecture: str) -> int:
    """1 for the factorized prior, else 2."""
    return 1 if architecture == "bmshj2018-factorized" else 2


def compress(network: Network, image: Any, point: float) -> Coded:
    """Code a float32 array (1, 3, H, W), H and W multiples of ``multiple``.

    ``point`` is the quality; it matters to variable-rate models only, the others have it in
    their weights.
    """
    import torch

    with ALONE, fixed_order():
        arguments = rate_arguments(network, point)
        agreement = ParameterCheck(network.model)
        with agreement.watching():
            coded = network.model.compress(torch.from_numpy(image), **arguments)
    return Coded([strings[0] for strings in coded["strings"]], agreement.digest)


def decompress(
    network: Network,
    coded: Coded,
    size: tuple[int, int],
    point: float,
    precision: str,
    threads: int,
) -> Any:
    """The image, float32 array (1, 3, H, W) for ``size`` (H, W), not clipped.

    What the coder needs is computed in float32 by one thread, as by the encoder; the synthesis
    after it in ``precision`` by ``threads``. Raises Mismatch, BadStream.
    """
    step = multiple(network.architecture)
    shape = (size[0] // step, size[1] // step)
    hyper = shape[0] * shape[1]
    latents = 16 * hyper if stream_count(network.architecture) == 2 else hyper
    model = network.model
    channels = getattr(model, "M", 0)
    counts = [channels * latents, model.entropy_bottleneck.channels * hyper]
    strings = [
        [safe_to_read(string, count)] for string, count in zip(coded.strings, counts, strict=False)
    ]
    with ALONE, fixed_order():
        arguments = rate_arguments(network, point)
        agreement = ParameterCheck(model, coded.digest, channels * latents)
        with agreement.watching():
            latent = _decoded_latent(model, strings, shape, arguments)
    return synthesise(model.g_s, latent, precision, threads)


def safe_to_read(string: bytes, symbols: int) -> bytes:
    """A string that the decoder can't read past the end of, whatever it holds: zeros follow it.

    A value outside its table is written in 4-bit digits, their number before them in digits that
    count on while they are 15. Digits of the string itself so announce at most 15 times as many.
    Past its end the 63-bit state takes in nothing but zeros, 32 at a time: of what is left of it
    a symbol can read 4 digits before those zeros end the count, so 60 digits follow at most,
    and with the words for the symbol itself that is less than 40 bytes.
    Raises BadStream for a string that no encoder wrote.
    """
    if len(string) < _LEAST_BYTES or len(string) % _WORD:
        raise BadStream(f"a range coder's stream can't have {len(string)} bytes")
    return string + bytes(16 * len(string) + _PAST_END_BYTES * symbols + 64)


def rate_arguments(network: Network, point: float) -> dict[str, Any]:
    """Keyword arguments for a point of a variable-rate model, its tables made for it.

    Between the trained gains (inverse step sizes) lie linear mixtures of them: sums and
    products alone, which every machine rounds alike.
    """
    if not network.variable_rate:
        return {}
    import torch

    model = network.model
    gains = np.abs(model.Gain.numpy())
    index = min(int(point) - 1, len(gains) - 1)
    share = np.float32(point - 1 - index)
    above = gains[min(index + 1, len(gains) - 1)]
    scale = torch.tensor(gains[index] + share * (above - gains[index]))
    model.update(force=True, scale=scale)
    return {"s": index} if share == 0 else {"inputscale": scale}


def _decoded_latent(
    model: Any, strings: list[list[bytes]], shape: tuple[int, int], arguments: dict[str, Any]
) -> Any:
    """y_hat: what ``model.decompress`` hands to the synthesis."""
    import torch

    class Catch(torch.nn.Module):
        latent: Any = None

        def forward(self, latent: Any) -> Any:
            self.latent = latent
            return torch.zeros(1)

    catch, synthesis = Catch(), model.g_s
    model.g_s = catch
    try:
        model.decompress(strings, shape, **arguments)
    finally:
        model.g_s = synthesis
    return catch.latent
