"""The Kodak suite: 24 photographs of 768 x 512 that image coding has been measured on since 1991.

Fetched from their usual home or taken from a folder; what counts is the hash of the decoded
pixels, so that a re-packed PNG passes and a re-compressed picture does not.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from pathlib import Path

from toolkit.codec.base import as_pixels
from toolkit.download import cache_folder, read_url
from toolkit.errors import InputError, MissingError
from toolkit.format.files import write_bytes_atomically

SOURCE = "https://r0k.us/graphics/kodak/kodak"
LIMIT = 4 << 20
"""Bytes that a file may have; the largest has 0.8 million."""
PIXEL_SHA256 = (
    "a00210743353594464ac67e680a41710f484444ca5f9dfddeb570de25c428273",
    "ae5a495df4ec40e0941265440ccf98973915b4190ab803e37a23ca93dd43a07e",
    "234e61f585503f2a44400f5561131e8a512ef2c15328cd83d5cdbf10e2616cf2",
    "e88e788fca00e6c723bb66ff45edb8cb56091ee284dcb73e3909834f2c96eeb6",
    "ed3d1ee770909d3b27903b52ce19ee59a9bf24621a7bf1fb57b90677da880cb6",
    "7f45158999fa297d1cfbd292b3e2f3f5b27770701c3473155c211c3f512cc97f",
    "4e3664bf6fe865b49f15f7b554efa7dbecaf73ae0e8699f2e307bf07849f1264",
    "889c3740e4ed54ca53d11ae735a44d15fa24fe312b3bd1609a80618a4092c208",
    "f8453140e63a42301a6dbebb849a3cc40d34e4e59580eb1f372f7f5460df0dbe",
    "fabe11b5c4f028394e093a5b5907e5fabc8072da0d5334fb3a38547a7e1be842",
    "ab4dd9bf8431e717d33892b3ba03c63bfea3c7fa72c2610010de7df3c194c075",
    "f412db2168e599949aac26bd3264f111b23a684f30a21cfd320e9e95bc69bbae",
    "875703d56fb9396f478b5d7d3b18e2b77c17147a685c6dc2567e1c574aaf01e3",
    "2bd5029ee75ac1697542e5b05624e8afe186e3250abd7513d6a806b52084c2f0",
    "b5353e7511277009922ecbdebfc6418fec53aa1b2a08d44fc957a7540825697b",
    "ed21745fd32fce95cc2c6af7fc52b1b15e590c7a14ab18ab34bd65ecaf955ac7",
    "566bc866664e9b06dc86e2654051b454844efe17322dbf7e24156d8243f1943e",
    "3475af71066f3ca8206eb12cfc989ebe9c6e44820a96604e88ae018606e1f7bd",
    "7956408ef24222d37ac53f579bd24d5b2c3557b16c657e8b71c1b6ae9f18de1b",
    "666ce8f2db5566a123bb081e70618f6f4c4253df960f3b41bb9dcc3dd134f3cf",
    "2d6902daf7c4486b7c8c04d834091841a2b38c8f0c81cd7a963a6510b34a2a6a",
    "f430842120c108b67725ada96b8b7b2a914f6a0915eacd5595064c6c1a5d70a0",
    "81992a83592267e69125666f3e3e04c1819529b4c4c1e55fde0a6a741bac4219",
    "e3e3ccc3e795b82a3da66934409dfe98ce0f5aadc6d7767543c506453599bb98",
)
"""SHA-256 of the decoded RGB bytes of kodim01 to kodim24."""
NAMES = tuple(f"kodim{number:02d}.png" for number in range(1, 25))


def kodak_paths(folder: Path | None = None) -> list[Path]:
    """The 24 files. Raises MissingError where they haven't been fetched."""
    folder = folder or cache_folder() / "kodak"
    paths = [folder / name for name in NAMES]
    absent = [path.name for path in paths if not path.is_file()]
    if absent:
        raise MissingError(
            f"{folder}: {len(absent)} of the 24 Kodak images aren't there; "
            "fetch them with: toolkit data kodak"
        )
    return paths


def is_kodak(pixel_hashes: set[str]) -> bool:
    """Whether images of these pixel hashes are the whole suite."""
    return pixel_hashes == set(PIXEL_SHA256)


def pixel_hash(data: bytes, name: str) -> str:
    """SHA-256 of the RGB bytes of an image file. Raises InputError for what is no image."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data)) as image:
            image.load()
            return hashlib.sha256(as_pixels(image).tobytes()).hexdigest()
    except (OSError, SyntaxError, ValueError) as error:
        raise InputError(f"{name}: not an image that can be read ({error})") from None


def fetch_kodak(
    target: Path | None = None,
    source: Path | None = None,
    step: Callable[[str], None] = lambda name: None,
) -> Path:
    """Fill ``target`` (default: the cache) with the suite, from ``source`` or over HTTPS.

    Each file is checked before it is put in place; files that are there and right stay.
    ``step`` is called with each name when done. Returns the folder. Raises InputError for
    other pixels, MissingError for files that can't be had.
    """
    target = target or cache_folder() / "kodak"
    if source is not None and not source.is_dir():
        raise InputError(f"{source}: no such folder")
    try:
        target.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{target}: can't make this folder ({error.strerror})") from None
    for name, expected in zip(NAMES, PIXEL_SHA256, strict=True):
        if not _is_right(target / name, expected):
            data = _read(source, name) if source else _download(name)
            if pixel_hash(data, name) != expected:
                raise InputError(f"{name} from {source or SOURCE}: not the Kodak image's pixels")
            write_bytes_atomically(target / name, data)
        step(name)
    return target


def _is_right(path: Path, expected: str) -> bool:
    try:
        return pixel_hash(path.read_bytes(), path.name) == expected
    except (OSError, InputError):
        return False


def _read(folder: Path, name: str) -> bytes:
    try:
        return (folder / name).read_bytes()
    except OSError:
        raise MissingError(f"{folder}: no {name} there") from None


def _download(name: str) -> bytes:
    return read_url(
        f"{SOURCE}/{name}", LIMIT, "if you have the images, use: toolkit data kodak --from FOLDER"
    )
