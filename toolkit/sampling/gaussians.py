"""Samples of any Gaussians as bytes: arrays and tensors of any shape, no codec, no network.

::

    from toolkit.sampling import decode_gaussians, encode_gaussians

    data = encode_gaussians(mean, scale, prior_mean, prior_scale)   # bytes: about KL[q || p] bits
    z = decode_gaussians(data, prior_mean, prior_scale)             # a sample of N(mean, scale^2)

What is coded is c, a sample of ``N((mean - prior_mean) / prior_scale, (scale / prior_scale)^2)``
against N(0, 1); the decoder makes ``z = prior_mean + prior_scale * c``. The bytes say all that c
depends on, so priors that differ in their last digits between two machines move z by as much and
do no other harm.

The bytes: ``MAGIC``, a version byte, then the body's length (varint), the body and a CRC-32 of all
before it (4 bytes, little-endian). The body, numbers as varints::

    dimensions, then each side
    layout      (see toolkit.sampling.array_layout)
    seed        of the shared random numbers
    sampler     length and tag, length and options (MessagePack; empty: the defaults)
    stream      the sampler's, to the end
"""

from __future__ import annotations

import math
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np

from toolkit.errors import UsageError
from toolkit.format.errors import (
    BadFile,
    BadHeader,
    ChecksumMismatch,
    LimitExceeded,
    NewerVersion,
    NotAContainer,
    TrailingData,
    Truncated,
)
from toolkit.format.limits import current_limits
from toolkit.format.varint import Fields, block, varint
from toolkit.plugin.loader import Plugins, installed_plugins
from toolkit.sampling.array_layout import choose_layout, pack_layout, read_layout
from toolkit.sampling.choice import SamplerChoice, pack_choice, read_choice
from toolkit.sampling.randomness import SharedRandom

if TYPE_CHECKING:
    from toolkit.sampling.contract import Array

MAGIC = b"\x89G"
VERSION = 1
LEAST_R = 2.0**-20
"""A posterior narrower than this, in units of the prior's scale, is coded as if it were as wide."""
FARTHEST = 2.0**22
"""A posterior mean may be so far from the prior's, in units of the prior's scale."""
MOST_SEEDS = 2**32
_MOST_DIMENSIONS = 32
_LONGEST_TAG = 40
_CRC_BYTES = 4


def encode_gaussians(
    mean: Any,
    scale: Any,
    prior_mean: Any,
    prior_scale: Any,
    sampler: str = "trellis",
    seed: int = 0,
    *,
    channel_axis: int | None = None,
    plugins: Plugins | None = None,
    **options: Any,
) -> bytes:
    """Code a sample of N(mean, scale^2), which takes about KL[q || p] bits.

    Arguments:
        mean: of the posterior q; arrays, tensors or numbers of any shapes that broadcast together.
        scale: of the posterior, a standard deviation, above 0.
        prior_mean: of the prior p, which the decoder knows.
        prior_scale: of the prior, above 0.
        sampler: name of a coded sampler: ``toolkit.plugin.loader.installed_plugins().samplers``.
        seed: of the random numbers that encoder and decoder share, 0 to 2^32 - 1. The same
            arguments give the same bytes.
        channel_axis: axis along which the KL differs most (channels of a convolution, units of a
            layer): rates are sent for each of its indices. None: whichever way of cutting the
            array into rows promises the fewest bits.
        plugins: where samplers come from; None: those installed.
        options: the sampler's, such as ``nu=14`` of the trellis; ``refine=True``, with any sampler,
            sends a correction of the prior for each channel where that pays.

    Returns:
        Self-describing bytes, for ``decode_gaussians``.

    Raises:
        UsageError: values that aren't finite, scales that aren't positive, shapes that don't
            broadcast, an unknown sampler or option.
    """
    if not 0 <= seed < MOST_SEEDS:
        raise UsageError(f"seed: 0 to 2^32 - 1, not {seed}")
    choice = SamplerChoice.from_options(
        plugins or installed_plugins(), {"sampler": sampler, **options}, "encode_gaussians"
    )
    d, r = _standardised(*(_as_numpy(x) for x in (mean, scale, prior_mean, prior_scale)))
    layout = choose_layout(d, r, channel_axis)
    level = layout.to_level(d, 0), layout.to_level(r, 1)
    coded = choice.build().encode(*level, SharedRandom(seed, 0))
    body = b"".join(
        [
            *(varint(number) for number in (d.ndim, *d.shape)),
            pack_layout(layout),
            varint(seed),
            block(choice.spec.tag.encode()),
            pack_choice(choice),
            coded.data,
        ]
    )
    head = MAGIC + bytes([VERSION]) + block(body)
    return head + zlib.crc32(head).to_bytes(_CRC_BYTES, "little")


def decode_gaussians(
    data: bytes, prior_mean: Any, prior_scale: Any, *, plugins: Plugins | None = None
) -> Any:
    """The sample that ``encode_gaussians`` coded, of the shape that its arguments had.

    Arguments:
        data: what ``encode_gaussians`` returned.
        prior_mean: as it was for the encoder; anything that broadcasts to the coded shape.
        prior_scale: as it was for the encoder.
        plugins: where samplers come from; None: those installed.

    Returns:
        A torch tensor on the priors' device where either of them is a tensor, else a numpy array;
        float64 where either is, else float32.

    Raises:
        BadFile: one of its subclasses (``toolkit.format.errors``) says what is wrong with ``data``.
        UsageError: priors that don't broadcast to the coded shape, or aren't finite.
    """
    body = _body(data)
    fields = Fields(body, 0, len(body))
    shape = _read_shape(fields, len(data), max(_size(prior_mean), _size(prior_scale)))
    layout = read_layout(fields, shape)
    seed = fields.number()
    if seed >= MOST_SEEDS:
        raise BadHeader(f"a seed of {seed}; get a fresh copy")
    tag = _tag(fields.bytes(min(fields.number(), _LONGEST_TAG)))
    choice, stream = read_choice(plugins or installed_plugins(), tag, body[fields.at :])
    c = layout.from_level(choice.build().decode(stream, layout.level, SharedRandom(seed, 0)))
    return _of_prior(c, prior_mean, prior_scale)


# -- arrays and tensors ---------------------------------------------------------------


def _is_tensor(value: Any) -> bool:
    """Without importing torch."""
    return type(value).__module__.partition(".")[0] == "torch" or hasattr(value, "as_subclass")


def _as_numpy(value: Any) -> Any:
    """A number, a list, an array or a tensor on any device as a numpy array."""
    if _is_tensor(value):
        value = value.detach().cpu()
        value = (value if value.element_size() > 2 else value.float()).numpy()  # bfloat16, too
    array = np.asarray(value)
    if array.dtype.kind not in "fiub":
        raise UsageError(f"real numbers are coded, not {array.dtype}")
    return array


def _size(value: Any) -> int:
    return math.prod(np.shape(value) if not _is_tensor(value) else value.shape)


def _standardised(mean: Any, scale: Any, prior_mean: Any, prior_scale: Any) -> tuple[Array, Array]:
    """d and r, float32, in units of the prior. Raises UsageError."""
    try:
        shape = np.broadcast_shapes(mean.shape, scale.shape, prior_mean.shape, prior_scale.shape)
    except ValueError:
        shapes = ", ".join(str(x.shape) for x in (mean, scale, prior_mean, prior_scale))
        raise UsageError(f"shapes that don't broadcast together: {shapes}") from None
    if 0 in shape:
        raise UsageError(f"nothing to code: shape {shape}")
    with np.errstate(all="ignore"):
        d = np.subtract(mean, prior_mean, dtype=np.float64) / prior_scale
        r = np.divide(scale, prior_scale, dtype=np.float64)
        good = np.isfinite(d).all() and np.isfinite(r).all()
    if not (good and np.isfinite(prior_scale).all()):
        raise UsageError("means and scales must be finite, and scales positive")
    if not ((scale > 0).all() and (prior_scale > 0).all()):
        raise UsageError("scales must be positive")
    if np.abs(d).max() > FARTHEST:
        raise UsageError(
            f"a posterior mean is {np.abs(d).max():.3g} scales away from the prior's, the most is "
            f"{FARTHEST:.0f}"
        )
    r = np.clip(r, LEAST_R, np.finfo(np.float32).max)
    d, r = (np.broadcast_to(x, shape).astype(np.float32) for x in (d, r))
    return d, r


def _of_prior(c: Array, prior_mean: Any, prior_scale: Any) -> Any:
    """``prior_mean + prior_scale * c``."""
    priors = (prior_mean, prior_scale)
    if any(_is_tensor(x) for x in priors):
        return _tensor_of_prior(c, priors)
    wide = any(getattr(x, "dtype", None) == np.float64 for x in priors)
    dtype = np.float64 if wide else np.float32
    mean, scale = (_fitting(np.asarray(x, dtype), c.shape) for x in priors)
    return mean + scale * c.astype(dtype, copy=False)


def _tensor_of_prior(c: Array, priors: tuple[Any, Any]) -> Any:
    import torch

    tensors = [x for x in priors if isinstance(x, torch.Tensor)]
    wide = any(str(getattr(x, "dtype", "")).endswith("float64") for x in priors)
    dtype, device = torch.float64 if wide else torch.float32, tensors[0].device
    mean, scale = (_fitting(torch.as_tensor(x).detach().to(device, dtype), c.shape) for x in priors)
    return mean + scale * torch.from_numpy(c).to(device, dtype)


def _fitting(prior: Any, shape: tuple[int, ...]) -> Any:
    """The prior, of which the shape must broadcast to what was coded. Raises UsageError."""
    given = tuple(prior.shape)
    try:
        if np.broadcast_shapes(given, shape) == shape:
            return prior
    except ValueError:
        pass
    raise UsageError(f"a prior of shape {given} for values of shape {shape}")


# -- bytes ------------------------------------------------------------------------------


def _body(data: bytes) -> bytes:
    """What lies between the head and the checksum, once both are right. Raises a BadFile."""
    data = bytes(data)
    if data[: len(MAGIC)] != MAGIC:
        if data and MAGIC.startswith(data):
            raise Truncated("coded Gaussians that end within their first bytes")
        raise NotAContainer("these bytes aren't coded Gaussians")
    start = len(MAGIC) + 1
    if len(data) < start:
        raise Truncated("coded Gaussians that end within their first bytes")
    if data[len(MAGIC)] != VERSION:
        raise NewerVersion(
            f"coded Gaussians of version {data[len(MAGIC)]}; this toolkit reads {VERSION}"
        )
    fields = Fields(data, start, len(data))
    try:
        length = fields.number()
    except BadFile:
        raise Truncated("coded Gaussians whose length can't be read; get a fresh copy") from None
    end = fields.at + length + _CRC_BYTES
    if len(data) < end:
        raise Truncated(f"coded Gaussians: {len(data)} bytes of {end}; get a fresh copy")
    if len(data) > end:
        raise TrailingData(f"coded Gaussians: {len(data) - end} bytes after their end")
    if zlib.crc32(data[:-_CRC_BYTES]) != int.from_bytes(data[-_CRC_BYTES:], "little"):
        raise ChecksumMismatch("coded Gaussians: the checksum doesn't fit; get a fresh copy")
    return data[fields.at : -_CRC_BYTES]


def _read_shape(fields: Fields, size: int, known: int) -> tuple[int, ...]:
    """The shape, which ``size`` bytes, or priors of ``known`` values, make plausible.

    Raises BadHeader, and LimitExceeded before anything is allocated.
    """
    dimensions = fields.number()
    if dimensions > _MOST_DIMENSIONS:
        raise BadHeader(f"coded Gaussians of {dimensions} dimensions; get a fresh copy")
    shape = tuple(fields.number() for _ in range(dimensions))
    values, limits = math.prod(shape), current_limits()
    if values == 0:
        raise BadHeader(f"coded Gaussians of shape {shape}; get a fresh copy")
    most = limits.pixels_per_byte
    if values > known and most and values > max(limits.unproven_pixels, size * most):
        raise LimitExceeded(
            f"{values} values in {size} bytes: damaged, or made to take your memory; give priors "
            "of that shape if you trust it"
        )
    return shape


def _tag(data: bytes) -> str:
    try:
        return data.decode("ascii")
    except UnicodeDecodeError:
        raise BadHeader(f"{data!r} is no name of a sampler; get a fresh copy") from None
