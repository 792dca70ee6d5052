"""What a codec is: image in, bytes out, and back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from toolkit.codec.metadata import NO_METADATA, Metadata
from toolkit.codec.picture import ImageLike, Picture, as_picture, as_pixels
from toolkit.codec.pixels import CHANNELS, MODES, Pixels, as_rgb, from_rgb, mode_of
from toolkit.display import changed_options, html_table, options_table, png
from toolkit.errors import UsageError
from toolkit.format.limits import LEAST_PIXEL_BYTES
from toolkit.options import Options
from toolkit.threads import survive_forks

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from toolkit.plugin.loader import Plugins
    from toolkit.plugin.specs import CodecSpec

# pixels are part of this module for whoever writes a codec
__all__ = [
    "CHANNELS",
    "MODES",
    "Codec",
    "DecodeSettings",
    "Decoded",
    "Encoded",
    "ImageLike",
    "LatentLevel",
    "Metadata",
    "Picture",
    "Pixels",
    "Theoretical",
    "as_picture",
    "as_pixels",
    "as_rgb",
    "from_rgb",
    "mode_of",
]


@dataclass(frozen=True, repr=False)
class Encoded:
    """A coded image and what is known about it."""

    data: bytes
    """The file."""
    show: Callable[[], Pixels] | None = None
    """Makes ``reconstruction``, where the encoder can. A file doesn't need it, and it takes a
    network's whole way back to pixels."""
    parts: dict[str, float] = field(default_factory=dict)
    """Bits of the file by what they are for; they add up to its size."""
    kl_bits: dict[str, float] = field(default_factory=dict)
    """KL[q || p] in bits of each level, for codecs that send samples."""
    coder_seconds: float | None = None
    """Time in the entropy coder or sampler, the network left out."""

    @cached_property
    def reconstruction(self) -> Pixels | None:
        """What the decoder will show, where the encoder can tell; uint8 (H, W, C). Made when
        first asked for, and before this object goes to another process."""
        return self.show() if self.show is not None else None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "reconstruction": self.reconstruction, "show": None}

    def __repr__(self) -> str:
        parts = ", ".join(f"{name} {bits / 8:,.0f}" for name, bits in self.parts.items())
        return f"Encoded({len(self.data):,} bytes{f': {parts}' if parts else ''})"

    def _repr_html_(self) -> str:
        """What the bits of the file are for."""
        whole = 8 * len(self.data)
        rows = [
            (
                name,
                f"{bits / 8:,.0f}",
                f"{bits / whole:.1%}",
                f"{self.kl_bits[name] / 8:,.0f}" if name in self.kl_bits else "",
            )
            for name, bits in self.parts.items()
        ]
        return html_table(("part", "bytes", "share", "KL, bytes"), rows, repr(self))


@dataclass(frozen=True, repr=False)
class Decoded:
    """A decoded image."""

    pixels: Pixels
    coder_seconds: float | None = None
    levels: tuple[int, int] | None = None
    """Of a file that codes a ladder: how many levels were decoded, and how many the model has."""
    metadata: Metadata = NO_METADATA
    """What the file says of the picture beside its pixels."""

    def __repr__(self) -> str:
        height, width, _ = self.pixels.shape
        return f"Decoded({width}x{height} {mode_of(self.pixels)})"

    def _repr_png_(self) -> bytes:
        """The picture."""
        return png(self.pixels)


@dataclass(frozen=True)
class Theoretical:
    """What an ideal coder would reach (thesis, section 4.2)."""

    bits: float
    """KL + 2 log2(KL + 1), KL the sum over all levels in bits."""
    pixels: Pixels
    """Reconstruction from a plain posterior sample."""


@dataclass(frozen=True)
class LatentLevel:
    """One level of an image's latents as Gaussians; all arrays float32 (C, H, W).

    In the network's units: nothing is standardised by the prior.
    """

    name: str
    prior_mean: NDArray[np.float32]
    prior_scale: NDArray[np.float32]
    """Standard deviations, above 0."""
    posterior_mean: NDArray[np.float32]
    posterior_scale: NDArray[np.float32]
    sample: NDArray[np.float32]
    """A plain posterior sample: what the levels below are conditioned on."""


@dataclass(frozen=True)
class DecodeSettings:
    """How to decode: none of it changes what a file means."""

    precision: Literal["float32", "float64", "bfloat16"] = "float32"
    threads: int | None = None
    weights: Path | str | None = None
    """A file, or a URL as in ``toolkit.format.weights_url``; None: the codec's, or what fits."""
    download: bool = False
    """Whether weights that aren't here may be fetched."""
    levels: int | None = None
    """Of a file that codes a ladder: how many levels to decode, from the top; those below are taken
    at the means of their priors. None: all."""
    partial: bool = False
    """Whether a file that was cut short is decoded as far as it goes, unverified."""
    device: str | None = None
    """Where the networks run: ``auto``, ``cpu``, ``cuda`` or ``mps``; None: the codec's."""


class Codec(ABC):
    """Base class of codecs.

    A subclass sets ``options_class``; its constructor takes what this one takes, and does
    nothing slow: weights load when first needed. The one number that trades rate for quality
    is the ``point`` of ``encode``, in the units of the spec's rate parameter.
    """

    options_class: ClassVar[type[Options]] = Options
    carries: ClassVar[frozenset[str]] = frozenset()
    """Which metadata its files carry: ``exif``, ``icc``, ``resolution``."""

    def __init__(self, spec: CodecSpec, options: Any, plugins: Plugins | None = None) -> None:
        survive_forks()
        self.spec = spec
        self.options = options
        self._plugins = plugins
        self.device = "cpu"
        """Where networks run, for codecs whose networks can run elsewhere: a word of
        ``toolkit.device``."""

    def __repr__(self) -> str:
        told = f": {text}" if (text := changed_options(self.options)) else ""
        return f"<codec '{self.spec.name}'{told}>"

    def _repr_html_(self) -> str:
        """Its options."""
        return options_table(self.options, f"codec '{self.spec.name}': {self.spec.summary}")

    @property
    def plugins(self) -> Plugins:
        """All plugins, for codecs made of other plugins' parts (samplers)."""
        if self._plugins is None:
            from toolkit.plugin.loader import installed_plugins

            self._plugins = installed_plugins()
        return self._plugins

    def encode(self, image: ImageLike, point: float) -> Encoded:
        """Code an image: a uint8 array (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), a PIL image,
        a path, or what ``as_picture`` makes of one. EXIF, ICC profile and resolution come along,
        where the codec's files carry them.

        Raises InputError for an image that can't be read or coded, UsageError for a point
        outside the rate parameter's range.
        """
        self.check_point(point)
        picture = as_picture(image)
        return self.encode_picture(replace(picture, metadata=self.carried(picture)), point)

    def carried(self, picture: Picture) -> Metadata:
        """What files of this codec carry of a picture's metadata."""
        return picture.metadata.only(self.carries)

    def encode_picture(self, picture: Picture, point: float) -> Encoded:
        """Code a picture whose metadata files carry; codecs that ``carries`` any override it."""
        return self.encode_pixels(picture.pixels, point)

    def check_point(self, point: float) -> None:
        """Raises UsageError for a point outside the rate parameter's range."""
        parameter = self.spec.rate_parameter
        if not parameter.low <= point <= parameter.high:
            raise UsageError(
                f"{self.spec.name}: {parameter.name} must be {parameter.low:g} to "
                f"{parameter.high:g}, not {point}"
            )
        if parameter.integer and point != int(point):
            raise UsageError(f"{self.spec.name}: {parameter.name} must be whole, not {point:g}")

    def encode_within(self, image: ImageLike, point: float, max_bytes: int) -> Encoded:
        """As ``encode``, in at most ``max_bytes``; a codec that can fill them does.

        Raises UsageError where the file at this point is larger.
        """
        encoded = self.encode(image, point)
        if len(encoded.data) > max_bytes:
            raise UsageError(
                f"{self.spec.name}: {len(encoded.data)} bytes at {self.spec.rate_parameter.name} "
                f"{point:g}, not {max_bytes}"
            )
        return encoded

    @abstractmethod
    def encode_pixels(self, pixels: Pixels, point: float) -> Encoded:
        """Code uint8 pixels (H, W, C), C being 1, 3 or 4."""

    @abstractmethod
    def decode(self, data: bytes, settings: DecodeSettings = DecodeSettings()) -> Decoded:
        """Decode a file of this codec. Raises a ``container.BadFile`` for one that is not."""

    def picture_of(self, data: bytes) -> tuple[int, int, str]:
        """Width, height and mode (``L``, ``RGB`` or ``RGBA``) that a file of this codec says; a
        codec that can tell without decoding does. Raises a ``container.BadFile``."""
        pixels = self.decode(data).pixels
        return pixels.shape[1], pixels.shape[0], mode_of(pixels)

    def theoretical(self, pixels: Pixels, point: float) -> Theoretical | None:
        """The bound that the thesis draws beside the actual curve, where it has a meaning."""
        return None

    def latent_levels(self, pixels: Pixels, point: float) -> list[LatentLevel] | None:
        """Priors and posteriors of the image's latents, top level first, each level given a
        sample of those above; None for a codec that has none. For looking at (cross-sections
        of the latent space: thesis, figures 3.3 and 4.3 to 4.8); coding doesn't need it."""
        return None

    def memory(self, height: int, width: int, *, encoding: bool = False) -> int:
        """Bytes, about and from above, that a process holds when it codes or decodes a picture of
        this size; ``--max-memory`` is held against it. Here: what no codec can do without."""
        return LEAST_PIXEL_BYTES * height * width

    def require(self, points: Sequence[float]) -> None:
        """Make sure that all that coding at ``points`` takes is there, or fetch it.

        Raises MissingError for weights that aren't there and can't be had.
        """
        return None

    def identity(self) -> dict[str, Any]:
        """What, beside the options, a result depends on: stream version, weights, libraries."""
        return {}
