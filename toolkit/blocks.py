"""Block coders: what every sampler that codes blocks of latents shares.

A level's latents are cut into blocks (``toolkit.layout``). For each block the receiver can make
2^bits candidates, draws of N(0, I); the sender says which. A sampler is a subclass of
``BlockSampler`` with a ``choose``: blocks of one shape in, numbers of candidates out. Rates,
order, escapes, cutting, packing, checking of damaged streams are done here.

All blocks share one codebook of candidates X, so that the log weights
``sum_i a_i x_i^2 + b_i x_i`` of all candidates of all blocks are a matrix product,
``[a, b] @ [X^2, X]^T``. Random signs, of each block its own, keep blocks independent: N(0, I)
doesn't change under them. Candidates are addressed, so a decoder makes only the chosen ones.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from toolkit.badfile import BadStream
from toolkit.bits import BitReader, BitWriter, Ints
from toolkit.codebook import Codebooks, nearly_best
from toolkit.escapes import read_shifts, shift_escapes, write_shifts
from toolkit.layout import Budget, Layout, layout_from_rates
from toolkit.options import Options
from toolkit.randomness import SharedRandom
from toolkit.rates import choose_codes, read_codes, wanted_rates, write_codes
from toolkit.sampling import Array, CodedSample, Sampler

SIGNS = SharedRandom.RESERVED + 2**30
_R_MIN = 2.0**-12
_SCORES = 2**23
"""Log weights held at a time."""


class BlockOptions(Options, frozen=True):
    """Options that all block coders have."""

    rate: Annotated[float, Meta(ge=0.25, le=4.0)] = 1.0
    """Bits spent, as a multiple of the KL divergence."""


@dataclass(frozen=True)
class Blocks:
    """Blocks of one shape, as the decoder sees them."""

    numbers: Ints
    """(n,) which blocks of the level."""
    lengths: Ints
    """(n,) latents in each; columns from there on are filling."""
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
    """(n, width); 0 in the filling."""
    r: Array
    """(n, width), at least 2^-12; 1 in the filling."""
    books: Codebooks

    def private(self) -> np.random.Generator:
        """Randomness of the encoder's own, repeatable, for these blocks."""
        return self.random.private(int(self.numbers[0]))

    def best(
        self,
        quadratic: NDArray[np.floating[Any]],
        linear: NDArray[np.floating[Any]],
        bits: int,
        stream: int = 0,
        noise: np.random.Generator | None = None,
    ) -> Ints:
        """Of candidates 0 to 2^bits - 1, for each block that x with the largest
        ``sum_i quadratic_i x_i^2 + linear_i x_i``; both (n, width); (n,) result.

        With ``noise``, standard Gumbel noise is added to each sum, which makes the result
        a sample from the softmax of the sums. The result is the same for any number of
        threads: near-ties of the matrix product are settled in a fixed order.
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


class BlockSampler(Sampler):
    """Base class of samplers that code blocks. A subclass has ``budget`` and ``choose``, and
    maybe ``widths`` and ``draw``."""

    options_class: ClassVar[type[Options]] = BlockOptions

    @abstractmethod
    def budget(self) -> Budget:
        """How much a block may hold."""

    @abstractmethod
    def choose(self, target: Target) -> Ints:
        """Numbers of the candidates that code each block: (n, steps)."""

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
        """See ``Sampler.encode``. Raises ValueError for targets that aren't finite."""
        if not (np.isfinite(d).all() and np.isfinite(r).all() and (r > 0).all()):
            raise ValueError("targets must be finite, their scales positive")
        writer = BitWriter()
        layout, rest = self._write_layout(writer, d, r, random)
        side_bits = writer.bits
        blocks = self._blocks(layout, random)
        indices = self.choose_all(self._targets(blocks, rest, r, random))
        for (_, part), chosen in zip(blocks, indices, strict=True):
            writer.write(chosen, np.broadcast_to(self.widths(part.bits), chosen.shape))
        values = self._values(layout, blocks, indices).reshape(d.shape)
        return CodedSample(writer.data(), values, side_bits)

    def decode(self, data: bytes, shape: tuple[int, int, int], random: SharedRandom) -> Array:
        """See ``Sampler.decode``."""
        reader = BitReader(data)
        layout = self._read_layout(reader, shape, random)
        if int(layout.bits.sum()) > 8 * len(data) - reader.at:
            raise BadStream(f"bit {reader.at}: the indices of the blocks don't fit in the stream")
        blocks = self._blocks(layout, random)
        indices = [self._read_indices(reader, part) for _, part in blocks]
        reader.finish()
        return self._values(layout, blocks, indices).reshape(shape)

    def _read_indices(self, reader: BitReader, blocks: Blocks) -> Ints:
        widths = self.widths(blocks.bits)
        shape = (len(blocks.numbers), len(widths))
        return reader.read(np.broadcast_to(widths, shape).reshape(-1)).reshape(shape)

    def _write_layout(
        self, writer: BitWriter, d: Array, r: Array, random: SharedRandom
    ) -> tuple[Layout, Array]:
        """Layout, and d less what the layout knows already."""
        shifts, rest = shift_escapes(d)
        write_shifts(writer, shifts)
        multiple = getattr(self.options, "rate", 1.0)
        wanted = wanted_rates(rest, np.maximum(r, _R_MIN), multiple, self.budget().mean)
        codes = choose_codes(wanted)
        write_codes(writer, codes)
        channels, height, width = d.shape
        layout = layout_from_rates((channels, height, width), codes, self.budget(), random)
        np.add(layout.base, shifts.reshape(-1), out=layout.base)
        return layout, rest

    def _read_layout(
        self, reader: BitReader, shape: tuple[int, int, int], random: SharedRandom
    ) -> Layout:
        shifts = read_shifts(reader, int(np.prod(shape)))
        codes = read_codes(reader, shape[0])
        layout = layout_from_rates(shape, codes, self.budget(), random)
        np.add(layout.base, shifts, out=layout.base)
        return layout

    @staticmethod
    def _blocks(layout: Layout, random: SharedRandom) -> list[tuple[Ints, Blocks]]:
        """Of each shape: which latents (n, width), and the blocks."""
        return [
            (latents, Blocks(numbers, layout.lengths[numbers], latents.shape[1], bits, random))
            for numbers, latents, bits in layout.batches()
        ]

    @staticmethod
    def _targets(
        blocks: list[tuple[Ints, Blocks]], d: Array, r: Array, random: SharedRandom
    ) -> list[Target]:
        d = np.append(d.reshape(-1), np.float32(0))
        r = np.maximum(np.append(r.reshape(-1), np.float32(1)), np.float32(_R_MIN))
        books = Codebooks(random)
        return [
            Target(
                part.numbers, part.lengths, part.width, part.bits, random,
                d[latents], r[latents], books,
            )
            for latents, part in blocks
        ]  # fmt: skip

    def _values(
        self, layout: Layout, blocks: list[tuple[Ints, Blocks]], indices: list[Ints]
    ) -> Array:
        """What the decoder makes of the indices; the encoder calls it too."""
        values = np.append(layout.base, np.float32(0))
        for (latents, part), chosen in zip(blocks, indices, strict=True):
            # the filling's column takes whatever comes
            values[latents] += self.draw(part, chosen).astype(np.float32)
        return values[:-1]
