"""Running a codec with a clock: in this process, or in one for coding and one for decoding."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from toolkit.deterministic import deterministic
from toolkit.errors import ResourceError, ToolkitError, gave_out
from toolkit_evaluation.run.memory import PeakMemory
from toolkit_evaluation.run.process import ATTEMPTS, KILLED, Child, ChildDied, Handler, Reply
from toolkit_evaluation.run.settings import EvaluationSettings
from toolkit_evaluation.run.task import format_error

if TYPE_CHECKING:
    from toolkit.codec.base import Codec, Decoded, Encoded, Pixels
    from toolkit.plugin.presets import Preset

T = TypeVar("T")


@dataclass(frozen=True)
class Timed(Generic[T]):
    """A result, the seconds of the fastest try, and the peak memory in MiB of all."""

    result: T
    seconds: float
    peak_mib: float | None


class CodecRunner(Protocol):
    """Codes and decodes, with a clock."""

    def encode(self, pixels: Pixels, point: float, repeat: int) -> Timed[Encoded]:
        """Code an image ``repeat`` times. Raises whatever the codec does."""
        ...

    def decode(self, data: bytes, repeat: int) -> Timed[Decoded]:
        """Decode a file ``repeat`` times. Raises whatever the codec does."""
        ...

    def close(self) -> None:
        """Let go of what it holds."""
        ...


def timed(function: Callable[[], T], repeat: int) -> Timed[T]:
    """Call ``function`` ``repeat`` times; the fastest call's result."""
    best: tuple[T, float] | None = None
    with PeakMemory() as peak:
        for _ in range(repeat):
            start = time.perf_counter()
            result = function()
            seconds = time.perf_counter() - start
            if best is None or seconds < best[1]:
                best = (result, seconds)
    assert best is not None
    return Timed(*best, peak.mebibytes)


@dataclass(frozen=True)
class InProcess:
    """Both in this process."""

    codec: Codec

    def encode(self, pixels: Pixels, point: float, repeat: int) -> Timed[Encoded]:
        """See ``CodecRunner``."""
        return timed(lambda: self.codec.encode(pixels, point), repeat)

    def decode(self, data: bytes, repeat: int) -> Timed[Decoded]:
        """See ``CodecRunner``."""
        return timed(lambda: self.codec.decode(data), repeat)

    def close(self) -> None:
        """See ``CodecRunner``."""


class SubprocessFailed(ToolkitError):
    """A call that raised in its process, or whose process died."""


@dataclass(frozen=True)
class Failure:
    """What a call raised in its process."""

    text: str
    gave_out: bool
    """Whether memory, disk or another resource gave out there."""

    def error(self) -> ToolkitError:
        """To be raised here."""
        return (ResourceError if self.gave_out else SubprocessFailed)(self.text)


class Subprocesses:
    """One process only ever codes, another only ever decodes: neither's time and memory has a
    share of the other's, nor of the metrics'."""

    def __init__(
        self,
        preset: Preset,
        settings: EvaluationSettings = EvaluationSettings(),
        plugin_files: Sequence[Path] = (),
    ) -> None:
        self._preset, self._settings = preset, settings
        self._plugin_files = tuple(Path(file).resolve() for file in plugin_files)
        self._children: dict[str, Child] = {}

    def encode(self, pixels: Pixels, point: float, repeat: int) -> Timed[Encoded]:
        """See ``CodecRunner``. Raises SubprocessFailed with what the codec said."""
        return self._call("encode", (pixels, point), repeat)

    def decode(self, data: bytes, repeat: int) -> Timed[Decoded]:
        """See ``CodecRunner``. Raises SubprocessFailed with what the codec said."""
        return self._call("decode", (data,), repeat)

    def _call(self, method: str, arguments: tuple[Any, ...], repeat: int) -> Timed[Any]:
        how = ""
        for _ in range(ATTEMPTS):
            try:
                answer = self._ask(method, (arguments, repeat))
            except ChildDied as death:
                how = str(death)
                del self._children[method]
                continue
            if isinstance(answer, Failure):
                raise answer.error()
            return answer
        text = f"the {method[:-1]}ing process died {ATTEMPTS} times ({how})"
        raise Failure(text, how == KILLED).error()

    def _ask(self, method: str, call: tuple[tuple[Any, ...], int]) -> Timed[Any] | Failure:
        if method not in self._children:
            self._children[method] = Child(
                serve_codec,
                self._preset,
                method,
                self._settings,
                self._plugin_files,
            )
        self._children[method].send(call)
        answer: Timed[Any] | Failure = self._children[method].receive()
        return answer

    def close(self) -> None:
        """End both."""
        for child in self._children.values():
            child.close()
        self._children.clear()


def serve_codec(
    preset: Preset, method: str, settings: EvaluationSettings, plugin_files: Sequence[Path]
) -> Handler:
    """In a child: answers (arguments, repeat) with what the codec's method makes of them, a
    ``Timed``, or with a ``Failure``. The codec stays open."""
    from toolkit.plugin.loader import load_plugins
    from toolkit.plugin.presets import open_codec

    plugins = load_plugins(plugin_files)
    opened: list[Codec] = []

    def handle(call: tuple[tuple[Any, ...], int], reply: Reply) -> None:
        arguments, repeat = call
        try:
            if not opened:
                opened.append(open_codec(plugins, preset, settings.device))
            function = partial(getattr(opened[0], method), *arguments)
            with settings.limits(), deterministic(settings.deterministic):
                reply(timed(function, repeat))  # sending it makes the reconstruction
        except Exception as error:  # a codec may raise anything
            reply(Failure(format_error(error), gave_out(error)))

    return handle
