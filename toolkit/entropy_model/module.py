"""A ladder model as a module with CompressAI's interface: forward, compress, decompress.

::

    model = toolkit.load_model("pln", rate=0.4)
    out = model(x)                                    # x_hat, bits by level, likelihoods
    coded = model.compress(x)                         # strings by level, shape
    x_hat = model.decompress(**coded)["x_hat"]

Images are (B, 3, H, W) in [0, 1], of any size, on the device of the weights; padding is the
module's business. The strings are a level's streams, one for each image, top level first. They
say the rate, but neither samplers nor weights: for files that do, use a codec (``toolkit.load``).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from toolkit.entropy_model.base import LadderModel, Level, Size, State, level_name
from toolkit.entropy_model.network import SMALLEST_R
from toolkit.errors import InputError, UsageError
from toolkit.format.errors import BadStream
from toolkit.format.weights import write_weights
from toolkit.options import to_mapping
from toolkit.sampling.capabilities import with_guesses
from toolkit.sampling.randomness import SharedRandom

if TYPE_CHECKING:
    from toolkit.sampling.contract import Sampler
    from toolkit.sampling.rate_prediction import RatePredictor, RateWalk

RATE_STEPS = 65535
_RATE = struct.Struct("<H")
"""Begins each string of the top level: the rate in units of 1 / RATE_STEPS."""

Choose = Callable[[int, State, Level], Tensor]
"""(level index, state, level) -> a sample, in units of the level's prior, (B, C, h, w)."""


class LadderModule(nn.Module):
    """A ladder model with samplers; see the module.

    Arguments:
        model: the entropy model; its weights are this module's parameters.
        samplers: level name -> sampler.
        name: of the entropy model, for ``save``.
        objective: what the weights were trained for, as in their file.
        rate: in [0, 1]: what images are coded at where a call doesn't say.
        seed: of the random numbers that encoder and decoder share, 0 to 255.
        predictor: guesses the rates of elements, where the weights file has one. It stays as it is
            when the weights are trained on (``toolkit train-rates`` makes another).
    """

    def __init__(
        self,
        model: LadderModel,
        samplers: Mapping[str, Sampler],
        name: str,
        objective: Mapping[str, Any] | None = None,
        rate: float = 0.5,
        seed: int = 0,
        predictor: RatePredictor | None = None,
    ) -> None:
        super().__init__()
        self.predictor = predictor
        self.model, self.samplers, self.name = model, dict(samplers), name
        self.objective = dict(objective or {})
        self.rate, self.seed = rate, seed

    def __repr__(self) -> str:
        numbers = sum(p.numel() for p in self.parameters())
        device = next(self.parameters()).device
        return (
            f"<module '{self.name}': {self.model.depth} levels, {numbers / 1e6:.2f} M weights, "
            f"rate {self.rate:g}, on {device}>"
        )

    @property
    def levels(self) -> list[str]:
        """Names of the levels, top first."""
        return [level_name(index, self.model.depth) for index in range(self.model.depth)]

    def forward(self, x: Tensor, rate: float | Tensor | None = None) -> dict[str, Any]:
        """A plain sample of every level: what a training loss, or an estimate of the rate, needs.

        Arguments:
            x: images (B, 3, H, W) in [0, 1].
            rate: in [0, 1], one for all or (B,); None: the attribute.

        Returns:
            ``x_hat`` (B, 3, H, W), not clipped while training; ``bits``: level name -> KL of each
            image, (B,); ``likelihoods``: level name -> 2^-KL of each latent element (B, C, h, w),
            so that their -log2 adds up to the bits.
        """
        at = self._rates(rate, len(x))
        bits: dict[str, Tensor] = {}
        likelihoods: dict[str, Tensor] = {}

        def sample(index: int, state: State, level: Level) -> Tensor:
            kl = level.kl_bits()
            bits[self.levels[index]] = kl.sum((1, 2, 3))
            tiny = torch.finfo(kl.dtype).tiny
            likelihoods[self.levels[index]] = torch.exp2(-kl).clamp_min(tiny)
            assert level.posterior is not None
            d, log_r = level.posterior
            return d + torch.randn_like(d) * torch.exp(log_r)

        padded = self._padded(x)
        image = self._walk(_size(padded), at, self.model.analyse(padded, at), sample)
        x_hat = image[:, :, : x.shape[2], : x.shape[3]]
        x_hat = x_hat if self.training else x_hat.clamp(0, 1)
        return {"x_hat": x_hat, "bits": bits, "likelihoods": likelihoods}

    def compress(self, x: Tensor, rate: float | Tensor | None = None) -> dict[str, Any]:
        """Code images.

        Arguments:
            x: (B, 3, H, W) in [0, 1].
            rate: as for ``forward``.

        Returns:
            ``strings``: for each level, top first, the bytes of each image; ``shape``: (H, W).

        Raises:
            InputError: images of which these weights make what can't be coded.
        """
        rates = self._rates(rate, len(x))
        steps = [round(float(one) * RATE_STEPS) for one in rates]
        images = [
            self._compress_one(x[i : i + 1], rates.new_tensor([steps[i] / RATE_STEPS]))
            for i in range(len(x))
        ]
        strings = [list(level) for level in zip(*images, strict=True)]
        strings[0] = [_RATE.pack(k) + data for k, data in zip(steps, strings[0], strict=True)]
        return {"strings": strings, "shape": x.shape[-2:]}

    def decompress(
        self, strings: Sequence[Sequence[bytes]], shape: Sequence[int]
    ) -> dict[str, Tensor]:
        """``x_hat`` (B, 3, H, W) in [0, 1] of what ``compress`` returned.

        Raises:
            BadStream: strings that it never returns.
        """
        if len(strings) != self.model.depth or len({len(level) for level in strings}) != 1:
            raise BadStream(f"{self.model.depth} levels of a string for each image expected")
        if any(len(data) < _RATE.size for data in strings[0]):
            raise BadStream("a string of the top level begins with two bytes for the rate")
        steps = [_RATE.unpack_from(data)[0] for data in strings[0]]
        at = self._like(np.array(steps, np.float64) / RATE_STEPS)
        height, width = shape
        padded = self._padded(at.new_zeros(1, 1, height, width))
        size = Size(len(steps), padded.shape[2], padded.shape[3])

        walks = [self._rate_walk(k / RATE_STEPS) for k in steps]

        def read(index: int, state: State, level: Level) -> Tensor:
            channels, rows, columns = level.prior.mean.shape[1:]
            shape, start = (channels, rows, columns), 0 if index else _RATE.size
            values = []
            for data, walk in zip(strings[index], walks, strict=True):
                sampler = self._sampler(index, walk, shape)
                random = SharedRandom(self.seed, index)
                values.append(sampler.decode(bytes(data)[start:], shape, random))
                if walk is not None:
                    walk.add(values[-1])
            return self._like(np.stack(values))

        with torch.no_grad():
            image = self._walk(size, at, None, read)
        return {"x_hat": image[:, :, :height, :width].clamp(0, 1)}

    def update(self, *arguments: Any, **more: Any) -> bool:
        """Nothing, for loops that call it on CompressAI's models: there are no tables to make."""
        return False

    def save(self, path: str | Path, objective: Mapping[str, Any] | None = None) -> None:
        """Write the weights as a file that codecs take (``-o weights=PATH``, ``load_model``).

        Arguments:
            path: ends in ``.safetensors``.
            objective: what they were trained for, as in a recipe; None: the attribute.
        """
        write_weights(
            Path(path),
            self.name,
            to_mapping(self.model.options),
            dict(self.objective if objective is None else objective),
            self.model.state_dict(),
        )

    # -- parts -------------------------------------------------------------------

    def _walk(self, size: Size, rate: Tensor, features: State | None, choose: Choose) -> Tensor:
        model = self.model
        state = model.start(size, rate)
        for index in range(model.depth):
            level = model.level(index, state, features, rate)
            z = level.latent(choose(index, state, level))
            state = model.descend(index, state, z, rate)
        return model.reconstruct(state, rate)

    def _compress_one(self, x: Tensor, rate: Tensor) -> list[bytes]:
        """The streams of an image (1, 3, H, W), top level first."""
        streams: list[bytes] = []
        padded, walk = self._padded(x), self._rate_walk(float(rate))

        def code(index: int, state: State, level: Level) -> Tensor:
            assert level.posterior is not None
            d, log_r = level.posterior
            r = torch.exp(log_r).clamp_min(SMALLEST_R)
            if not bool(d.isfinite().all() and r.isfinite().all()):
                raise InputError(f"these weights can't code this: {self.levels[index]} not finite")
            target = [t[0].float().cpu().contiguous().numpy() for t in (d, r)]
            channels, rows, columns = target[0].shape
            sampler = self._sampler(index, walk, (channels, rows, columns))
            coded = sampler.encode(target[0], target[1], SharedRandom(self.seed, index))
            if walk is not None:
                walk.add(coded.values)
            streams.append(coded.data)
            return self._like(coded.values[None])

        with torch.no_grad():
            features = self.model.analyse(padded, rate)
            self._walk(_size(padded), rate, features, code)
        return streams

    def _rate_walk(self, rate: float) -> RateWalk | None:
        return self.predictor.begin(rate) if self.predictor else None

    def _sampler(self, index: int, walk: RateWalk | None, shape: tuple[int, int, int]) -> Sampler:
        """Of a level, told what is guessed of it."""
        sampler = self.samplers[self.levels[index]]
        return with_guesses(sampler, walk.octaves(shape)) if walk is not None else sampler

    def _like(self, values: Any) -> Tensor:
        """An array as a tensor of the weights' kind, on their device."""
        one = next(self.model.parameters())
        return torch.from_numpy(np.ascontiguousarray(values)).to(one.device, one.dtype)

    def _rates(self, rate: float | Tensor | None, batch: int) -> Tensor:
        """(B,). Raises UsageError."""
        given = self.rate if rate is None else rate
        one = next(self.model.parameters())
        rates = torch.as_tensor(given, dtype=one.dtype, device=one.device)
        if rates.numel() not in (1, batch) or not bool(((rates >= 0) & (rates <= 1)).all()):
            raise UsageError(f"rate: in [0, 1], one for all or one for each image, not {given}")
        return rates.reshape(-1).expand(batch)

    def _padded(self, x: Tensor) -> Tensor:
        """Mirrored outwards at the right and the bottom to the sides that the model takes."""
        stride, least = self.model.stride, self.model.least_side
        for axis in (2, 3):
            side = x.shape[axis]
            wanted = max(-(-side // stride), -(-least // stride)) * stride
            places = np.pad(np.arange(side), (0, wanted - side), mode="symmetric")
            x = x.index_select(axis, torch.from_numpy(places).to(x.device))
        return x


def _size(x: Tensor) -> Size:
    return Size(len(x), x.shape[2], x.shape[3])
