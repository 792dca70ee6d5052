"""Results for other tools: CSV, and tables as CompressAI publishes and plots them."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from toolkit.files import write_bytes_atomically
from toolkit_evaluation.measure import Row
from toolkit_evaluation.table import Table

_COMPRESSAI = {
    "psnr": "psnr-rgb",
    "ms_ssim": "ms-ssim-rgb",
    "bpp": "bpp",
    "encode_s": "encoding_time",
    "decode_s": "decoding_time",
}


def export(table: Table, folder: Path) -> list[Path]:
    """Write ``rows.csv``, ``means.csv`` and ``compressai/CODEC.json``; return their paths."""
    (folder / "compressai").mkdir(parents=True, exist_ok=True)
    files = {
        folder / "rows.csv": csv_of(table.rows),
        folder / "means.csv": csv_of(table.means),
    }
    for codec in table.codecs:
        plain = msgspec.json.encode(compressai_table(table, codec))
        path = folder / "compressai" / f"{codec}.json"
        files[path] = msgspec.json.format(plain, indent=2) + b"\n"
    for path, data in files.items():
        write_bytes_atomically(path, data)
    return list(files)


def csv_of(rows: Iterable[Row]) -> bytes:
    """Rows as CSV (RFC 4180, UTF-8); parts of a file get a column each, None is empty."""
    flat = [_flat(row) for row in rows]
    columns = list(dict.fromkeys(name for row in flat for name in row))
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns)
    writer.writeheader()
    writer.writerows(flat)
    return text.getvalue().encode()


def _flat(row: Row) -> Row:
    result: Row = {}
    for name, value in row.items():
        if isinstance(value, dict):
            result.update({f"{name}.{inner}": v for inner, v in value.items()})
        else:
            result[name] = value
    return result


def compressai_table(table: Table, codec: str) -> dict[str, Any]:
    """A codec's means in the form of CompressAI's result files, by rate.

    A metric that some point lacks is left out: their plot tool takes no gaps.
    """
    means = [mean for mean in table.means if mean["codec"] == codec and mean["images"]]
    means.sort(key=lambda mean: float(mean["bpp"]))
    columns = {theirs: [mean[ours] for mean in means] for ours, theirs in _COMPRESSAI.items()}
    return {
        "name": codec,
        "description": f"mean of {max((mean['images'] for mean in means), default=0)} images",
        "results": {name: values for name, values in columns.items() if None not in values},
    }
