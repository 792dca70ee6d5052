"""Block coders: what every sampler that codes blocks of latent elements shares.

A level's elements are cut into blocks (``blocks.layout``). For each block the receiver can make
2^bits candidates, draws of N(0, I); the sender says which. A sampler is a subclass of
``BlockSampler`` with a ``choose``: blocks of one shape in, numbers of candidates out. Rates,
order, outliers, cutting, packing, checking of damaged streams are done here.

All blocks share one codebook of candidates X, so that the log weights
``sum_i a_i x_i^2 + b_i x_i`` of all candidates of all blocks are a matrix product,
``[a, b] @ [X^2, X]^T``. Random signs, of each block its own, keep blocks independent: N(0, I)
doesn't change under them. Candidates are addressed, so a decoder makes only the chosen ones.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar

import numpy as np
from msgspec import Meta
from numpy.typing import NDArray
from typing_extensions import TypeVar

from toolkit.options import Options
from toolkit.sampling.blocks.codebook import Codebooks, Noise, nearly_best
from toolkit.sampling.blocks.layout import Budget, Layout, LayoutCoder
from toolkit.sampling.blocks.layout_rates import RateLayouts
from toolkit.sampling.coding.bits import BitReader, BitWriter, Ints
from toolkit.sampling.coding.outliers import FARTHEST
from toolkit.sampling.contract import Array, CodedSample, Sampler, check_targets
from toolkit.sampling.randomness import SharedRandom

SIGNS = SharedRandom.RESERVED + 2**30
_R_MIN = 2.0**-12
_NONE = np.zeros(0, np.int64)
_SCORES = 2**23
"""Log weights held at a time."""


class BlockOptions(Options, frozen=True):
    """Options that all block coders have."""

    rate: Annotated[float, Meta(ge=0.25, le=4.0)] = 1.0
    """Bits spent, as a multiple of the KL divergence."""


BlockOptionsT = TypeVar("BlockOptionsT", bound=BlockOptions, default=Any)


@dataclass(frozen=True)
class Blocks:
    """Blocks of one shape, as the decoder sees them."""

    numbers: Ints
    """(n,) which blocks of the level."""
    lengths: Ints
    """(n,) elements in each; columns from there on are padding."""
    width: int
    """Columns."""
    bits: int
    """Of each block, for all its indices."""
    random: SharedRandom

    def signs(self, stream: int = 0) -> Array:
        """(n, width), +1 or -1."""
        return self.random.signs(SIGNS + stream, self.numbers, self.width)

    def draws(self, indices: Ints, stream: int = 0) -> Array:
        """Candidate ``indices[i]`` of block i: (n, width) draws of N(0, 1).

        Candidates of different ``stream`` are independent.
        """
        return self.random.normals(stream, indices, self.width) * self.signs(stream)


@dataclass(frozen=True)
class Target(Blocks):
    """Blocks of one shape, as the encoder sees them: find draws of N(d, r^2), given N(0, 1)."""

    d: Array
    """(n, width); 0 in the padding."""
    r: Array
    """(n, width), at least 2^-12; 1 in the padding."""
    books: Codebooks

    def log_weights(self) -> tuple[Array, Array]:
        """(quadratic, linear), both (n, width): coefficients of log q(x) / p(x) up to a
        constant, ``1/2 (1 - 1/r^2) x^2 + (d / r^2) x``."""
        precision = 1 / np.square(self.r)
        return (1 - precision) / 2, self.d * precision

    def part(self, start: int, stop: int) -> Target:
        """Blocks ``start`` to ``stop`` - 1 of these."""
        cut = {name: getattr(self, name)[start:stop] for name in ("numbers", "lengths", "d", "r")}
        return replace(self, **cut)

    def private(self) -> np.random.Generator:
        """Randomness of the encoder's own, repeatable, for these blocks."""
        return self.random.private(int(self.numbers[0]))

    def best(
        self,
        quadratic: NDArray[np.floating[Any]],
        linear: NDArray[np.floating[Any]],
        bits: int,
        stream: int = 0,
        noise: Noise | None = None,
    ) -> Ints:
        """Of candidates 0 to 2^bits - 1, for each block that x with the largest
        ``sum_i quadratic_i x_i^2 + linear_i x_i``; both (n, width); (n,) result.

        ``noise`` (n, candidates) -> float32 array gives what is added to the sums: Gumbel
        noise makes the result a sample from the softmax of the sums. The result is the
        same for any number of threads: near-ties of the matrix product are settled in a
        fixed order.
        """
        if bits == 0:
            return np.zeros(len(self.numbers), np.int64)
        book = self.books.get(stream, 1 << bits, self.width)
        real = np.arange(self.width) < self.lengths[:, None]
        quadratic, linear = quadratic * real, linear * real * self.signs(stream)
        step = max(1, _SCORES >> bits)
        found = [
            nearly_best(book, quadratic[at : at + step], linear[at : at + step], noise)
            for at in range(0, len(self.numbers), step)
        ]
        return np.concatenate(found)


class BlockSampler(Sampler[BlockOptionsT]):
    """Base class of samplers that code blocks. A subclass has ``budget`` and ``choose``, and
    maybe ``layouts``, ``widths`` and ``draw``."""

    options_class: ClassVar[type[Options]] = BlockOptions

    @abstractmethod
    def budget(self) -> Budget:
        """How much a block may hold."""

    @abstractmethod
    def choose(self, target: Target) -> Ints:
        """Sample indices, those of the candidates that code each block: (n, steps)."""

    def layouts(self) -> LayoutCoder:
        """How a level is cut into blocks, and how the decoder comes to know it: by rates of
        channels, by default."""
        return RateLayouts(self.budget())

    def widths(self, bits: int) -> Sequence[int]:
        """How a block's ``bits`` are divided among its indices; one index by default."""
        return [bits]

    def draw(self, blocks: Blocks, indices: Ints) -> NDArray[np.floating[Any]]:
        """The values (n, width) that ``indices`` (n, steps) stand for."""
        return blocks.draws(indices[:, 0])

    def choose_all(self, targets: list[Target]) -> list[Ints]:
        """``choose`` for all shapes of blocks; to be overridden by samplers that go through
        codebooks in another order."""
        return [self.choose(target) for target in targets]

    def encode(self, d: Array, r: Array, random: SharedRandom) -> CodedSample:
        """See ``Sampler.encode``."""
        check_targets(d, r)
        r = np.maximum(r, np.float32(_R_MIN))
        writer = BitWriter()
        layout = self.layouts().write(writer, d, r, self.options.rate, random)
        side_bits = writer.bits
        blocks = self._blocks(layout, random)
        indices = self.choose_all(self._targets(layout, blocks, d, r, random))
        numbers = [chosen.reshape(-1) for chosen in indices]
        self.write_indices(writer, np.concatenate([_NONE, *numbers]), self._widths(blocks))
        values = self._values(layout, blocks, indices).reshape(d.shape)
        return CodedSample(writer.data(), values, side_bits)

    def decode(self, data: bytes, shape: tuple[int, int, int], random: SharedRandom) -> Array:
        """See ``Sampler.decode``."""
        reader = BitReader(data)
        layout = self.layouts().read(reader, shape, random)
        blocks = self._blocks(layout, random)
        numbers = self.read_indices(reader, self._widths(blocks))
        reader.finish()
        indices, at = [], 0
        for _, part in blocks:
            rows, columns = len(part.numbers), len(self.widths(part.bits))
            indices.append(numbers[at : at + rows * columns].reshape(rows, columns))
            at += rows * columns
        return self._values(layout, blocks, indices).reshape(shape)

    def write_indices(self, writer: BitWriter, indices: Ints, widths: Ints) -> None:
        """Send all indices of a level, each below 2^width: in so many bits by default."""
        writer.write(indices, widths)

    def read_indices(self, reader: BitReader, widths: Ints) -> Ints:
        """What ``write_indices`` wrote: as many as there are widths, each below 2^width.

        Raises BadStream.
        """
        return reader.read(widths)

    def _widths(self, blocks: list[tuple[Ints, Blocks]]) -> Ints:
        """Of all indices, in their order in the stream."""
        parts = [np.tile(self.widths(part.bits), len(part.numbers)) for _, part in blocks]
        return np.concatenate([_NONE, *parts]).astype(np.int64)

    @staticmethod
    def _blocks(layout: Layout, random: SharedRandom) -> list[tuple[Ints, Blocks]]:
        """Of each shape: which elements (n, width), and the blocks."""
        return [
            (elements, Blocks(numbers, layout.lengths[numbers], elements.shape[1], bits, random))
            for numbers, elements, bits in layout.batches()
        ]

    @staticmethod
    def _targets(
        layout: Layout,
        blocks: list[tuple[Ints, Blocks]],
        d: Array,
        r: Array,
        random: SharedRandom,
    ) -> list[Target]:
        books = Codebooks(random)
        # beyond the largest shift nothing is gained by going on
        rest = np.clip(d.reshape(-1), -FARTHEST, FARTHEST) - layout.base
        d = np.append(rest, np.float32(0))
        r = np.append(r.reshape(-1), np.float32(1))
        return [
            Target(
                part.numbers, part.lengths, part.width, part.bits, part.random,
                d[elements], r[elements], books,
            )
            for elements, part in blocks
        ]  # fmt: skip

    def _values(
        self, layout: Layout, blocks: list[tuple[Ints, Blocks]], indices: list[Ints]
    ) -> Array:
        """What the decoder makes of the indices; the encoder calls it too."""
        values = np.append(layout.base, np.float32(0))
        for (elements, part), chosen in zip(blocks, indices, strict=True):
            # the padding's column takes whatever comes
            values[elements] += self.draw(part, chosen).astype(np.float32)
        return values[:-1]
