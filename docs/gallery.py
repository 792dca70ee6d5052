"""Makes the pictures of gallery.md: photographs coded to equal size, a part of each shown.

    python docs/gallery.py

The photographs come with scikit-image, and are in the public domain (CC0).
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

HERE = Path(__file__).parent
CODECS = ("jpeg", "webp", "avif", "pln", "deep-pln")
PARTS = {"chelsea": (110, 50, 310, 220), "coffee": (180, 120, 380, 290)}
"""Name -> the part that is shown: left, top, right, bottom."""
BPP = 0.2
QUALITY = 84
"""Of the WebP files that show the parts: high enough to add nothing that is seen."""


def samples() -> Path:
    """The folder with the photographs."""
    import skimage

    return Path(skimage.__file__).parent / "data"


def show(picture: Path, name: str) -> None:
    """Save the part of a picture that the page shows."""
    photo = name.partition("-")[0]
    with Image.open(picture) as image:
        part = image.convert("RGB").crop(PARTS[photo])
    part.save(HERE / "gallery" / f"{name}.webp", quality=QUALITY, method=6)


def coded(photo: Path, codec: str, folder: Path) -> tuple[Path, int]:
    """The picture as a codec shows it at ``BPP``, and the bytes that this took."""
    program = [sys.executable, "-m", "toolkit"]
    file = folder / codec
    size = ["--target-bpp", str(BPP), "--strip"]  # a colour profile would be half of a file
    subprocess.run([*program, "encode", photo, file, "--codec", codec, *size], check=True)
    subprocess.run([*program, "decode", file, folder / f"{codec}.png"], check=True)
    return folder / f"{codec}.png", file.stat().st_size


def main() -> None:
    """Write all pictures, and print what the page says of them."""
    (HERE / "gallery").mkdir(exist_ok=True)
    for photo in PARTS:
        (source,) = samples().glob(f"{photo}.*")
        show(source, f"{photo}-original")
        for codec in CODECS:
            with tempfile.TemporaryDirectory() as folder:
                picture, size = coded(source, codec, Path(folder))
                show(picture, f"{photo}-{codec}")
            print(f"{photo} {codec}: {size} bytes")


if __name__ == "__main__":
    main()
