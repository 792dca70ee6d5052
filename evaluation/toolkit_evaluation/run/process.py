"""A child process that answers messages, and ends with this one, however this one ends.

Its pipe tells: when it closes, the child ends at once, even amid work. So no killed run leaves
processes behind. Children start from a fresh interpreter: a fork and torch's threads don't mix.
"""

from __future__ import annotations

import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any

from toolkit.threads import environment_with_threads
from toolkit_evaluation.run.interrupts import interrupts_held, leave_interrupts_to_parent

ATTEMPTS = 2
"""Times that work is tried when its process dies (not when it fails: that is a result)."""
KILLED = "SIGKILL"
"""How a process ends that the system kills to have its memory back."""
Reply = Callable[[Any], None]
Handler = Callable[[Any, Reply], None]
"""Takes a message and answers it, as often as it likes."""
_START = f"""
import sys
from multiprocessing.connection import Connection
pipe = Connection(int(sys.argv[1]))
sys.path[:] = pipe.recv()
from {__name__} import serve
serve(pipe)
"""


class ChildDied(Exception):
    """The child ended without an answer; the text says how: ``SIGKILL``, ``exit status 1``."""


class Child:
    """A process with a handler of messages.

    Arguments:
        make_handler: Called in the child with ``arguments``; returns its handler. It, they and
            all messages must be picklable.
        threads: Of the child's numerical libraries; None leaves them alone.
    """

    def __init__(
        self, make_handler: Callable[..., Handler], *arguments: Any, threads: int | None = None
    ) -> None:
        self.pipe: Connection[Any, Any]
        self.pipe, theirs = Pipe()
        with interrupts_held():
            self._process = subprocess.Popen(
                [sys.executable, "-c", _START, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                env=environment_with_threads(threads),
            )
        theirs.close()
        self.send(sys.path)
        self.send((make_handler, arguments))

    def send(self, message: Any) -> None:
        """Give the child a message. One that is dead is noticed by ``receive``."""
        with suppress(OSError):
            self.pipe.send(message)

    def receive(self) -> Any:
        """The next answer, waited for. Raises ChildDied."""
        try:
            return self.pipe.recv()
        except (EOFError, OSError):
            raise ChildDied(self._reap()) from None

    def _reap(self) -> str:
        """How the process ended."""
        code = self._process.wait()
        self.pipe.close()
        return signal.Signals(-code).name if code < 0 else f"exit status {code}"

    def close(self) -> None:
        """End the process."""
        self.pipe.close()
        self._process.kill()
        self._process.wait()


def serve(pipe: Connection[Any, Any]) -> None:
    """A child's life: make the handler, hand it messages, until the pipe closes."""
    leave_interrupts_to_parent()
    messages: queue.SimpleQueue[Any] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(pipe, messages), daemon=True).start()
    make_handler, arguments = messages.get()
    handler: Handler = make_handler(*arguments)

    def reply(answer: Any) -> None:
        data = pickle.dumps(answer)
        try:
            pipe.send_bytes(data)
        except OSError:  # nobody is there any more
            os._exit(0)

    while True:
        handler(messages.get(), reply)


def _listen(pipe: Connection[Any, Any], messages: queue.SimpleQueue[Any]) -> None:
    """Take in messages; end the process when the pipe closes, whatever it is doing."""
    try:
        while True:
            messages.put(pipe.recv())
    except (EOFError, OSError):
        os._exit(0)
    except BaseException:  # a message that can't be read here: nobody would answer it
        traceback.print_exc()
        os._exit(1)
