"""Which images to evaluate on: folders, files and named data sets, as one list.

``samples`` is four photographs that ship inside scikit-image, ``kodak`` the Kodak suite,
fetched once by ``toolkit data kodak``. A path that exists goes before a name.
"""

from __future__ import annotations

import difflib
import importlib.util
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from toolkit.errors import InputError, MissingError

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".ppm", ".pgm", ".gif")
SAMPLES = ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg")
NAMES = ("kodak", "samples")


@dataclass(frozen=True)
class ImageFile:
    """An image to evaluate on: its unique name in tables, and where it is."""

    name: str
    path: Path


def find_images(places: Iterable[str | Path]) -> list[ImageFile]:
    """The images in ``places``: folders (not their subfolders), files, or names of data sets.

    Names are file names without their suffix, lengthened where two would be equal. Raises
    InputError for what isn't there and for a folder without images, MissingError for a data
    set that isn't installed.
    """
    paths: dict[Path, Path] = {}
    for place in places:
        for path in _paths(place):
            paths.setdefault(path.resolve(), path)
    if not paths:
        raise InputError("no images were named")
    return [ImageFile(name, path) for name, path in _named(list(paths.values()))]


def _paths(place: str | Path) -> list[Path]:
    path = Path(place)
    if path.is_dir():
        return _in_folder(path)
    if path.is_file():
        if path.stat().st_size == 0:
            raise InputError(f"{path}: the file is empty")
        return [path]
    word = str(place).rstrip("/")
    if word == "samples":
        return sample_paths()
    if word == "kodak":
        from toolkit_evaluation.data.kodak import kodak_paths

        return kodak_paths()
    near = difflib.get_close_matches(word, NAMES, n=1, cutoff=0.5)
    hint = f"nearest: {near[0]}" if near else f"those are: {', '.join(NAMES)}"
    raise InputError(f"{place}: no such file or folder, nor a data set ({hint})")


def _in_folder(folder: Path) -> list[Path]:
    found = sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and p.is_file())
    if not found:
        raise InputError(f"{folder}: no images in this folder ({', '.join(SUFFIXES)})")
    return found


def sample_paths() -> list[Path]:
    """Photographs inside scikit-image's wheel, by path: ``skimage.data`` may download others.

    Raises MissingError where scikit-image isn't installed.
    """
    spec = importlib.util.find_spec("skimage")
    if spec is None or spec.origin is None:
        raise MissingError("the data set 'samples' is in scikit-image, which isn't installed")
    paths = [Path(spec.origin).parent / "data" / name for name in SAMPLES]
    absent = [path.name for path in paths if not path.is_file()]
    if absent:
        raise MissingError(f"this scikit-image comes without {', '.join(absent)}")
    return paths


def _named(paths: list[Path]) -> list[tuple[str, Path]]:
    """Shortest of stem, file name, folder and file name, full path that nobody shares."""
    names = [path.stem for path in paths]
    for longer in (
        [path.name for path in paths],
        [f"{path.resolve().parent.name}-{path.name}" for path in paths],
        [str(path.resolve()).strip("/").replace("/", "-") for path in paths],
    ):
        count = Counter(names)
        names = [
            more if count[name] > 1 else name for name, more in zip(names, longer, strict=True)
        ]
    return list(zip(names, paths, strict=True))
