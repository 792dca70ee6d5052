"""A sampler under test, and what is said about it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from toolkit.errors import ToolkitError
from toolkit.format.errors import BadStream
from toolkit.sampling.choice import SamplerChoice
from toolkit.sampling.contract import CodedSample, Sampler
from toolkit.sampling.figure_of_merit import FigureOfMerit
from toolkit.sampling.randomness import SharedRandom
from toolkit.testing.targets import Targets

if TYPE_CHECKING:
    from toolkit.plugin.loader import Plugins


class ConformanceError(ToolkitError):
    """A sampler that doesn't keep the contract of ``toolkit.sampling.contract``."""

    def __init__(self, check: str, message: str) -> None:
        self.check = check
        super().__init__(f"{check}: {message}")


@dataclass
class Report:
    """What was found about a sampler that passed."""

    sampler: str
    exact: bool
    targets: int = 0
    """Levels that were coded and decoded."""
    checks: list[str] = field(default_factory=list)
    """Checks passed, in order."""
    figure_of_merit: FigureOfMerit | None = None
    """On a synthetic level that resembles those of trained networks."""
    side_percent: float = 0.0
    """Side information there, per cent of KL."""
    mean_bias: float = 0.0
    """There: mean of ``sign(d) (c - d) / r``; positive where the sample overshoots."""
    width_ratio: float = 1.0
    """There: root mean square of ``(c - d) / r``; 1 for exact samples."""
    encode_s: float = 0.0
    decode_s: float = 0.0
    damaged: int = 0
    refused: int = 0
    """Of the damaged streams: those that raised a named error."""

    def __str__(self) -> str:
        merit = self.figure_of_merit
        figures = "" if merit is None else (
            f"rate {merit.rate_percent:+.1f} % of KL (side {self.side_percent:.1f} %), "
            f"J {merit.j_percent:+.1f} %, "
        )  # fmt: skip
        return (
            f"{self.sampler}: {self.targets} targets, {', '.join(self.checks)}; {figures}"
            f"mean bias {self.mean_bias:+.3f}, width {self.width_ratio:.3f}, encode "
            f"{self.encode_s:.3f} s, decode {self.decode_s:.3f} s, {self.refused} of "
            f"{self.damaged} damaged streams refused"
        )


def maker(
    sampler: str | Sampler, options: Mapping[str, Any], plugins: Plugins | None
) -> tuple[str, Callable[[], Sampler]]:
    if isinstance(sampler, Sampler):
        given = deepcopy(sampler)
        return type(sampler).__name__, lambda: deepcopy(given)
    if plugins is None:
        from toolkit.plugin.loader import load_plugins

        plugins = load_plugins()
    choice = SamplerChoice.from_options(plugins, {"sampler": sampler, **options}, sampler)
    return sampler, choice.build


class Subject:
    """A sampler under test: every call is checked for what any call must keep.

    Arguments:
        name: what messages call it.
        make: gives a new one.
        seed: of the shared random numbers and the targets.
    """

    def __init__(self, name: str, make: Callable[[], Sampler], seed: int) -> None:
        self.name = name
        self.make = make
        self.seed = seed

    def random(self) -> SharedRandom:
        return SharedRandom(self.seed, 1)

    def encode(self, t: Targets, sampler: Sampler | None = None) -> CodedSample:
        d, r = t.d.copy(), t.r.copy()
        d.flags.writeable = r.flags.writeable = False
        try:
            coded = (sampler or self.make()).encode(d, r, self.random())
        except Exception as error:
            raise ConformanceError(
                "encoding", f"{t.label}: encode raised {described(error)}"
            ) from error
        if not (isinstance(coded, CodedSample) and isinstance(coded.data, bytes)):
            raise ConformanceError("encoding", f"{t.label}: encode must return a CodedSample")
        check_array(coded.values, t.shape, f"{t.label}: the encoder's values")
        if not 0 <= coded.side_bits <= 8 * len(coded.data):
            raise ConformanceError(
                "side information",
                f"{t.label}: {coded.side_bits} bits of a stream of {8 * len(coded.data)}",
            )
        return coded

    def decode(
        self, data: bytes, t: Targets, random: SharedRandom | None = None
    ) -> NDArray[np.float32]:
        """Decode intact data with a sampler of its own."""
        try:
            values = self.make().decode(data, t.shape, random or self.random())
        except (IndexError, EOFError, BadStream, ValueError) as error:
            raise ConformanceError(
                "round trip",
                f"{t.label}: decode raised {described(error)} on a stream of the encoder's own: it "
                "reads past its end, or encoder and decoder disagree on what is in it",
            ) from error
        except Exception as error:
            raise ConformanceError(
                "round trip", f"{t.label}: decode raised {described(error)}"
            ) from error
        check_array(values, t.shape, f"{t.label}: the decoder's values")
        return values

    def round_trip(self, t: Targets) -> CodedSample:
        coded = self.encode(t)
        values = self.decode(coded.data, t)
        differ = differing(values, coded.values)
        if differ:
            raise ConformanceError(
                "round trip",
                f"{t.label}: the decoder's sample differs from the encoder's in {differ} of "
                f"{values.size} elements: it draws other numbers",
            )
        return coded


def described(error: BaseException) -> str:
    """Class and message of an error, on one line."""
    return f"{type(error).__name__} ({' '.join(str(error).split())})"


def differing(a: NDArray[np.float32], b: NDArray[np.float32]) -> int:
    """How many elements aren't the same bits."""
    words = [np.ascontiguousarray(x).view(np.uint32) for x in (a, b)]
    return int(np.count_nonzero(words[0] != words[1]))


def check_array(values: Any, shape: tuple[int, int, int], what: str) -> None:
    if not isinstance(values, np.ndarray) or values.dtype != np.float32:
        kind = getattr(values, "dtype", type(values).__name__)
        raise ConformanceError("type", f"{what} must be a float32 array, not {kind}")
    if values.shape != shape:
        raise ConformanceError("shape", f"{what} have shape {values.shape}, not {shape}")
    bad = values.size - int(np.count_nonzero(np.isfinite(values)))
    if bad:
        raise ConformanceError("finite values", f"{what}: {bad} are NaN or infinite")
