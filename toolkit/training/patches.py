"""The thesis's training set (section 3.1): patches of every image, fixed for the whole run."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from toolkit.errors import InputError
from toolkit.training.data import Pixels, load_rgb

Numbers = NDArray[np.int64]


class Patches:
    """Batches of patches, ``P(W, H) = C floor(W / size) floor(H / size)`` of each image.

    Where they lie is drawn once; every epoch goes through all of them in an order of its own.
    Batch ``step`` is a function of (files, seed, step) alone. The text says C = 15; its 93,085
    patches come of C = 5, which is what the author's code has.

    Decoded images sit in memory, as many as fit; the one that was used longest ago goes first.
    """

    def __init__(
        self, files: list[Path], *, per_tile: int, size: int, memory_mb: int, seed: int
    ) -> None:
        self.size, self.seed = size, seed
        self.capacity = memory_mb * 2**20
        self.held = 0
        self.images: OrderedDict[int, Pixels] = OrderedDict()
        with ThreadPoolExecutor(4) as threads:
            sizes = list(threads.map(_size, files))
        kept = [i for i, sides in enumerate(sizes) if min(sides) >= size]
        if not kept:
            raise InputError(f"{files[0].parent}: no image as large as a patch of {size}x{size}")
        self.files = [files[i] for i in kept]
        self.places = np.concatenate(
            [self._places(n, *sizes[i], per_tile) for n, i in enumerate(kept)]
        )
        """(number of patches, 3): image, x, y."""

    def _places(self, image: int, width: int, height: int, per_tile: int) -> Numbers:
        count = per_tile * (width // self.size) * (height // self.size)
        rng = np.random.Generator(np.random.Philox(key=[self.seed, 4], counter=[0, 0, 0, image]))
        xs = rng.integers(width - self.size + 1, size=count)
        ys = rng.integers(height - self.size + 1, size=count)
        return np.stack([np.full(count, image), xs, ys], 1)

    def _numbers(self, step: int, count: int) -> Numbers:
        """Numbers of the patches of a batch."""
        epoch, at = divmod(step * count, len(self.places))
        order = self._order(epoch)[at : at + count]
        while len(order) < count:
            epoch += 1
            order = np.concatenate([order, self._order(epoch)[: count - len(order)]])
        return order

    def _order(self, epoch: int) -> Numbers:
        key = [self.seed, 5]
        rng = np.random.Generator(np.random.Philox(key=key, counter=[0, 0, 0, epoch]))
        return rng.permutation(len(self.places))

    def _fetch(self, wanted: Iterable[int]) -> None:
        """Have these images in memory."""
        absent = [i for i in wanted if i not in self.images]
        with ThreadPoolExecutor(4) as threads:
            loaded = threads.map(lambda i: load_rgb(self.files[i], self.size), absent)
            for i, pixels in zip(absent, loaded, strict=True):
                self.images[i] = pixels
                self.held += pixels.nbytes

    def batch(self, step: int, size: int, count: int) -> Pixels:
        """uint8 array (count, 3, size, size)."""
        places = self.places[self._numbers(step, count)]
        wanted = dict.fromkeys(places[:, 0].tolist())
        self._fetch(wanted)
        patches = np.empty((count, 3, size, size), np.uint8)
        for patch, (image, x, y) in zip(patches, places, strict=True):
            patch[:] = self.images[int(image)][y : y + size, x : x + size].transpose(2, 0, 1)
        for image in wanted:
            self.images.move_to_end(image)
        while self.held > self.capacity and len(self.images) > 1:
            self.held -= self.images.popitem(last=False)[1].nbytes
        return patches


def _size(path: Path) -> tuple[int, int]:
    try:
        with Image.open(path) as image:
            return image.size
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(f"{path}: {error}") from None
