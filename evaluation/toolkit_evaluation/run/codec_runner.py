"""Who codes and who decodes: this process, or one for each."""

from __future__ import annotations

import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from toolkit.errors import ToolkitError
from toolkit_evaluation.run.interrupts import interrupts_held, leave_interrupts_to_parent
from toolkit_evaluation.run.memory import PeakMemory

if TYPE_CHECKING:
    from toolkit.codec.base import Codec, Decoded, Encoded, Pixels
    from toolkit.plugin.presets import Preset

T = TypeVar("T")
ATTEMPTS = 2
"""Times that a call is tried when its process dies, as jobs are whose worker dies."""


@dataclass(frozen=True)
class Timed(Generic[T]):
    """A result, the seconds of the fastest try, and the peak memory in MiB of all."""

    result: T
    seconds: float
    peak_mib: float | None


class Hands(Protocol):
    """Codes and decodes, with a clock."""

    def encode(self, pixels: Pixels, point: float, repeat: int) -> Timed[Encoded]:
        """Code an image ``repeat`` times. Raises whatever the codec does."""

    def decode(self, data: bytes, repeat: int) -> Timed[Decoded]:
        """Decode a file ``repeat`` times. Raises whatever the codec does."""


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
class Here:
    """Both in this process."""

    codec: Codec

    def encode(self, pixels: Pixels, point: float, repeat: int) -> Timed[Encoded]:
        """See ``Hands``."""
        return timed(lambda: self.codec.encode(pixels, point), repeat)

    def decode(self, data: bytes, repeat: int) -> Timed[Decoded]:
        """See ``Hands``."""
        return timed(lambda: self.codec.decode(data), repeat)


# -- apart ----------------------------------------------------------------------


class FailedApart(ToolkitError):
    """A call that raised in its process, or whose process died."""


@dataclass(frozen=True)
class _Call:
    """``encode(*arguments)`` or ``decode(*arguments)`` of a preset's codec."""

    preset: Preset
    way: str
    arguments: tuple[Any, ...]
    repeat: int


class Helper:
    """A process that makes calls of one kind, keeping codecs open.

    It ends with this one, however that ends: its pipe closes.
    """

    def __init__(self, way: str, plugin_files: Sequence[Path] = ()) -> None:
        self.way = way
        self.plugin_files = tuple(plugin_files)
        self._process: subprocess.Popen[bytes] | None = None
        self._pipe: Connection[Any, Any] | None = None

    def call(self, preset: Preset, arguments: tuple[Any, ...], repeat: int) -> Timed[Any]:
        """The call's result. Raises FailedApart with what the codec said."""
        call = _Call(preset, self.way, arguments, repeat)
        for _ in range(ATTEMPTS):
            answer = self._ask(call)
            if isinstance(answer, Timed):
                return answer
            if isinstance(answer, str):
                raise FailedApart(answer)
            how = self._bury()
        raise FailedApart(f"the {self.way[:-1]}ing process died {ATTEMPTS} times ({how})")

    def _ask(self, call: _Call) -> Timed[Any] | str | None:
        """What comes back; None where the process died."""
        if self._process is None:
            self._start()
        assert self._pipe is not None
        try:
            self._pipe.send(call)
            answer: Timed[Any] | str = self._pipe.recv()
        except (EOFError, OSError):
            return None
        return answer

    def _start(self) -> None:
        self._pipe, theirs = Pipe()
        files = [str(path.resolve()) for path in self.plugin_files]
        code = f"from {__name__} import serve; serve()"
        # of multiprocessing's own processes workers of a pool or a cluster may have none
        with interrupts_held():
            self._process = subprocess.Popen(
                [sys.executable, "-c", code, str(theirs.fileno()), *files],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
            )
        theirs.close()

    def _bury(self) -> str:
        """How the process ended."""
        assert self._process is not None
        code = self._process.wait()
        self.close()
        return signal.Signals(-code).name if code < 0 else f"exit status {code}"

    def close(self) -> None:
        """End the process; the next call starts another."""
        if self._pipe is not None:
            self._pipe.close()
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._pipe = self._process = None


@dataclass
class Pair:
    """Two processes: one only ever codes, the other only ever decodes."""

    plugin_files: Sequence[Path] = ()
    _helpers: dict[str, Helper] = field(default_factory=dict)

    def helper(self, way: str) -> Helper:
        """The one that does ``encode`` or ``decode``."""
        if way not in self._helpers:
            self._helpers[way] = Helper(way, self.plugin_files)
        return self._helpers[way]

    def close(self) -> None:
        """End both."""
        for helper in self._helpers.values():
            helper.close()


@dataclass(frozen=True)
class Apart:
    """Coding in one process, decoding in another: neither's time and memory has a share of the
    other's, nor of the metrics'."""

    pair: Pair
    preset: Preset

    def encode(self, pixels: Pixels, point: float, repeat: int) -> Timed[Encoded]:
        """See ``Hands``."""
        return self.pair.helper("encode").call(self.preset, (pixels, point), repeat)

    def decode(self, data: bytes, repeat: int) -> Timed[Decoded]:
        """See ``Hands``."""
        return self.pair.helper("decode").call(self.preset, (data,), repeat)


def serve() -> None:
    """A helper's life: calls in, answers out, until the pipe closes."""
    leave_interrupts_to_parent()
    from toolkit.plugin.loader import load_plugins
    from toolkit.plugin.presets import open_codec

    pipe: Connection[Any, Any] = Connection(int(sys.argv[1]))
    plugins = load_plugins([Path(name) for name in sys.argv[2:]])
    codecs: dict[str, Codec] = {}
    calls = _calls(pipe)
    while True:
        call = calls.get()
        name = f"{call.preset.name} {call.preset.identity}"
        try:
            if name not in codecs:
                codecs[name] = open_codec(plugins, call.preset)
            function = partial(getattr(codecs[name], call.way), *call.arguments)
            answer = pickle.dumps(timed(function, call.repeat))  # makes the reconstruction
        except Exception as error:  # a codec may raise anything
            answer = pickle.dumps(told(error))
        pipe.send_bytes(answer)


def _calls(pipe: Connection[Any, Any]) -> queue.SimpleQueue[_Call]:
    """The calls as they come; ends the process when the pipe closes, even amid a call."""
    calls: queue.SimpleQueue[_Call] = queue.SimpleQueue()

    def listen() -> None:
        try:
            while True:
                calls.put(pipe.recv())
        except (EOFError, OSError):
            os._exit(0)

    threading.Thread(target=listen, daemon=True).start()
    return calls


def told(error: BaseException | str) -> str:
    """An error in one line: ours as they are, others with their kind."""
    ours = isinstance(error, (ToolkitError, str))
    text = str(error) if ours else f"{type(error).__name__}: {error}"
    return " ".join(text.split()) or repr(error)
