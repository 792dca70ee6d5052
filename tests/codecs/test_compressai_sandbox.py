"""The child process for untrusted bytes: whatever happens in it, the parent gets an error."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import sandbox_tasks

from toolkit_plugins.compressai.sandbox import FORKS, CallFailed, Limits, Sandbox, limits_of

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


def test_limits_are_by_the_length_of_the_file_not_by_what_it_claims():
    """66 bytes that claim all pixels there may be: an hour at most, once 99 hours."""
    bomb = limits_of(66, 178_956_970, 2e-3)
    assert bomb.seconds < 3600
    assert bomb.memory <= 3 * 2**30 + 4096 * 2**21
    honest = limits_of(400_000, 24_000_000, 2e-3)  # 0.13 bits a pixel
    assert honest.seconds == 60 + 2e-3 * 24_000_000
    assert limits_of(10**6, 10**6, 1e-4).seconds == 160


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


PARENT = """
import sys
from toolkit_plugins.compressai.sandbox import CallFailed, Limits, Sandbox
box = Sandbox("sandbox_tasks", fork=sys.argv[1] == "True")
print("ready", flush=True)
try:
    box.call(sys.argv[3].encode(), b"children " + sys.argv[2].encode(), Limits(60, 2**30))
except KeyboardInterrupt:
    sys.exit(130)
"""


def alive(process):
    """Whether a process runs; one that only waits to be collected doesn't."""
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"


def gone(processes, seconds):
    end = time.monotonic() + seconds
    while any(map(alive, processes)) and time.monotonic() < end:
        time.sleep(0.02)
    return not any(map(alive, processes))


def children(process):
    found = []
    for task in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(task.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        if parent == process:
            found.append(int(task.parent.name))
    return found


def until(condition, seconds=30.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_child_outlives_its_parent(box, kind, tmp_path):
    """Within a second, while a worker runs that will never answer."""
    command = [sys.executable, "-c", PARENT, str(box.fork), str(tmp_path / "told"), ""]
    parent = subprocess.Popen(
        command, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)
    )
    done = tmp_path / "told.done"
    until(done.exists)
    worker, server = map(int, done.read_text().split())
    family = [worker, server] if box.fork else [worker]
    assert all(map(alive, family))
    parent.send_signal(kind)
    assert gone(family, 1.0)
    parent.wait(10)


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_a_server_that_loads_a_model_goes_with_its_parent(box, tmp_path):
    command = [sys.executable, "-c", PARENT, str(box.fork), str(tmp_path / "told"), "slow"]
    parent = subprocess.Popen(command)
    until(lambda: children(parent.pid))
    (server,) = children(parent.pid)
    time.sleep(0.7)
    parent.kill()
    parent.wait(10)
    assert gone([server], 1.0)


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_a_worker_goes_with_its_server(box, tmp_path):
    if not box.fork:
        pytest.skip("the server is the worker")
    command = [sys.executable, "-c", PARENT, "True", str(tmp_path / "told"), ""]
    parent = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    done = tmp_path / "told.done"
    until(done.exists)
    worker, server = map(int, done.read_text().split())
    os.kill(server, signal.SIGKILL)
    assert gone([worker], 1.0)
    assert parent.wait(10) == 1  # its call failed, in words
