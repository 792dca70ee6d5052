"""How a sampler's time and memory grow with the picture: synthetic levels of pictures of any side.

Statistics are those of ``synthetic_levels``: rates of channels as a trained network's, varying over
the picture on the same scale whatever its size, so that a picture of twice the side is four times
the work, and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import msgspec

from toolkit_evaluation.samplers.bench import Contender, Record, bench_levels, synthetic_levels

if TYPE_CHECKING:
    from rich.table import Table

SIDES = (64, 256, 1024, 4096)
POINT = 2.5
"""Bits a latent of the highest-rate channels."""
_COLUMNS = (
    ("side", "side", "{}"),
    ("latents", "latents", "{}"),
    ("KL, bits", "kl_bits", "{:.0f}"),
    ("bits", "bits", "{:.0f}"),
    ("J %", "j_percent", "{:+.1f}"),
    ("encode s", "encode_s", "{:.3f}"),
    ("us/latent", "encode_us", "{:.2f}"),
    ("decode s", "decode_s", "{:.3f}"),
    ("us/latent", "decode_us", "{:.2f}"),
    ("peak MiB", "peak_mb", "{:.0f}"),
    ("bytes/latent", "peak_bytes", "{:.0f}"),
)
"""Title, key and format."""


def scaling_rows(
    contenders: Sequence[Contender],
    sides: Sequence[int] = SIDES,
    point: float = POINT,
    seed: int = 0,
    repeat: int = 1,
    on_row: Callable[[Record], None] = lambda row: None,
) -> list[Record]:
    """A row for each contender and side of a square picture, in pixels.

    Beside what ``bench_levels`` gives: ``latents``, ``encode_us`` and ``decode_us`` microseconds a
    latent, ``peak_bytes`` by how much the process grew at most while encoding, a latent.
    """
    rows = []
    for contender in contenders:
        for side in sides:
            row: Record = {"sampler": contender.label, "preset": contender.name, "side": side}
            samplers = contender.codec.samplers()
            levels = synthetic_levels(point, list(samplers), seed, side, side)
            latents = row["latents"] = sum(level.d.size for level in levels)
            row |= bench_levels(samplers, levels, seed, repeat)
            row["encode_us"], row["decode_us"] = (
                1e6 * row[key] / latents for key in ("encode_s", "decode_s")
            )
            peak = row["peak_mb"]
            row["peak_bytes"] = None if peak is None else 2**20 * peak / latents
            rows.append(row)
            on_row(row)
    return rows


def scaling_table(rows: Sequence[Record]) -> Table:
    """The rows as a table for a terminal, a dash for what isn't known."""
    from rich.table import Table

    grid = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("preset", "sampler"):
        grid.add_column(title, no_wrap=True)
    for title, _, _ in _COLUMNS:
        grid.add_column(title, justify="right", no_wrap=True)
    for row in rows:
        cells = ["-" if row[key] is None else form.format(row[key]) for _, key, form in _COLUMNS]
        grid.add_row(row["preset"], row["sampler"], *cells)
    return grid


def scaling_json(rows: Sequence[Record]) -> bytes:
    """``{"sizes": [...]}``, one row a sampler and side."""
    return msgspec.json.format(msgspec.json.encode({"sizes": rows}), indent=2) + b"\n"
