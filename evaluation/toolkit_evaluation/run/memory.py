"""Peak memory of a stretch of code."""

from __future__ import annotations

from pathlib import Path

_CLEAR = Path("/proc/self/clear_refs")
_STATUS = Path("/proc/self/status")


class PeakMemory:
    """Largest resident memory of this process, in MiB, while the block runs.

    Linux only (the kernel's high-water mark, set back at the start); None elsewhere. Programs
    that the block starts aren't counted.
    """

    def __init__(self) -> None:
        self.mebibytes: float | None = None

    def __enter__(self) -> PeakMemory:
        try:
            _CLEAR.write_text("5")  # "reset the peak", proc(5)
            self._works = True
        except OSError:
            self._works = False
        return self

    def __exit__(self, *exception: object) -> None:
        if self._works:
            self.mebibytes = high_water_mark()


def high_water_mark() -> float | None:
    """Largest resident memory of this process since it began, or since the mark was set back, in
    MiB; None where the system doesn't tell."""
    if not _STATUS.exists():
        return None
    for line in _STATUS.read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return None
