"""Training pictures: crops addressed by step, so that a run resumes exactly."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from toolkit.errors import InputError

Pixels = NDArray[np.uint8]
SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp", ".ppm"}


def image_files(folder: Path) -> list[Path]:
    """All image files below ``folder``, sorted. Raises InputError if there are none."""
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder")
    files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES)
    if not files:
        raise InputError(f"{folder}: no images in it ({', '.join(sorted(SUFFIXES))})")
    return files


def split(files: list[Path], hold_out: int) -> tuple[list[Path], list[Path]]:
    """(training, held out): every n-th file of the list is held out."""
    if hold_out == 0:
        return files, []
    if hold_out >= len(files):
        raise InputError(f"{len(files)} images can't spare {hold_out} for validation")
    held = {round(i * len(files) / hold_out) for i in range(hold_out)}
    return [f for i, f in enumerate(files) if i not in held], [files[i] for i in sorted(held)]


def load_rgb(path: Path, least: int) -> Pixels:
    """Image as uint8 (H, W, 3), mirrored outwards where a side is under ``least``."""
    try:
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB"))
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(f"{path}: {error}") from None
    short = [max(0, least - side) for side in pixels.shape[:2]]
    if any(short):
        pixels = np.pad(pixels, ((0, short[0]), (0, short[1]), (0, 0)), mode="symmetric")
    return pixels


class CropSource(Protocol):
    """Where the crops of a batch come from: a function of (files, seed, step) alone."""

    files: list[Path]

    def batch(self, step: int, size: int, count: int) -> Pixels:
        """uint8 array (count, 3, size, size)."""
        ...


class Crops:
    """Batches of random crops, flipped at random, as a ``CropSource``.

    The images sit decoded in memory. Where they don't fit, the pool holds as many as do, and
    one of them is replaced by the next file in every ``refresh`` steps.
    """

    refresh = 10

    def __init__(self, files: list[Path], *, memory_mb: int, seed: int, least: int) -> None:
        self.seed = seed
        self.least = least
        order = np.random.Generator(np.random.Philox(key=[seed, 1])).permutation(len(files))
        self.files = [files[i] for i in order]
        with ThreadPoolExecutor(4) as threads:
            probe = list(threads.map(self._load, self.files[:16]))
            mean = sum(p.nbytes for p in probe) / len(probe)
            self.capacity = min(len(files), max(1, int(memory_mb * 2**20 / mean)))
            self.pool = probe[: self.capacity]
            self.pool += list(threads.map(self._load, self.files[len(self.pool) : self.capacity]))
        self.holds = list(range(self.capacity))

    def _load(self, path: Path) -> Pixels:
        return load_rgb(path, self.least)

    def _renew(self, step: int) -> None:
        """Bring the pool to what it holds at ``step``, wherever the last call left it."""
        if self.capacity == len(self.files):
            return
        rounds = step // self.refresh
        for slot in range(self.capacity):
            last = rounds - 1 - (rounds - 1 - slot) % self.capacity
            wanted = slot if last < 0 else (self.capacity + last) % len(self.files)
            if self.holds[slot] != wanted:
                self.pool[slot] = self._load(self.files[wanted])
                self.holds[slot] = wanted

    def batch(self, step: int, size: int, count: int) -> Pixels:
        """uint8 array (count, 3, size, size)."""
        self._renew(step)
        rng = np.random.Generator(np.random.Philox(key=[self.seed, 2], counter=[0, 0, 0, step]))
        crops = np.empty((count, 3, size, size), np.uint8)
        for crop in crops:
            image = self.pool[rng.integers(len(self.pool))]
            y = rng.integers(image.shape[0] - size + 1)
            x = rng.integers(image.shape[1] - size + 1)
            piece = image[y : y + size, x : x + size]
            if rng.integers(2):
                piece = piece[:, ::-1]
            crop[:] = piece.transpose(2, 0, 1)
        return crops
