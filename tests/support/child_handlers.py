"""What a child process of the tests does with messages."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

from toolkit_evaluation.run.process import Handler, Reply


def make(base: int) -> Handler:
    """A handler that adds ``base`` to numbers, and does what words say."""

    def handle(message: Any, reply: Reply) -> None:
        if message == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        elif message == "exit":
            os._exit(7)
        elif message == "raise":
            raise RuntimeError("as it was told")
        elif message == "sleep":
            time.sleep(60)
        elif message == "pid":
            reply(os.getpid())
        elif message == "threads":
            reply(os.environ["OMP_NUM_THREADS"])
        elif message == "twice":
            reply(None)
            reply(message)
        else:
            reply(base + message)

    return handle


class Unreadable:
    """An object that pickles, and doesn't come back."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (_fail, ())


def _fail() -> None:
    raise RuntimeError("not to be read")
