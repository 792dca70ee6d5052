"""The training log: one readable line in a while, one JSON line for programs."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from toolkit.training.loop import Trainer
    from toolkit.training.objective import Loss


class TrainingLog:
    """Writes ``log.jsonl`` into ``folder`` and lines to standard output.

    Step records are means over the ``every`` seconds since the last one.
    """

    every = 20.0

    def __init__(self, folder: Path, quiet: bool = False) -> None:
        self.quiet = quiet
        self.file: TextIO | None = None
        if not quiet:
            folder.mkdir(parents=True, exist_ok=True)
            self.file = open(folder / "log.jsonl", "a", encoding="utf-8")  # noqa: SIM115
        self.sums = [0.0, 0.0, 0.0, 0.0]
        self.count = 0
        self.last = time.monotonic()

    def _write(self, record: dict[str, Any]) -> None:
        if self.file is not None:
            self.file.write(json.dumps(record) + "\n")
            self.file.flush()

    def note(self, text: str) -> None:
        """A line for the reader."""
        if not self.quiet:
            print(text, flush=True)
        self._write({"kind": "note", "text": text})

    def start(self, trainer: Trainer) -> None:
        """What runs, on what."""
        weights = sum(p.numel() for p in trainer.parts.parameters())
        self.note(
            f"{trainer.recipe.model}: {weights / 1e6:.2f} M weights, {trainer.device}, "
            f"{str(trainer.dtype).removeprefix('torch.')}, {len(trainer.crops.files)} images, "
            f"{len(trainer.held)} held out, {trainer.world} process(es)"
        )

    def step(
        self, step: int, seconds: float, progress: float, loss: Loss, norm: float, scale: float
    ) -> None:
        """Count one step in; write a record when it is time."""
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
            print(
                f"step {step:7d}  {100 * progress:5.1f} %  loss {value:7.3f}  {bpp:6.3f} bpp  "
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
