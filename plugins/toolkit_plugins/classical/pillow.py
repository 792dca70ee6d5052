"""What the codecs behind Pillow share: pixels to a native file and back."""

from __future__ import annotations

import io
import struct
import warnings
from abc import abstractmethod
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import numpy as np
import PIL
from PIL import Image, features

from toolkit.codec.base import CHANNELS, Codec, Decoded, DecodeSettings, Encoded, Picture, mode_of
from toolkit.codec.metadata import fitting, metadata_of
from toolkit.errors import InputError, ResourceError
from toolkit.format.container import BadFile, BadStream, LimitExceeded
from toolkit.format.limits import check_claim, check_memory

if TYPE_CHECKING:
    from toolkit.codec.base import Metadata, Pixels

# Everything that Pillow and its plugins raise for files that are no pictures.
UNREADABLE = (
    OSError, SyntaxError, ValueError, TypeError, RuntimeError, EOFError, LookupError,
    ArithmeticError, AttributeError, struct.error, Image.DecompressionBombError,
)  # fmt: skip
T = TypeVar("T")
UNWRITABLE = (OSError, ValueError, TypeError, RuntimeError)


class NativeCodec(Codec):
    """A codec that writes and reads the files of an existing format."""

    modes: ClassVar[tuple[str, ...]] = ("L", "RGB", "RGBA")
    """Modes that can be coded."""

    @abstractmethod
    def write(self, picture: Picture, mode: str, point: float) -> bytes:
        """The file; may raise what ``UNWRITABLE`` lists."""

    @abstractmethod
    def read(self, data: bytes) -> tuple[str, Pixels, Metadata]:
        """Mode, pixels, (H, W) or (H, W, C), and metadata of a file; may raise what ``UNREADABLE``
        lists."""

    def encode_pixels(self, pixels: Pixels, point: float) -> Encoded:
        """Raises InputError for a mode or size that the format doesn't have."""
        return self.encode_picture(Picture(pixels), point)

    def encode_picture(self, picture: Picture, point: float) -> Encoded:
        """Raises InputError for a mode or size that the format doesn't have."""
        pixels, mode = picture.pixels, mode_of(picture.pixels)
        if mode not in self.modes:
            raise InputError(f"{self.spec.name}: files have no alpha channel: convert to RGB first")
        check_memory(pixels.shape[0], pixels.shape[1], partial(self.memory, encoding=True))
        try:
            return Encoded(self.write(picture, mode, point))
        except MemoryError:
            raise ResourceError(f"{self.spec.name}: out of memory") from None
        except UNWRITABLE as error:
            height, width = pixels.shape[:2]
            raise InputError(
                f"{self.spec.name}: can't code a {width}x{height} {mode} picture: {reason(error)}"
            ) from None

    def read_size(self, data: bytes) -> tuple[int, int, str] | None:
        """Width, height and mode from a file's header, where that can be read alone; may raise what
        ``UNREADABLE`` lists."""
        return None

    def picture_of(self, data: bytes) -> tuple[int, int, str]:
        return self._read(data, self.read_size) or super().picture_of(data)

    def decode(self, data: bytes, settings: DecodeSettings | None = None) -> Decoded:
        """Raises BadStream for a damaged file, LimitExceeded for too large a picture."""
        mode, pixels, metadata = self._read(data, self.read)
        if mode not in CHANNELS:
            raise BadStream(f"{self.spec.name}: pixels of mode {mode}, not 8-bit L, RGB or RGBA")
        pixels = pixels.reshape(*pixels.shape[:2], CHANNELS[mode])
        return Decoded(pixels, metadata=fitting(metadata, mode)[0])

    def _read(self, data: bytes, function: Callable[[bytes], T]) -> T:
        """What ``function`` makes of a file. Raises as ``decode``."""
        name, magic = self.spec.name, self.spec.magic
        if magic and not any(data[at : at + len(word)] == word for at, word in magic):
            raise BadStream(f"{name}: byte {magic[0][0]}: not a {self.spec.suffix} file")
        try:
            return function(data)
        except BadFile:
            raise
        except MemoryError:
            raise ResourceError(f"{name}: out of memory") from None
        except UNREADABLE as error:
            raise BadStream(
                f"{name}: damaged or cut file of {len(data)} bytes ({reason(error)}); "
                "get a fresh copy"
            ) from None


class PillowCodec(NativeCodec):
    """A codec whose files Pillow writes and reads."""

    format: ClassVar[str]
    """Pillow's name of the format."""
    library: ClassVar[str]
    """Pillow's name of the library, for its version."""

    @abstractmethod
    def parameters(self, pixels: Pixels, point: float) -> dict[str, Any]:
        """Arguments of ``Image.save``."""

    def write(self, picture: Picture, mode: str, point: float) -> bytes:
        file, pixels = io.BytesIO(), picture.pixels
        image = Image.fromarray(pixels[:, :, 0] if mode == "L" else pixels)
        settings = {**self.parameters(pixels, point), **picture.metadata.saved()}
        image.save(file, self.format, **settings)
        return file.getvalue()

    def read(self, data: bytes) -> tuple[str, Pixels, Metadata]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of large pictures: check_size has its own limit
            with Image.open(io.BytesIO(data), "r", [self.format]) as file:
                check_size(self.spec.name, *file.size, data)
                refuse_more_than_one(self.spec.name, file)
                pixels = np.array(file)
                return file.mode, pixels, metadata_of(file)

    def read_size(self, data: bytes) -> tuple[int, int, str] | None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data), "r", [self.format]) as file:
                return *file.size, file.mode

    def identity(self) -> dict[str, Any]:
        return {"pillow": PIL.__version__, self.library: features.version(self.library)}


def check_size(codec: str, width: int, height: int, data: bytes) -> None:
    """Raises LimitExceeded for a picture larger than a file may ask for, or this one can hold."""
    try:
        check_claim(width, height, len(data))
    except LimitExceeded as error:
        raise LimitExceeded(f"{codec}: {error}") from None


def refuse_more_than_one(codec: str, file: Any) -> None:
    """Raises BadStream for a file of several pictures, an animation say."""
    frames = int(getattr(file, "n_frames", 1))
    if frames > 1 and file.format != "MPO":  # whose further pictures are copies of the first
        raise BadStream(f"{codec}: {frames} frames; only still pictures are taken")


def reason(error: BaseException) -> str:
    """The message of an error of a library, as one short line."""
    if isinstance(error, PIL.UnidentifiedImageError):
        return "its header can't be read"
    return " ".join(str(error).split()).split(". ")[0][:200] or type(error).__name__
