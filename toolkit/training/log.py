"""The training log: one readable line in a while, one JSON line for programs."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from toolkit.training.folder import LOG
from toolkit.training.objective import Loss

Logger = Callable[[Mapping[str, Any]], None]
"""Is called with every record of a log, after it was written."""


class TrainingLog:
    """Writes ``log.jsonl`` into ``folder`` and lines to standard output.

    Step records are means over the ``every`` seconds since the last one.

    Arguments:
        folder: of the run.
        quiet: write nothing, for all processes of a run but one.
        loggers: who else is told of the records.
    """

    every = 20.0

    def __init__(self, folder: Path, quiet: bool = False, loggers: Sequence[Logger] = ()) -> None:
        self.quiet, self.loggers = quiet, tuple(loggers)
        self.file: BinaryIO | None = None
        if not quiet:
            folder.mkdir(parents=True, exist_ok=True)
            path = folder / LOG
            _cut_torn_end(path)
            self.file = open(path, "ab")  # noqa: SIM115
        self.sums = [0.0, 0.0, 0.0, 0.0]
        self.count = 0
        self.last = time.monotonic()

    def _write(self, record: dict[str, Any]) -> None:
        if self.file is not None:
            self.file.write(json.dumps(record).encode() + b"\n")
            self.file.flush()
            for logger in self.loggers:
                logger(record)

    def note(self, text: str) -> None:
        """A line for the reader."""
        if not self.quiet:
            print(text, flush=True)
        self._write({"kind": "note", "text": text})

    def resumed(self, step: int, seconds: float) -> None:
        """The run goes on from a checkpoint of this step."""
        self._write({"kind": "resumed", "step": step, "seconds": round(seconds, 1)})
        if not self.quiet:
            print(f"resumed at step {step}, {seconds / 60:.1f} min", flush=True)

    def skip(self, step: int, fault: str, skipped: int) -> None:
        """A step that was skipped, why, and how many were by now."""
        self._write({"kind": "skip", "step": step, "fault": fault, "skipped": skipped})
        if not self.quiet:
            print(f"step {step:7d}  skipped: {fault}; {skipped} skipped so far", flush=True)

    def step(
        self, step: int, seconds: float, progress: float, loss: Loss, norm: float, scale: float
    ) -> None:
        """Count one step in; write a record when it is time. ``progress`` is NaN where the run has
        no end of its own."""
        for i, value in enumerate((float(loss.value.detach()), loss.bpp, loss.psnr, norm)):
            self.sums[i] += value
        self.count += 1
        now = time.monotonic()
        if now - self.last < self.every:
            return
        value, bpp, psnr, mean_norm = (s / self.count for s in self.sums)
        rate = self.count / (now - self.last)
        record = {
            "kind": "step", "step": step, "seconds": round(seconds, 1), "loss": value, "bpp": bpp,
            "psnr": psnr, "gradient_norm": mean_norm, "lr_scale": scale, "steps_per_s": rate,
        }  # fmt: skip
        self._write(record)
        if not self.quiet:
            share = "" if math.isnan(progress) else f"{100 * progress:5.1f} %  "
            print(
                f"step {step:7d}  {share}loss {value:7.3f}  {bpp:6.3f} bpp  "
                f"{psnr:6.2f} dB  |g| {mean_norm:6.2f}  lr x{scale:.3f}  {rate:5.2f} steps/s",
                flush=True,
            )
        self.sums, self.count, self.last = [0.0] * 4, 0, now

    def validation(self, step: int, seconds: float, rows: list[dict[str, Any]]) -> None:
        """Held-out figures at several rates."""
        self._write(
            {"kind": "validation", "step": step, "seconds": round(seconds, 1), "rows": rows}
        )
        if not self.quiet:
            points = "  ".join(f"{r['bpp']:.3f}/{r['psnr']:.2f}" for r in rows)
            print(f"held out at step {step}: bpp/dB {points}", flush=True)


def read_log(path: Path) -> list[dict[str, Any]]:
    """The records of a log, without those of steps that a killed run took and that were taken again
    when it went on."""
    records: list[dict[str, Any]] = []
    for line in path.read_bytes().splitlines():
        record = json.loads(line)
        if record["kind"] == "resumed":
            records = [r for r in records if r.get("step", 0) <= record["step"]]
        records.append(record)
    return records


def _cut_torn_end(path: Path) -> None:
    """Remove the half line that a killed process left."""
    if not path.exists():
        return
    with open(path, "r+b") as file:
        data = file.read()
        file.truncate(data.rfind(b"\n") + 1)
