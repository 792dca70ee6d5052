"""The harness in several processes: workers, a cluster, the command, and killing all of them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import evaluation_plugin
import numpy as np
import pytest
from evaluation_workspace import (
    add_image,
    call,
    command,
    encoded,
    run,
    timeless,
    workspace,
)
from msgspec.structs import replace
from PIL import Image

from toolkit.errors import MissingError, UsageError
from toolkit.threads import VARIABLES, processors

__all__ = ["workspace"]  # a fixture


# -- workers ------------------------------------------------------------------


def test_workers_give_the_same_rows(workspace):
    one = run(workspace, ["grid", "fine"], out=workspace / "one")
    two = run(workspace, ["grid", "fine"], out=workspace / "two", workers=2)
    assert timeless(two.rows) == timeless(one.rows)


def test_workers_that_die_or_hang_cost_one_row(workspace):
    add_image(workspace / "images" / "im0.png", 1, first=evaluation_plugin.DIES)
    add_image(workspace / "images" / "im1.png", 1, first=evaluation_plugin.HANGS)
    table = run(workspace, points=[8], workers=1, timeout=2)
    errors = {row.image: row.error for row in table.rows}
    assert errors == {
        "im0": "the worker process died 2 times (SIGKILL)",
        "im1": "took longer than 2 s",
        "im2": None,
    }


def processes(workspace):
    """What the codec noted of the processes it worked in: (way, pid, threads, tasks)."""
    lines = [line.split() for line in (workspace / "processes").read_text().splitlines()]
    return [(way, *map(int, numbers)) for way, *numbers in lines]


@pytest.mark.parametrize("workers", [1, 2])
def test_coding_and_decoding_in_processes_of_their_own(workspace, monkeypatch, workers):
    one = run(workspace, points=[8, 16], out=workspace / "one")
    assert not any(row.separate for row in one.rows)
    monkeypatch.setenv("GRID_PROCESSES", str(workspace / "processes"))
    # what was measured in one process is measured again
    separate = run(workspace, points=[8, 16], out=workspace / "one", separate=True, workers=workers)
    assert all(row.separate for row in separate.rows)
    assert timeless(replace(row, separate=False) for row in separate.rows) == timeless(one.rows)
    ways = {
        way: {p[1] for p in processes(workspace) if p[0] == way} for way in ("encode", "decode")
    }
    assert len(ways["encode"]) == len(ways["decode"]) == workers
    assert not ways["encode"] & ways["decode"]
    assert os.getpid() not in ways["encode"] | ways["decode"]
    for pid in ways["encode"] | ways["decode"]:
        wait_until_gone(pid)
    encoded(workspace)
    assert run(workspace, points=[8, 16], out=workspace / "one", separate=True).rows[0].separate
    run(workspace, points=[8, 16], out=workspace / "one")
    assert encoded(workspace) == 0


def test_many_codecs_in_processes_take_turns(workspace, monkeypatch):
    monkeypatch.setattr("toolkit_evaluation.run.worker.MOST_SEPARATE", 1)
    monkeypatch.setenv("GRID_PROCESSES", str(workspace / "processes"))
    table = run(workspace, ["grid", "fine"], images="images/im0.png", points=[8], separate=True)
    assert not table.failures
    assert len({pid for _, pid, *_ in processes(workspace)}) == 4


def test_failures_of_codecs_in_processes(workspace):
    add_image(workspace / "images" / "im0.png", 1, first=evaluation_plugin.RAISES)
    add_image(workspace / "images" / "im1.png", 1, first=evaluation_plugin.DIES)
    table = run(workspace, points=[8], separate=True)
    assert [row.error for row in table.rows] == [
        "RuntimeError: this image is cursed",
        "the encoding process died 2 times (SIGKILL)",
        None,
    ]


def test_a_codec_in_a_process_that_hangs_ends_with_its_worker(workspace, monkeypatch):
    monkeypatch.setenv("GRID_PROCESSES", str(workspace / "processes"))
    add_image(workspace / "images" / "im0.png", 1, first=evaluation_plugin.HANGS)
    table = run(workspace, points=[8], separate=True, timeout=1)
    assert [row.error for row in table.rows] == ["took longer than 1 s", None, None]
    for _, pid, *_ in processes(workspace):
        wait_until_gone(pid)


@pytest.mark.parametrize(("settings", "threads"), [({"workers": 2}, None), ({"threads": 1}, 1)])
def test_workers_share_the_processors(workspace, monkeypatch, settings, threads):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GRID_PROCESSES", str(workspace / "processes"))
    run(workspace, points=[8], **settings)
    threads = threads or max(1, processors() // 2)
    for _, pid, allowed, tasks in processes(workspace):
        assert pid != os.getpid()
        assert allowed == threads
        # numpy's, too, which is loaded before the worker's own code; one waits for messages
        assert tasks <= threads + 1
    assert not any(name in os.environ for name in VARIABLES)


@pytest.fixture
def cluster(workspace):
    """The address of a scheduler with two workers, and the workers' processes."""
    pytest.importorskip("distributed")
    code = "import sys; from dask.__main__ import main; main()"
    ours = {"cwd": workspace, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    program = [sys.executable, "-c", code]
    file = workspace / "scheduler.json"
    line = ["scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard"]
    processes = [subprocess.Popen([*program, *line, "--scheduler-file", str(file)], **ours)]
    limit = time.monotonic() + 60
    while not (file.exists() and file.read_text().endswith("}")):
        assert time.monotonic() < limit
        assert processes[0].poll() is None
        time.sleep(0.05)
    address = json.loads(file.read_text())["address"]
    line = ["worker", address, "--no-nanny", "--nthreads", "1", "--no-dashboard"]
    processes += [subprocess.Popen([*program, *line], **ours) for _ in range(2)]
    yield address, processes[1:]
    for process in processes:
        process.kill()
        process.wait()


def test_a_cluster_gives_the_same_rows_and_loses_nothing(workspace, cluster):
    address, workers = cluster
    here = run(workspace, ["grid", "fine"], out=workspace / "here", options={"delay": 0.05})
    killed = []

    def kill_one(row, cached):
        if len(killed) < 1 and not cached and row.point == 16:
            workers[0].kill()
            killed.append(row)

    there = run(
        workspace, ["grid", "fine"], options={"delay": 0.05}, keep_files="kept",
        scheduler=address, on_row=kill_one,
    )  # fmt: skip
    assert killed
    assert all(Path(row.file).stat().st_size == row.bytes for row in there.rows)
    there_rows = [replace(row, file=None) for row in there.rows]
    assert timeless(there_rows) == timeless(here.rows)


def test_no_cluster(workspace, monkeypatch):
    pytest.importorskip("distributed")
    monkeypatch.setattr("toolkit_evaluation.run.cluster.CONNECT_S", 0.5)
    with pytest.raises(MissingError, match=r"no Dask scheduler at tcp://127\.0\.0\.1:9"):
        run(workspace, scheduler="tcp://127.0.0.1:9")
    with pytest.raises(UsageError, match="no time limit"):
        run(workspace, scheduler="tcp://127.0.0.1:9", timeout=1)


# -- the command --------------------------------------------------------------


def test_json_on_standard_output_alone(workspace):
    done = call(workspace, "--codec", "grid", "--codec", "fine", "images", "--json", "-")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert set(result) == {"rows", "means", "skipped"}
    assert not result["skipped"]
    assert len(result["rows"]) == 3 * (4 + 2)
    assert {"image", "codec", "point", "status", "bytes", "bpp", "psnr", "ms_ssim", "file",
            "theoretical_bpp", "encode_s", "decode_s", "coder_encode_s",
            "coder_decode_s"} <= set(result["rows"][0])  # fmt: skip
    assert {"codec", "point", "images", "bpp", "psnr"} <= set(result["means"][0])


def test_table_json_file_and_plot(workspace):
    line = command(workspace, "--codec", "grid", "images", "--json", "all.json")
    line.remove("--no-plot")
    done = subprocess.run(line, cwd=workspace, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "bpp" in done.stdout
    assert len(json.loads((workspace / "all.json").read_bytes())["rows"]) == 12
    assert Image.open(workspace / "results" / "rate-distortion.png").size[0] > 1000
    assert b"<svg" in (workspace / "results" / "rate-distortion.svg").read_bytes()
    record = json.loads((workspace / "results" / "run.json").read_bytes())
    assert record["finished"] is not None
    assert record["versions"]["packages"]["numpy"] == np.__version__
    assert record["presets"][0]["points"] == [8, 16, 32, 64]


def test_exit_status_of_failures(workspace):
    add_image(workspace / "images" / "im1.png", 1, first=evaluation_plugin.RAISES)
    done = call(workspace, "--codec", "grid", "images")
    assert done.returncode == 5
    assert "im1, grid at 8: RuntimeError: this image is cursed" in done.stdout
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["--codec", "grit", "images"], 2),
        (["--codec", "grid", "images", "--point", "much"], 2),
        (["--codec", "grid", "images", "--point", "fine:4"], 2),
        (["--codec", "grid", "images", "--anchor", "fine"], 2),
        (["--codec", "grid", "nowhere/"], 3),
    ],
)
def test_exit_status_of_errors(workspace, arguments, status):
    done = call(workspace, *arguments, "--registry", "registry.yaml")
    assert done.returncode == status
    assert len(done.stderr.splitlines()) == 1


def test_verify(workspace):
    line = ("--codec", "grid", "--point", "8", "images", "--keep-files", "kept", "--verify")
    assert call(workspace, "--codec", "grid", "images", "--verify").returncode == 2
    assert "3 of 3 files decode" in call(workspace, *line).stderr
    rows = [json.loads(text) for text in (workspace / "results" / "rows.jsonl").open()]
    rows[1]["decoded_sha256"] = "0" * 64
    (workspace / "results" / "rows.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    done = call(workspace, *line)
    assert done.returncode == 5
    assert "im1, grid at 8: kept/grid/8/im1.grid: decodes to other pixels" in done.stderr
    assert "2 of 3 files decode" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "status", "text"),
    [
        (["kodac"], 2, "nearest: kodak"),
        (["kodak", "--from", "nowhere"], 3, "nowhere: no such folder"),
        (["kodak", "--from", "images"], 4, "no kodim01.png there"),
    ],
)
def test_data_errors(workspace, arguments, status, text):
    code = "from toolkit.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "data", *arguments, "--to", "here"],
        cwd=workspace, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == status
    assert text in done.stderr
    assert len(done.stderr.splitlines()) == 1


def start(workspace, *arguments):
    """A slow run in a process of its own, once it has stored two rows."""
    process = subprocess.Popen(
        command(workspace, "--codec", "grid", "images", "-o", "delay=0.05", *arguments),
        cwd=workspace,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # whoever runs the tests in the background has them ignore interrupts, and children too
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    rows = workspace / "results" / "rows.jsonl"
    limit = time.monotonic() + 60
    while not rows.exists() or rows.read_bytes().count(b"\n") < 2:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < limit
        time.sleep(0.02)
    return process


def wait_until_gone(pid, signal_to=os.kill):
    """Until there is no such process; with ``os.killpg``, none of the group."""
    limit = time.monotonic() + 20
    while time.monotonic() < limit:
        try:
            signal_to(pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.02)
    raise AssertionError("a worker outlived its run")


@pytest.mark.parametrize("workers", ["1", "2"])
def test_kill_and_go_on(workspace, workers):
    process = start(workspace, "--workers", workers)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    wait_until_gone(process.pid, os.killpg)  # its workers end, too
    killed_at = encoded(workspace)
    assert killed_at < 12
    stored = (workspace / "results" / "rows.jsonl").read_bytes().count(b"\n")
    settings = {"options": {"delay": 0.05}}
    resumed = run(workspace, **settings)
    assert encoded(workspace) == 12 - stored + 1
    fresh = run(workspace, out=workspace / "fresh", **settings)
    assert timeless(resumed.rows) == timeless(fresh.rows)


@pytest.mark.parametrize("separate", [[], ["--separate"]])
def test_a_worker_that_hangs_ends_with_a_killed_run(workspace, monkeypatch, separate):
    monkeypatch.setenv("GRID_PROCESSES", str(workspace / "processes"))
    add_image(workspace / "images" / "im2.png", 1, first=evaluation_plugin.HANGS)
    process = start(workspace, "--workers", "2", "--point", "8", *separate)
    time.sleep(0.3)  # now the third picture is being coded, for an hour
    assert process.poll() is None
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    wait_until_gone(process.pid, os.killpg)


def test_interrupt(workspace):
    process = start(workspace)
    os.kill(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "interrupted" in errors
    assert "Traceback" not in errors
    encoded(workspace)
    assert len(run(workspace, options={"delay": 0.05}).rows) == 12
    assert encoded(workspace) < 12


def test_two_runs_keep_apart(workspace):
    process = start(workspace)
    with pytest.raises(UsageError, match="another run writes here"):
        run(workspace)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert len(run(workspace, points=[8]).rows) == 3  # the dead run's lock is gone


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["1", "2"])
def test_killed_at_twenty_random_points(workspace, workers):
    """Kill -9 whenever: the rows come to those of an undisturbed run, and none is lost."""
    random = np.random.default_rng(int(workers))
    for number in range(3, 60):
        add_image(workspace / "images" / f"im{number}.png", number)
    line = command(
        workspace,
        "--codec",
        "grid",
        "images",
        "-o",
        "delay=0.05",
        "--workers",
        workers,
        "--json",
        "j",
    )
    stored = workspace / "results" / "rows.jsonl"
    kills, lines = 0, 0
    while kills < 20:
        process = subprocess.Popen(
            line,
            cwd=workspace,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        time.sleep(random.uniform(0.3, 1.5))
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
            kills += 1
        process.communicate()
        wait_until_gone(process.pid, os.killpg)
        now = stored.read_bytes().count(b"\n") if stored.exists() else 0
        assert now >= lines
        lines = now
    done = subprocess.run(line, cwd=workspace, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    rows = json.loads((workspace / "j").read_bytes())["rows"]
    times = encoded(workspace)
    fresh = run(workspace, out=workspace / "fresh", options={"delay": 0.05})
    assert timeless(rows) == timeless(fresh.rows)
    assert stored.read_bytes().count(b"\n") == len(rows) == 240  # nothing stored twice
    # computed twice is only what was under way when it was killed, and one warm-up a worker
    assert 240 <= times <= 240 + 2 * int(workers) * (kills + 1)
