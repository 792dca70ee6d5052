"""Runs a function on untrusted bytes in a child process with limits on time and memory.

::

    parent --request--> server (keeps models loaded) --fork--> worker (limits set, runs once)
           <--answer---                             <--pipe---

CompressAI's range coder checks nothing: a damaged stream can read past its end and crash the
process. Each call gets a fresh worker, so that not even memory which a crash-free bad decode has
overwritten outlives it, and forking one from a server that has the model loaded takes
milliseconds where starting Python takes seconds. Where there is no safe ``fork`` (all but Linux)
each call gets a server of its own.

No child outlives its parent, however that one ends: a server looks five times a second whether the
process that started it is still its parent, and Linux kills a worker with its server.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import os
import select
import signal
import struct
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from typing import Any, BinaryIO

import msgspec

from toolkit.errors import ToolkitError

_LENGTH = struct.Struct("<Q")
_SETUP_SECONDS = 600.0
_GRACE_SECONDS = 10.0
_WATCH_SECONDS = 0.2
_DIE_WITH_PARENT = 1
"""``PR_SET_PDEATHSIG`` of Linux's prctl."""
_READY = "ready"
FORKS = sys.platform == "linux"
"""Whether a process that has loaded torch can be forked: elsewhere system libraries forbid it."""


@dataclass(frozen=True)
class Limits:
    """What one call may use."""

    seconds: float = 60.0
    memory: int = 4 * 2**30
    """Bytes of address space beyond what the server has."""


def limits_of(stream_bytes: int, pixels: int, pixel_seconds: float) -> Limits:
    """What decoding a file may use: by its length, since anybody can claim pixels.

    Arguments:
        stream_bytes: of its streams.
        pixels: that it claims; all are believed up to a million, beyond that a thousand a byte
            (a hundredth of a bit for each; pictures have ten times as many).
        pixel_seconds: ten times what the decoder takes for a pixel.

    Returns:
        Limits, the memory no more than the machine has.
    """
    believed = min(pixels, 2**20 + 1000 * stream_bytes)
    memory = 3 * 2**30 + 4096 * believed
    if hasattr(os, "sysconf"):
        memory = min(memory, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    return Limits(seconds=60 + pixel_seconds * believed, memory=memory)


class Request(msgspec.Struct, frozen=True):
    """A call of ``module.run(setup, payload)``, after ``module.prepare(setup)`` in the server."""

    module: str
    setup: bytes
    payload: bytes
    seconds: float
    memory: int
    fork: bool


class Answer(msgspec.Struct, frozen=True):
    """What became of a call: ``kind`` is empty for a result, ``ready`` once ``prepare`` is
    done, else an exception's class name."""

    data: bytes = b""
    kind: str = ""
    text: str = ""
    deadly: bool = False
    """The worker died or was killed."""


class CallFailed(Exception):
    """A call without a result: the worker raised, died or used more than it may."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.text)
        self.kind = answer.kind
        self.deadly = answer.deadly


class Sandbox:
    """A child process that runs one module's ``run`` on untrusted bytes.

    The module has ``prepare(setup: bytes)``, run in the server on trusted bytes, its effects
    kept from call to call, and ``run(setup: bytes, payload: bytes) -> bytes``.
    """

    def __init__(self, module: str, fork: bool = FORKS) -> None:
        self.module = module
        self.fork = fork
        self._lock = threading.Lock()
        self._server: subprocess.Popen[bytes] | None = None
        self._owner = 0

    def call(self, setup: bytes, payload: bytes, limits: Limits) -> bytes:
        """The result of ``run(setup, payload)``. Raises CallFailed, and nothing of what
        happens in the child reaches this process."""
        request = Request(self.module, setup, payload, limits.seconds, limits.memory, self.fork)
        with self._lock:
            answer = self._exchange(msgspec.msgpack.encode(request), limits.seconds)
            if not self.fork:
                self._stop()
        if answer.kind:
            raise CallFailed(answer)
        return answer.data

    def close(self) -> None:
        """End the child; the next call starts another."""
        with self._lock:
            self._stop()

    def _exchange(self, message: bytes, seconds: float) -> Answer:
        server = self._start()
        assert server.stdin is not None
        assert server.stdout is not None
        try:
            server.stdin.write(_LENGTH.pack(len(message)) + message)
            server.stdin.flush()
            answers = server.stdout.fileno()
            answer = _decoded(_read_frame(answers, time.monotonic() + _SETUP_SECONDS))
            if answer.kind == _READY:
                grace = _GRACE_SECONDS if self.fork else 0.0  # then the server keeps the time
                deadline = time.monotonic() + seconds + grace
                answer = _decoded(_read_frame(answers, deadline))
            return answer
        except TimeoutError:
            self._stop()
            return _too_slow(seconds)
        except (OSError, EOFError, msgspec.MsgspecError):
            self._stop()
            return _CRASHED
        except BaseException:
            self._stop()  # an interrupted exchange can't be taken up again
            raise

    def _start(self) -> subprocess.Popen[bytes]:
        if self._server is not None and self._owner != os.getpid():
            self._server = None  # a forked copy of this process: the child is the original's
        if self._server is None or self._server.poll() is not None:
            self._server = subprocess.Popen(
                [sys.executable, "-c", f"from {__name__} import serve; serve({os.getpid()})"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                start_new_session=True,  # Ctrl-C is this process's to handle
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )
            self._owner = os.getpid()
        return self._server

    def _stop(self) -> None:
        server, self._server = self._server, None
        if server is None or self._owner != os.getpid():
            return
        server.kill()
        server.wait()
        for pipe in (server.stdin, server.stdout):
            if pipe is not None:
                pipe.close()

    def __del__(self) -> None:
        if getattr(self, "_server", None) is not None:
            self._stop()


# -- in the child ----------------------------------------------------------------


def serve(parent: int) -> None:
    """Answer requests on standard input until it ends, or ``parent`` (a process's number)."""
    threading.Thread(target=_watch, args=(parent,), daemon=True).start()
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints must not get among the answers
    while True:
        try:
            request = msgspec.msgpack.decode(_read_frame(0, None), type=Request)
        except EOFError:
            return
        try:
            module = importlib.import_module(request.module)
            module.prepare(request.setup)
        except Exception as error:
            _write(answers, _failure(error))
            continue
        _write(answers, Answer(kind=_READY))
        if not request.fork:
            _set_limits(request)
        _write(answers, _run_forked(module, request) if request.fork else _run(module, request))


def _watch(parent: int) -> None:
    """End this process with its parent: one that loads a model doesn't see its input end."""
    while os.getppid() == parent:
        time.sleep(_WATCH_SECONDS)
    os._exit(1)


def _die_with(parent: int) -> None:
    """Have Linux kill this process when its parent dies, even one busy in a library."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it died before
        os._exit(1)


def _run(module: Any, request: Request) -> Answer:
    try:
        return Answer(module.run(request.setup, request.payload))
    except Exception as error:
        return _failure(error)


def _run_forked(module: Any, request: Request) -> Answer:
    """Run in a worker of its own, and wait for its answer or its death."""
    reading, writing = os.pipe()
    server = os.getpid()
    worker = os.fork()
    if worker == 0:
        try:
            _die_with(server)
            os.close(reading)
            _set_limits(request)
            with os.fdopen(writing, "wb") as pipe:
                _write(pipe, _run(module, request))
        finally:
            os._exit(0)  # no clean-up of what belongs to the server
    os.close(writing)
    try:
        answer = _read_frame(reading, time.monotonic() + request.seconds)
        return _decoded(answer)
    except TimeoutError:
        return _too_slow(request.seconds)
    except (EOFError, msgspec.MsgspecError):
        return _CRASHED
    finally:
        os.kill(worker, signal.SIGKILL)
        os.waitpid(worker, 0)
        os.close(reading)


def _set_limits(request: Request) -> None:
    """As far as the system has such limits; the time is kept from outside in any case."""
    try:
        import resource
    except ImportError:
        return
    size = 0
    with contextlib.suppress(OSError), open("/proc/self/statm") as file:
        size = int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    for kind, limit in (
        (resource.RLIMIT_AS, size + request.memory),
        (resource.RLIMIT_CPU, int(request.seconds) + 2),
        (resource.RLIMIT_CORE, 0),
    ):
        hard = resource.getrlimit(kind)[1]
        limit = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
        with contextlib.suppress(ValueError, OSError):  # some systems have no such limit
            resource.setrlimit(kind, (limit, limit))


def _too_slow(seconds: float) -> Answer:
    return Answer(kind="Timeout", text=f"decoding took more than {seconds:g} s", deadly=True)


_CRASHED = Answer(kind="Crash", text="the decoder crashed", deadly=True)


def _failure(error: Exception) -> Answer:
    text = " ".join(str(error).split())
    known = isinstance(error, ToolkitError)
    return Answer(
        kind=type(error).__name__, text=text if known else f"{type(error).__name__} {text}"
    )


# -- frames ----------------------------------------------------------------------


def _decoded(frame: bytes) -> Answer:
    return msgspec.msgpack.decode(frame, type=Answer)


def _write(file: BinaryIO, answer: Answer) -> None:
    message = msgspec.msgpack.encode(answer)
    file.write(_LENGTH.pack(len(message)) + message)
    file.flush()


def _read_frame(descriptor: int, deadline: float | None) -> bytes:
    (length,) = _LENGTH.unpack(_read(descriptor, _LENGTH.size, deadline))
    return _read(descriptor, length, deadline)


def _read(descriptor: int, count: int, deadline: float | None) -> bytes:
    """Exactly ``count`` bytes. Raises EOFError, TimeoutError."""
    pieces: list[bytes] = []
    while count:
        if deadline is not None:
            left = max(0.0, deadline - time.monotonic())
            if not select.select([descriptor], [], [], left)[0]:
                raise TimeoutError
        piece = os.read(descriptor, min(count, 2**20))
        if not piece:
            raise EOFError
        pieces.append(piece)
        count -= len(piece)
    return b"".join(pieces)
