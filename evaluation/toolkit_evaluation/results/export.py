"""Results for other tools: CSV, CompressAI's plot tool, Codec-Compare's viewer."""

from __future__ import annotations

import csv
import hashlib
import io
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from toolkit.format.files import write_bytes_atomically
from toolkit_evaluation.results.row import Row
from toolkit_evaluation.results.table import Table

Plain = dict[str, Any]

_FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+,=-]{0,99}")
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""What spreadsheets take for the beginning of a formula, full-width forms included."""
_COMPRESSAI = {
    "psnr": "psnr-rgb",
    "ms_ssim": "ms-ssim-rgb",
    "bpp": "bpp",
    "encode_s": "encoding_time",
    "decode_s": "decoding_time",
}
_CODEC_COMPARE = {
    "image": ("original_name", "Original image"),
    "point_label": ("quality", "Point of the curve, or target"),
    "psnr": ("psnr", "Peak signal-to-noise ratio, 8-bit RGB, dB"),
    "ms_ssim": ("msssim", "Multi-scale structural similarity, RGB"),
    "encode_s": ("encoding_time", "Encoding duration in seconds"),
    "decode_s": ("decoding_time", "Decoding duration in seconds"),
    "bytes": ("encoded_size", "Size of the encoded image file in bytes"),
    "bpp": ("bpp", "Encoded bits per pixel"),
    "width": ("width", "Pixel columns of the image"),
    "height": ("height", "Pixel rows of the image"),
}


def export(table: Table, folder: Path, run: Mapping[str, Any] | None = None) -> list[Path]:
    """Write ``rows.csv``, ``means.csv``, ``compressai/CODEC.json`` and, for Codec-Compare,
    ``codec-compare/CODEC.json`` with their list; return the paths. ``run`` is ``run.json``."""
    for name in ("compressai", "codec-compare"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    files = {
        folder / "rows.csv": csv_of(row.to_dict() for row in table.rows),
        folder / "means.csv": csv_of(mean.to_dict() for mean in table.means),
    }
    names = {codec: f"{file_name(codec)}.json" for codec in table.codecs}
    for codec, name in names.items():
        files[folder / "compressai" / name] = _json(compressai_table(table, codec))
        files[folder / "codec-compare" / name] = _json(codec_compare_batch(table, codec, run or {}))
    files[folder / "codec-compare" / "batches.json"] = _json(
        [[f"codec-compare/{name}"] for name in names.values()]
    )
    for path, data in files.items():
        write_bytes_atomically(path, data)
    return list(files)


def file_name(name: str) -> str:
    """A codec's name as that of a file: as it is where nothing can go wrong with it, else what is
    left of it and a hash. Names in the results of others may be anything."""
    if _FILE_NAME.fullmatch(name) and name != "batches":
        return name
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:12]
    return f"{re.sub('[^A-Za-z0-9_-]+', '-', name)[:40]}-{digest}"


def _json(value: Any) -> bytes:
    return msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n"


def csv_of(rows: Iterable[Plain]) -> bytes:
    """Rows as CSV (RFC 4180, UTF-8); parts of a file get a column each, None is empty.

    Text that a spreadsheet would run as a formula has an apostrophe before it.
    """
    flat = [{_cell(name): _cell(value) for name, value in _flat(row).items()} for row in rows]
    columns = list(dict.fromkeys(name for row in flat for name in row))
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns)
    writer.writeheader()
    writer.writerows(flat)
    return text.getvalue().encode("utf-8", "backslashreplace")


def _cell(value: Any) -> Any:
    if isinstance(value, str) and value.startswith(_FORMULA):
        return f"'{value}"
    return value


def _flat(row: Plain) -> Plain:
    result: Plain = {}
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
    means = [mean for mean in table.means if mean.codec == codec and mean.images]
    means.sort(key=lambda mean: mean.value("bpp") or 0.0)
    columns = {theirs: [mean.value(ours) for mean in means] for ours, theirs in _COMPRESSAI.items()}
    return {
        "name": codec,
        "description": f"mean of {max((mean.images for mean in means), default=0)} images",
        "results": {name: values for name, values in columns.items() if None not in values},
    }


def codec_compare_batch(table: Table, codec: str, run: Mapping[str, Any]) -> dict[str, Any]:
    """A codec's rows as a batch of Codec-Compare (github.com/webmproject/codec-compare), which
    matches single images of nearly equal quality instead of averaging.

    A figure that some row lacks is left out, as are failed rows.
    """
    good = [row for row in table.rows if row.codec == codec and row.ok]
    rows = [{**row.to_dict(), "point_label": row.target or row.point} for row in good]
    known = [name for name in _CODEC_COMPARE if all(row.get(name) is not None for row in rows)]
    constants = {
        "name": ("Name of this experiment", codec),
        "codec": ("Name of the codec used to generate this data", codec),
        "version": ("Identity of options, weights and libraries", _version(good)),
        "time": ("Timestamp of when this data was generated", str(run.get("started", ""))),
    }
    return {
        "constant_descriptions": [{name: text} for name, (text, _) in constants.items()],
        "constant_values": [value for _, value in constants.values()],
        "field_descriptions": [dict([_CODEC_COMPARE[name]]) for name in known],
        "field_values": [[row[name] for name in known] for row in rows],
    }


def _version(rows: list[Row]) -> str:
    return f"{rows[0].preset_identity}-{rows[0].codec_identity}" if rows else ""
