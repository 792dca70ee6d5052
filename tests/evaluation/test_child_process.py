"""A child process that answers messages: how it ends, and how its end is reported."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import child_handlers
import pytest

from toolkit_evaluation.run.process import Child, ChildDied

SUPPORT = Path(child_handlers.__file__).parent
PARENT = f"""
import sys, time
sys.path.insert(0, {str(SUPPORT)!r})
import child_handlers
from toolkit_evaluation.run.process import Child
child = Child(child_handlers.make, 5)
child.send("pid")
print(child.receive(), flush=True)
child.send("sleep")
time.sleep(60)
"""


@pytest.fixture
def child():
    child = Child(child_handlers.make, 5, threads=3)
    yield child
    child.close()


def gone(pid: int) -> bool:
    limit = time.monotonic() + 20
    while time.monotonic() < limit:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.02)
    return False


def test_messages_are_answered_in_their_order(child):
    for number in range(3):
        child.send(number)
    assert [child.receive() for _ in range(3)] == [5, 6, 7]


def test_one_message_may_have_several_answers(child):
    child.send("twice")
    assert (child.receive(), child.receive()) == (None, "twice")


def test_its_libraries_have_the_threads_it_is_given(child):
    child.send("threads")
    assert child.receive() == "3"


@pytest.mark.parametrize(
    ("message", "how"), [("kill", "SIGKILL"), ("exit", "exit status 7"), ("raise", "exit status 1")]
)
def test_its_end_is_reported(child, message, how):
    child.send(message)
    with pytest.raises(ChildDied, match=how):
        child.receive()
    child.send("nobody listens")
    with pytest.raises(ChildDied, match=how):
        child.receive()


def test_a_message_that_it_cannot_read_ends_it(child):
    child.send(child_handlers.Unreadable())
    with pytest.raises(ChildDied, match="exit status 1"):
        child.receive()


def test_it_ends_amid_work_when_it_is_closed(child):
    child.send("pid")
    pid = child.receive()
    child.send("sleep")
    child.close()
    assert gone(pid)


@pytest.mark.parametrize("way", [signal.SIGKILL, signal.SIGTERM])
def test_it_ends_amid_work_when_its_parent_is_killed(way):
    parent = subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    parent.send_signal(way)
    parent.wait()
    parent.stdout.close()
    assert gone(pid)
