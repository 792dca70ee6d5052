"""Pictures in any accepted form as uint8 arrays, and between the modes L, RGB and RGBA."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeAlias

import numpy as np

from toolkit.errors import InputError, ResourceError
from toolkit.format.errors import LimitExceeded
from toolkit.format.limits import LIMITS, check_size, current_limits

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL import Image as PILImage

Pixels: TypeAlias = "NDArray[np.uint8]"
ImageLike: TypeAlias = "Pixels | PILImage.Image | str | Path | BinaryIO"

CHANNELS = {"L": 1, "RGB": 3, "RGBA": 4}
MODES = {channels: mode for mode, channels in CHANNELS.items()}


def as_pixels(image: ImageLike, name: str | None = None) -> Pixels:
    """An image in any accepted form as uint8 (H, W, C) with C of 1, 3 or 4.

    Palettes and bilevel images are expanded, gray with alpha becomes RGBA; 16-bit, float and
    CMYK images are refused, since converting them silently would change what is measured.

    Arguments:
        image: an array (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), uint8; a PIL image; a path; or
            an open binary file that can seek.
        name: what messages call it, where it isn't its path.

    Raises:
        InputError: it can't be read or taken, for whatever reason a reader of pictures has.
        LimitExceeded: it has more pixels than the limits in force allow.
        ResourceError: there isn't enough memory for it.
    """
    if isinstance(image, np.ndarray):
        return _checked(image)
    from PIL import Image, UnidentifiedImageError

    if isinstance(image, Image.Image):
        return _expanded(image)
    name = name or (str(image) if isinstance(image, (str, Path)) else "the picture")
    try:
        return _read(image, name)
    except InputError:
        raise
    except LimitExceeded as error:
        raise LimitExceeded(f"{name}: {error}") from None
    except ResourceError as error:
        raise ResourceError(f"{name}: {error}") from None
    except FileNotFoundError:
        raise InputError(f"{name}: no such file") from None
    except PermissionError as error:
        raise InputError(f"{name}: can't be read ({error.strerror})") from None
    except MemoryError:
        raise ResourceError(f"{name}: out of memory while it was read") from None
    except Exception as error:  # readers of damaged files raise whatever they like
        text = " ".join(str(error).split())[:200] or type(error).__name__
        if isinstance(error, UnidentifiedImageError):
            text = "no format that is known here"
        raise InputError(f"{name}: not an image that can be read ({text})") from None
    except BaseException as error:
        if type(error).__name__ != "PanicException":  # a reader written in Rust gave up
            raise
        raise InputError(f"{name}: not an image that can be read (its reader failed)") from None


def _read(image: str | Path | BinaryIO, name: str) -> Pixels:
    """The picture of a file, its size checked before it is decoded."""
    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of large pictures: the limits in force decide
        with _pillow_limit(), Image.open(image) as opened:
            check_size(*opened.size)
            deep = _more_than_8_bits(opened)
            opened.load()
            if deep and opened.mode in CHANNELS:
                raise InputError(
                    f"{name}: more than 8 bits a sample, which aren't supported: convert it "
                    "to 8-bit L, RGB or RGBA"
                )
            return _expanded(opened)


@contextmanager
def _pillow_limit() -> Iterator[None]:
    """Pillow's own limit out of the way, where the limits in force allow more."""
    from PIL import Image

    before = Image.MAX_IMAGE_PIXELS
    if current_limits().pixels > LIMITS.pixels:
        Image.MAX_IMAGE_PIXELS = None
    try:
        yield
    except Image.DecompressionBombError as error:
        raise LimitExceeded(f"{str(error).split(', ')[0]}: --max-pixels if you trust it") from None
    finally:
        Image.MAX_IMAGE_PIXELS = before


def _expanded(image: PILImage.Image) -> Pixels:
    mode = image.mode
    if mode in ("1", "P", "PA", "LA", "La", "RGBa"):
        transparent = mode in ("PA", "LA", "La", "RGBa") or "transparency" in image.info
        image = image.convert("RGBA" if transparent else "L" if mode == "1" else "RGB")
    elif mode not in CHANNELS:
        raise InputError(f"image mode {mode} isn't supported: convert it to 8-bit L, RGB or RGBA")
    return _checked(np.asarray(image))


def _more_than_8_bits(opened: Any) -> bool:
    """Whether Pillow would drop bits of a file that was opened and not loaded yet: the modes RGB
    and RGBA don't tell, its decoders' arguments (``RGB;16B``, or a PNM file's maximum) do."""
    for tile in getattr(opened, "tile", ()):
        arguments = tile[3] if isinstance(tile[3], tuple) else (tile[3],)
        if ";16" in str(arguments[0]):
            return True
        if tile[0].startswith("ppm") and isinstance(arguments[-1], int) and arguments[-1] > 255:
            return True
    return False


def _checked(array: NDArray[Any]) -> Pixels:
    if array.dtype != np.uint8:
        raise InputError(f"an image array must be uint8, not {array.dtype}")
    if array.ndim == 2:
        array = array[:, :, None]
    if array.ndim != 3 or array.shape[2] not in MODES or 0 in array.shape:
        raise InputError(f"an image array must be (H, W, 1, 3 or 4), not {array.shape}")
    return np.ascontiguousarray(array)


def mode_of(pixels: Pixels) -> str:
    """``L``, ``RGB`` or ``RGBA``."""
    return MODES[pixels.shape[2]]


def from_rgb(rgb: Pixels, mode: str, alpha: Pixels | None) -> Pixels:
    """RGB as decoded -> L (the mean of three channels that were equal), RGB, or RGBA."""
    if mode == "L":
        total = rgb.sum(axis=2, dtype=np.uint16, keepdims=True)
        return ((total + 1) // 3).astype(np.uint8)
    if mode == "RGBA":
        assert alpha is not None
        return np.concatenate([rgb, alpha[:, :, None]], axis=2)
    return rgb


def as_rgb(pixels: Pixels) -> Pixels:
    """(H, W, 3): gray repeated, alpha dropped."""
    return np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else pixels[:, :, :3]
