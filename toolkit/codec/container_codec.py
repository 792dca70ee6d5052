"""The envelope of every ``.qf`` codec: container, gray and alpha, stream version, fingerprint."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from toolkit.codec.alpha import decode_alpha, encode_alpha
from toolkit.codec.base import (
    Codec,
    Decoded,
    DecodeSettings,
    Encoded,
    Picture,
    Theoretical,
    as_picture,
    as_rgb,
    from_rgb,
    mode_of,
)
from toolkit.codec.metadata import METADATA, NO_METADATA, Metadata, pack_metadata, unpack_metadata
from toolkit.format.container import (
    BadStream,
    Container,
    OtherModel,
    Stream,
    read_container,
    write_container,
)
from toolkit.format.weights import Weights, find_weights, load_weights, weights_of_fingerprint
from toolkit.format.weights_url import is_url, locate_weights

if TYPE_CHECKING:
    from toolkit.codec.base import ImageLike, Pixels

ALPHA = "a"
"""Name of the stream of an alpha plane, the last of its file."""


@dataclass(frozen=True)
class Payload:
    """What a codec makes of the RGB part of a picture."""

    parameters: bytes
    """What its decoder needs besides the streams."""
    streams: tuple[Stream, ...]
    fingerprint: bytes | None
    """8 bytes over weights and architecture; None for codecs without weights."""
    parts: dict[str, float] = field(default_factory=dict)
    """Bits of the streams by what they are for; empty: each stream under its own name."""
    show: Callable[[], Pixels] | None = None
    """Makes the RGB picture that the decoder will show."""
    kl_bits: dict[str, float] = field(default_factory=dict)
    """KL[q || p] in bits of each level."""
    coder_seconds: float | None = None


Room = Callable[[Payload], int]
"""Bytes that the file of a payload has left of its budget; below 0 where it is too large."""


class ContainerCodec(Codec):
    """Base class of codecs whose files are ``.qf`` containers.

    A subclass codes and decodes RGB pictures of any size; gray pictures come to it as RGB, and
    alpha planes never. A file is decoded by what it says alone: options play no part.
    """

    stream_version: ClassVar[int] = 1
    """Of the files that it writes ..."""
    readable_versions: ClassVar[tuple[int, ...]] = (1,)
    """... and of those that it reads."""
    carries = frozenset({"exif", "icc", "resolution"})

    @abstractmethod
    def encode_rgb(self, rgb: Pixels, point: float, room: Room | None = None) -> Payload:
        """Code uint8 RGB (H, W, 3).

        Arguments:
            room: For a codec that can fill a budget (``fits_bytes``): what is left of it.
        """

    @abstractmethod
    def decode_rgb(self, container: Container, settings: DecodeSettings) -> Decoded:
        """uint8 RGB (H, W, 3) of a container without alpha. Raises a ``BadFile`` for streams and
        parameters that no encoder writes."""

    def theoretical_rgb(self, rgb: Pixels, point: float) -> Theoretical | None:
        """As ``theoretical``, of RGB."""
        return None

    def describe(self, container: Container) -> dict[str, Any]:
        """What ``toolkit info`` can say of a file beyond its header; decodes nothing."""
        return {}

    @property
    def fits_bytes(self) -> bool:
        """Whether ``encode_rgb`` can fill a budget of bytes."""
        return False

    # -- encoding ----------------------------------------------------------------

    def encode_pixels(self, pixels: Pixels, point: float) -> Encoded:
        return self._encode(Picture(pixels), point, None)

    def encode_picture(self, picture: Picture, point: float) -> Encoded:
        return self._encode(picture, point, None)

    def encode_within(self, image: ImageLike, point: float, max_bytes: int) -> Encoded:
        """As ``encode``, in ``max_bytes`` bytes or as few less as can be where the codec can fill
        a budget, else in at most so many. Raises UsageError where the file is larger."""
        if not self.fits_bytes:
            return super().encode_within(image, point, max_bytes)
        self.check_point(point)
        return self._encode(as_picture(image), point, max_bytes)

    def _encode(self, picture: Picture, point: float, max_bytes: int | None) -> Encoded:
        pixels = picture.pixels
        alpha = pixels[:, :, 3] if pixels.shape[2] == 4 else None
        behind = {"alpha": Stream(ALPHA, encode_alpha(alpha))} if alpha is not None else {}
        if picture.metadata:
            behind["metadata"] = pack_metadata(picture.metadata)

        def contained(payload: Payload) -> Container:
            return Container(
                width=pixels.shape[1],
                height=pixels.shape[0],
                mode=mode_of(pixels),
                codec=self.spec.name,
                stream_version=self.stream_version,
                fingerprint=payload.fingerprint,
                parameters=payload.parameters,
                streams=(*payload.streams, *behind.values()),
            )

        def room(payload: Payload) -> int:
            assert max_bytes is not None
            return max_bytes - len(write_container(contained(payload)))

        payload = self.encode_rgb(as_rgb(pixels), point, None if max_bytes is None else room)
        data = write_container(contained(payload))
        parts = dict(payload.parts) or {s.name: 8.0 * len(s.data) for s in payload.streams}
        parts |= {name: 8.0 * len(stream.data) for name, stream in behind.items()}
        show = payload.show
        return Encoded(
            data,
            show=None if show is None else lambda: from_rgb(show(), mode_of(pixels), alpha),
            parts={"header": 8.0 * len(data) - sum(parts.values()), **parts},
            kl_bits=payload.kl_bits,
            coder_seconds=payload.coder_seconds,
        )

    def theoretical(self, pixels: Pixels, point: float) -> Theoretical | None:
        bound = self.theoretical_rgb(as_rgb(pixels), point)
        if bound is None:
            return None
        alpha = pixels[:, :, 3] if pixels.shape[2] == 4 else None
        return Theoretical(bound.bits, from_rgb(bound.pixels, mode_of(pixels), alpha))

    # -- decoding ----------------------------------------------------------------

    def decode(self, data: bytes, settings: DecodeSettings = DecodeSettings()) -> Decoded:
        return self.decode_container(read_container(data), settings)

    def decode_container(self, container: Container, settings: DecodeSettings) -> Decoded:
        """Decode a file that has been read. Raises a ``BadFile`` for one that no encoder of this
        codec wrote."""
        self.check_container(container)
        metadata = metadata_in(container, settings.partial)
        alpha = self._alpha(container, settings.partial) if container.mode == "RGBA" else None
        decoded = self.decode_rgb(colours_in(container), settings)
        pixels = from_rgb(decoded.pixels, container.mode, alpha)
        return replace(decoded, pixels=pixels, metadata=metadata)

    def _alpha(self, container: Container, partial: bool) -> Pixels:
        """The alpha plane; opaque where it is missing of a file cut short."""
        try:
            for stream in container.essential.streams[-1:]:
                if stream.name == ALPHA:
                    return decode_alpha(stream.data, container.height, container.width)
            raise BadStream(f"codec '{self.spec.name}': the last stream must be '{ALPHA}'")
        except BadStream:
            if not partial:
                raise
            return np.full((container.height, container.width), 255, np.uint8)

    def check_container(self, container: Container) -> None:
        """Raises BadStream for a file of another codec or stream version."""
        name = self.spec.name
        if container.codec != name:
            raise BadStream(f"a file of codec '{container.codec}', not of '{name}'")
        if container.stream_version not in self.readable_versions:
            raise BadStream(f"codec '{name}' has no stream version {container.stream_version}")


def colours_in(container: Container) -> Container:
    """A container without alpha and ancillary streams: what ``decode_rgb`` takes."""
    *streams, last = container.essential.streams or (Stream("", b""),)
    if container.mode == "RGBA" and last.name == ALPHA:
        return replace(container, streams=tuple(streams))
    return container.essential


def metadata_in(container: Container, partial: bool = False) -> Metadata:
    """What a file says of its picture beside its pixels. Raises BadStream, unless the file was cut
    short (``partial``)."""
    try:
        for stream in container.streams:
            if stream.name == METADATA:
                return unpack_metadata(stream.data)
    except BadStream:
        if not partial:
            raise
    return NO_METADATA


def weights_of_file(
    container: Container, settings: DecodeSettings, own: str, folder: Path
) -> Weights:
    """The weights that a file was made with.

    Arguments:
        container: the file.
        settings: may name weights, and let them be fetched.
        own: those of the codec, by name in ``folder``, path or URL; empty: whatever fits the file,
            in ``folder`` or among those once fetched.
        folder: of the weights that ship.

    Raises:
        OtherModel: none fit, or those named don't.
        MissingError, InputError, UsageError: as ``locate_weights`` and ``load_weights`` do.
    """
    wanted = container.fingerprint or b""
    if settings.weights is not None:
        path: Path | None = locate_weights(str(settings.weights), settings.download)
    elif is_url(own):
        path = locate_weights(own, settings.download)
    else:
        path = find_weights(own, folder) if own else weights_of_fingerprint(wanted, folder)
    if path is None:
        raise OtherModel(
            f"the file was made with weights {wanted.hex()}, which aren't among those "
            "installed: name their file with --weights"
        )
    weights = load_weights(path)
    if weights.fingerprint != wanted:
        raise OtherModel(
            f"the file was made with weights {wanted.hex()}, not with "
            f"{weights.path.name} ({weights.fingerprint.hex()})"
        )
    return weights
