"""The child process for untrusted bytes: whatever happens in it, the parent gets an error."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
import sandbox_tasks

from toolkit_plugins.compressai.sandbox import FORKS, CallFailed, Limits, Sandbox

LIMITS = Limits(seconds=20, memory=2**30)


@pytest.fixture(scope="module", params=[True, False], ids=["forking", "a server a call"])
def box(request):
    before = os.environ.get("PYTHONPATH", "")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(sandbox_tasks.__file__).parent), before])
    if request.param and not FORKS:
        pytest.skip("no safe fork here")
    sandbox = Sandbox("sandbox_tasks", fork=request.param)
    yield sandbox
    sandbox.close()
    os.environ["PYTHONPATH"] = before


def failure(box, payload, limits=LIMITS, setup=b""):
    with pytest.raises(CallFailed) as caught:
        box.call(setup, payload, limits)
    return caught.value


def test_result_and_what_prepare_left(box):
    first = int(box.call(b"", b"echo ", LIMITS))
    assert box.call(b"", b"echo abc", LIMITS) == b"abc%d" % (first + 1 if box.fork else 1)


def test_crash_leaves_the_next_call_alone(box):
    error = failure(box, b"crash")
    assert error.deadly
    assert "crashed" in str(error)
    assert box.call(b"", b"echo ok", LIMITS).startswith(b"ok")


@pytest.mark.parametrize("task", [b"exit", b"crash"])
def test_deaths_without_a_word(box, task):
    assert failure(box, task).deadly


def test_time_limit(box):
    start = time.monotonic()
    error = failure(box, b"hang", Limits(seconds=0.5))
    assert "more than 0.5 s" in str(error)
    assert error.deadly
    assert time.monotonic() - start < 10


def test_memory_limit(box):
    error = failure(box, b"grow")
    assert error.kind == "MemoryError"
    assert not error.deadly


def test_exceptions_by_name(box):
    error = failure(box, b"raise too bad")
    assert (error.kind, str(error)) == ("ValueError", "ValueError too bad")


def test_prepare_that_fails(box):
    assert "no such model" in str(failure(box, b"echo", setup=b"fail"))


def test_output_of_libraries_stays_out(box):
    assert box.call(b"", b"print ok", LIMITS).startswith(b"ok")


def test_large_payloads(box):
    data = os.urandom(3_000_000)
    assert box.call(b"", b"echo " + data, LIMITS).startswith(data)


def test_a_killed_server_is_replaced(box):
    if not box.fork:
        pytest.skip("every call has a new one")
    box.call(b"", b"echo", LIMITS)
    box._server.kill()
    box._server.wait()
    assert box.call(b"", b"echo ok", LIMITS).startswith(b"ok")


def test_close_ends_the_child(box):
    box.call(b"", b"echo", LIMITS)
    server = box._server
    box.close()
    if not box.fork:
        assert server is None
        return
    assert server.poll() is not None
