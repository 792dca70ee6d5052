"""What the codecs behind Pillow share: pixels to a native file and back."""

from __future__ import annotations

import io
import struct
import warnings
from abc import abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from PIL import Image, features

from toolkit.codec import CHANNELS, Codec, Decoded, DecodeSettings, Encoded, mode_of
from toolkit.container import LIMITS, BadStream, LimitExceeded
from toolkit.errors import InputError

if TYPE_CHECKING:
    from toolkit.codec import Pixels

# Everything that Pillow and its plugins raise for files that are no pictures.
UNREADABLE = (
    OSError, SyntaxError, ValueError, TypeError, RuntimeError, EOFError, LookupError, MemoryError,
    ArithmeticError, struct.error, Image.DecompressionBombError,
)  # fmt: skip


class PillowCodec(Codec):
    """A codec whose files Pillow writes and reads."""

    format: ClassVar[str]
    """Pillow's name of the format."""
    modes: ClassVar[tuple[str, ...]] = ("L", "RGB", "RGBA")
    """Modes that files can hold."""
    library: ClassVar[str]
    """Pillow's name of the library, for its version."""

    @abstractmethod
    def parameters(self, pixels: Pixels, point: float) -> dict[str, Any]:
        """Arguments of ``Image.save``."""

    def encode_pixels(self, pixels: Pixels, point: float) -> Encoded:
        mode = mode_of(pixels)
        if mode not in self.modes:
            raise InputError(f"{self.spec.name}: files have no alpha channel: convert to RGB first")
        file = io.BytesIO()
        try:
            picture = Image.fromarray(pixels[:, :, 0] if mode == "L" else pixels)
            picture.save(file, self.format, **self.parameters(pixels, point))
        except (OSError, ValueError, RuntimeError) as error:
            height, width = pixels.shape[:2]
            raise InputError(
                f"{self.spec.name}: can't code a {width}x{height} {mode} picture ({error})"
            ) from None
        return Encoded(file.getvalue())

    def decode(self, data: bytes, settings: DecodeSettings = DecodeSettings()) -> Decoded:
        self.check_file(data)
        try:
            with (
                warnings.catch_warnings(),
                Image.open(io.BytesIO(data), "r", [self.format]) as file,
            ):
                warnings.simplefilter("ignore")
                check_size(self.spec.name, *file.size)
                file.load()
                mode, pixels = file.mode, np.array(file)
        except UNREADABLE as error:
            raise self.bad(error) from None
        if mode not in CHANNELS:
            raise BadStream(f"{self.spec.name}: pixels of mode {mode}, not 8-bit L, RGB or RGBA")
        return Decoded(pixels[:, :, None] if pixels.ndim == 2 else pixels)

    def check_file(self, data: bytes) -> None:
        """Raises BadStream unless ``data`` starts as files of this format do."""
        magic = self.spec.magic
        if magic and not any(data[at : at + len(word)] == word for at, word in magic):
            raise BadStream(f"{self.spec.name}: byte {magic[0][0]}: not a {self.spec.suffix} file")

    def bad(self, error: Exception) -> BadStream:
        """What to raise for ``error``."""
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        return BadStream(f"{self.spec.name}: damaged or cut file ({reason}); get a fresh copy")

    def identity(self) -> dict[str, Any]:
        import PIL

        return {"pillow": PIL.__version__, self.library: features.version(self.library)}


def check_size(codec: str, width: int, height: int) -> None:
    """Raises LimitExceeded for a picture larger than any file may ask for."""
    if max(width, height) > LIMITS.side or width * height > LIMITS.pixels:
        raise LimitExceeded(
            f"{codec}: a picture of {width}x{height} pixels, the limit is {LIMITS.pixels}"
        )
