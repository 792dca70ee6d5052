"""TensorBoard's events of a run, beside its log."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from toolkit.errors import MissingError

FOLDER = "tensorboard"
"""In the folder of the run."""
_OF_STEPS = ("loss", "bpp", "psnr", "gradient_norm", "lr_scale", "steps_per_s")


class TensorBoard:
    """Writes the records of a training log as scalars; give it to a ``Trainer``.

    Curves are ``training/...`` by step, and ``held out, rate R/bpp`` and ``/psnr`` of every rate
    that is validated. Where a run goes on, what it had taken beyond its checkpoint is dropped.

    Raises MissingError where the package isn't installed.
    """

    def __init__(self, folder: Path) -> None:
        try:
            from torch.utils.tensorboard.writer import SummaryWriter
        except ImportError:
            raise MissingError(
                "the events need the package tensorboard: "
                "pip install 'compression-without-quantization[tensorboard]'"
            ) from None
        self._class, self._folder = SummaryWriter, folder / FOLDER
        self._writer: Any = None

    def __call__(self, record: Mapping[str, Any]) -> None:
        """Write one record."""
        kind, step = record["kind"], record.get("step", 0)
        if self._writer is None or kind == "resumed":
            if self._writer is not None:
                self._writer.close()
            purge = step + 1 if kind == "resumed" else None
            self._writer = self._class(str(self._folder), purge_step=purge)
        for name, value in _scalars(record).items():
            self._writer.add_scalar(name, value, step)
        if kind == "note":
            self._writer.add_text("notes", record["text"])
        self._writer.flush()


def _scalars(record: Mapping[str, Any]) -> dict[str, float]:
    """Name of a curve -> its value at the step of the record."""
    if record["kind"] == "step":
        return {f"training/{name}": record[name] for name in _OF_STEPS}
    if record["kind"] == "skip":
        return {"training/skipped": record["skipped"]}
    if record["kind"] == "validation":
        return {
            f"held out, rate {row['rate']:.2f}/{name}": row[name]
            for row in record["rows"]
            for name in ("bpp", "psnr")
        }
    return {}
