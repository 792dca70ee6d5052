"""Pictures in any accepted form: their pixels, and what belongs to them."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Literal, TypeAlias

import numpy as np

from toolkit.codec import deep_samples
from toolkit.codec.metadata import NO_METADATA, Metadata, fitting, metadata_of, upright
from toolkit.codec.pixels import CHANNELS, Pixels, checked, mode_of
from toolkit.errors import InputError, ResourceError
from toolkit.format.errors import LimitExceeded
from toolkit.format.limits import LIMITS, check_size, current_limits

if TYPE_CHECKING:
    from PIL import Image as PILImage

ImageLike: TypeAlias = "Picture | Pixels | PILImage.Image | str | Path | BinaryIO"
Depth: TypeAlias = "Literal[8] | None"
_FIRST_IS_THE_PICTURE = ("MPO", "PSD")
"""Formats whose further frames are its parts: a smaller copy, the other eye's view, layers."""


@dataclass(frozen=True)
class Picture:
    """One still picture."""

    pixels: Pixels
    """uint8 (H, W, C), C being 1, 3 or 4; upright."""
    metadata: Metadata = NO_METADATA
    notices: tuple[str, ...] = ()
    """What its reader left out."""


def as_pixels(image: ImageLike, name: str | None = None) -> Pixels:
    """The pixels of ``as_picture``."""
    return as_picture(image, name).pixels


def as_picture(image: ImageLike, name: str | None = None, depth: Depth = None) -> Picture:
    """An image in any accepted form, upright: turned as its EXIF says.

    Palettes and bilevel images are expanded, gray with alpha becomes RGBA; 16-bit, float and
    CMYK images are refused, since converting them silently would change what is measured.

    Arguments:
        image: an array (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), uint8; a PIL image; a path; or
            an open binary file that can seek; or a Picture, which is returned.
        name: what messages call it, where it isn't its path.
        depth: 8 to round samples of 16 bits to 8.

    Raises:
        InputError: it can't be read or taken, for whatever reason a reader of pictures has.
        LimitExceeded: it has more pixels than the limits in force allow.
        ResourceError: there isn't enough memory for it.
    """
    if isinstance(image, Picture):
        return image
    if isinstance(image, np.ndarray):
        return Picture(checked(image))
    from PIL import Image, UnidentifiedImageError

    if isinstance(image, Image.Image):
        return _with_metadata(image, _expanded(image, depth))
    name = name or (str(image) if isinstance(image, (str, Path)) else "the picture")
    try:
        return _read(image, name, depth)
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


def _read(image: str | Path | BinaryIO, name: str, depth: Depth) -> Picture:
    """The picture of a file, its size checked before it is decoded."""
    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of large pictures: the limits in force decide
        with _pillow_limit(), Image.open(image) as opened:
            check_size(*opened.size)
            _refuse_more_than_one(opened, name)
            samples = deep_samples.layout(opened)
            if samples and depth:
                return _with_metadata(opened, deep_samples.read(image, opened, samples))
            opened.load()
            if samples and opened.mode in CHANNELS:
                raise InputError(
                    f"{name}: more than 8 bits a sample, which aren't supported: --depth 8 rounds "
                    "them, or convert it to 8-bit L, RGB or RGBA"
                )
            return _with_metadata(opened, _expanded(opened, depth))


def _refuse_more_than_one(opened: PILImage.Image, name: str) -> None:
    """Raises InputError for an animation, and for a file of several pages."""
    frames = int(getattr(opened, "n_frames", 1))
    if frames > 1 and opened.format not in _FIRST_IS_THE_PICTURE:
        raise InputError(f"{name}: {frames} frames or pages; only still pictures are taken")


def _with_metadata(image: PILImage.Image, pixels: Pixels) -> Picture:
    pixels, found = upright(pixels, metadata_of(image))
    found, notice = fitting(found, mode_of(pixels))
    return Picture(pixels, found, (notice,) if notice else ())


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


def _expanded(image: PILImage.Image, depth: Depth) -> Pixels:
    mode = image.mode
    if mode in ("1", "P", "PA", "LA", "La", "RGBa"):
        transparent = mode in ("PA", "LA", "La", "RGBa") or "transparency" in image.info
        image = image.convert("RGBA" if transparent else "L" if mode == "1" else "RGB")
    elif mode in deep_samples.GRAY and depth:
        return deep_samples.rounded(np.asarray(image))
    elif mode not in CHANNELS:
        hint = " (--depth 8 rounds it)" if mode in deep_samples.GRAY else ""
        text = f"image mode {mode} isn't supported: convert it to 8-bit L, RGB or RGBA{hint}"
        raise InputError(text)
    return checked(np.asarray(image))
