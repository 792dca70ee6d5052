"""The settings of an evaluation: one frozen struct for the library, the command and workers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from msgspec.structs import force_setattr, replace

from toolkit.codec.search import PointTarget
from toolkit.device import resolve_device
from toolkit.errors import UsageError
from toolkit.format.limits import limited
from toolkit.options import Options
from toolkit.threads import processors
from toolkit_evaluation.results.row import METRICS


class EvaluationSettings(Options, frozen=True):
    """What is measured, where results are kept, and how the work is done.

    Raises UsageError for values that can't be used together, or at all.
    """

    points: Mapping[str, Sequence[float]] | Sequence[float] | None = None
    """Points of the curves instead of the presets' own; a mapping from preset name to points
    sets them for these presets alone."""
    target_bpp: Sequence[float] = ()
    """Rates in bits per pixel; for each image the point nearest to, but not above, each is
    found."""
    target_psnr: Sequence[float] = ()
    """Qualities in dB; the cheapest point that reaches each is found."""
    metrics: Sequence[str] = METRICS
    """Names of metrics."""
    out: Path | None = None
    """Folder that keeps the rows; with it a second call computes only what is missing, whatever
    ended the first. None: nothing is kept."""
    keep_files: Path | None = None
    """Folder for coded files and reconstructions."""
    workers: int = 1
    """Processes to work with."""
    threads: int | None = None
    """Threads of each worker's numerical libraries; None: the cores, shared out among several
    workers, or left to the libraries for one."""
    timeout: float | None = None
    """Seconds that a row may take. Where this or ``threads`` is given, even one worker is a
    process of its own: libraries take the number of threads when they are loaded."""
    repeat: int = 1
    """Times to code and decode each; the fastest counts."""
    retry_errors: bool = False
    """Compute failed rows again."""
    scheduler: str | None = None
    """Address of a Dask scheduler, whose workers then do the work."""
    device: str = "cpu"
    """Where networks run: ``cpu``, ``cuda``, ``mps``, or ``auto`` for a GPU where there is one."""
    separate: bool = False
    """Code in one process, decode in another: neither's time and memory has the other's share.
    Rows that were measured otherwise are measured again."""

    max_pixels: int | None = None
    """Larger images are error rows; None: the limits of ``toolkit.format.limits``."""
    max_memory: int | None = None
    """Bytes that each process may take. An image that takes more is an error row that isn't kept:
    with more memory, another run goes on from there."""
    deterministic: bool = False
    """Code in float32 with fixed kernels (``toolkit.deterministic``). Such rows are results of
    their own."""

    def __post_init__(self) -> None:
        for name in ("out", "keep_files"):
            folder = getattr(self, name)
            force_setattr(self, name, Path(folder) if folder else None)
        for name in ("target_bpp", "target_psnr", "metrics"):
            force_setattr(self, name, tuple(getattr(self, name)))
        for name in ("workers", "repeat"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} must be at least 1, not {getattr(self, name)}")
        for name in ("max_pixels", "max_memory"):
            if (limit := getattr(self, name)) is not None and limit < 1:
                raise UsageError(f"{name} must be at least 1, not {limit}")
        for value in (*self.target_bpp, *self.target_psnr):
            if not value > 0:
                raise UsageError(f"a target must be above 0, not {value:g}")
        force_setattr(self, "device", resolve_device(self.device))
        if self.scheduler is not None and self.timeout is not None:
            raise UsageError("rows have no time limit on a cluster")

    @contextmanager
    def limits(self) -> Iterator[None]:
        """``max_pixels`` and ``max_memory`` in force in this process."""
        with limited(self.max_pixels, self.max_memory):
            yield

    @property
    def targets(self) -> list[PointTarget]:
        """What points are searched for to meet."""
        return [PointTarget("bpp", value) for value in self.target_bpp] + [
            PointTarget("psnr", value) for value in self.target_psnr
        ]

    @property
    def in_process(self) -> bool:
        """Whether this process can do the work itself."""
        return (self.workers, self.timeout, self.threads) == (1, None, None)

    def points_of(self, preset: str) -> Sequence[float] | None:
        """The points of a preset, None for its own."""
        return self.points.get(preset) if isinstance(self.points, Mapping) else self.points

    def for_workers(self) -> EvaluationSettings:
        """The same, the number of threads of each worker made out."""
        return replace(self, threads=self.threads or max(1, processors() // self.workers))
