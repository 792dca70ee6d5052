"""The tables of a report, as HTML."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from toolkit_evaluation.report.pictures import Picture
from toolkit_evaluation.results.bdrate import BDRate, matched_pairs
from toolkit_evaluation.results.table import Table
from toolkit_evaluation.results.terminal import percent
from toolkit_evaluation.run.recorded import Recorded, RunPreset

_METRICS = {"psnr": "PSNR", "ms_ssim": "MS-SSIM"}


def grid(titles: Sequence[str], rows: Iterable[Sequence[str]], text_from: int = 99) -> str:
    """A table; columns from ``text_from`` on hold prose. All cells are escaped here."""
    head = "".join(
        f"<th scope=col{' class=text' if at >= text_from else ''}>"
        f'<button type="button" class="sort">{escape(title)}</button></th>'
        for at, title in enumerate(titles)
    )
    body = "".join(
        "<tr>"
        + "".join(
            f"<td{' class=text' if at >= text_from else ''}>{escape(cell)}</td>"
            for at, cell in enumerate(row)
        )
        + "</tr>\n"
        for row in rows
    )
    return (
        '<div class="wide" tabindex="0" role="region" aria-label="table">'
        f"<table><thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table></div>"
    )


def number(value: float | None, digits: int) -> str:
    """A number, or a dash for None."""
    return "-" if value is None else f"{value:.{digits}f}"


def viewer(pictures: Sequence[Picture]) -> str:
    """Two versions of an image under one slider."""
    if not pictures:
        return (
            '<p class="note">No reconstructions were kept. Run the evaluation with '
            "<code>--keep-files FOLDER</code> to see them here.</p>"
        )
    return """<form class="controls viewer-controls" onsubmit="return false">
<label>Image <select id="view-image"></select></label>
<label>Show <select id="view-mode">
<option value="cut">side by side</option><option value="difference">difference, 4 times</option>
<option value="flicker">flicker</option></select></label>
<label>Left <select id="view-left"></select></label>
<label>Right <select id="view-right"></select></label>
<label><input type="checkbox" id="view-match"> right at the rate of left</label>
<span><button type="button" id="zoom-out" aria-label="zoom out">&minus;</button>
<output id="zoom-value">1&times;</output>
<button type="button" id="zoom-in" aria-label="zoom in">+</button></span>
</form>
<div><div id="stage" class="stage" tabindex="0" role="group"
 aria-label="two versions of the image; arrow keys move the cut or the zoomed part, + and - zoom">
<img class="left" alt="" draggable="false"><img class="right" alt="" draggable="false">
<div class="cut"></div></div></div>
<input type="range" id="slider" min="0" max="100" value="50" step="0.5"
 aria-label="cut between left and right">
<p class="captions" id="captions">
<span id="caption-left"></span><span id="caption-right"></span></p>
<p class="note">Drag in the picture to move the cut, double-click to zoom in there, then drag to
move around. Pixels are exact. Flicker shows left and right in turn.</p>"""


def bd_section(deltas: Sequence[BDRate], table: Table) -> str:
    """BD-rates on the means; those by image, and single points of equal quality, folded away."""
    if not deltas:
        return '<p class="note">No codec to compare with: name one with <code>--anchor</code>.</p>'
    note = (
        f"Bits saved (-) or spent (+) against {deltas[0].anchor} at equal quality, over the "
        "qualities that both reach. Where these are under 75 % of all qualities that either "
        "reaches (overlap), read with care."
    )
    means = grid(
        ("on the means", "metric", "Akima", "PCHIP", "qualities", "overlap"),
        (_bd_cells(bd) for bd in deltas if bd.image is None),
    )
    images = grid(
        ("codec", "metric", "Akima", "PCHIP", "qualities", "overlap", "image"),
        ((*_bd_cells(bd), bd.image or "") for bd in deltas if bd.image is not None),
    )
    return (
        f"<p>{escape(note)}</p>{means}<details><summary>By image</summary>{images}</details>"
        + _matched(deltas, table)
    )


def _matched(deltas: Sequence[BDRate], table: Table) -> str:
    anchor = table.means_of(deltas[0].anchor)
    rows = [
        (
            pair.codec + (", theoretical" if pair.theoretical else ""),
            _METRICS[pair.metric],
            f"{pair.quality:.2f} dB",
            f"{pair.anchor_bpp:.4f}",
            f"{pair.bpp:.4f}",
            percent(pair.percent),
        )
        for bd in deltas
        if bd.image is None
        for pair in matched_pairs(anchor, table.means_of(bd.codec), bd.metric, bd.theoretical)
    ]
    titles = ("codec", "metric", "quality", f"{deltas[0].anchor} bpp", "bpp", "difference")
    return (
        "<details><summary>Point by point, at equal quality</summary>"
        f"{grid(titles, rows)}</details>"
    )


def _bd_cells(bd: BDRate) -> tuple[str, ...]:
    return (
        bd.codec + (", theoretical" if bd.theoretical else ""),
        _METRICS[bd.metric],
        percent(bd.akima),
        percent(bd.pchip),
        "-" if bd.overlap is None else f"{bd.overlap[0]:.1f} to {bd.overlap[1]:.1f} dB",
        f"{100 * bd.overlap_share:.0f} %",
    )


def means_section(table: Table) -> str:
    """All means; theoretical columns beside the actual ones."""
    titles = (
        "codec", "point", "images", "failed", "bpp", "PSNR", "MS-SSIM", "theoretical bpp",
        "theoretical PSNR", "theoretical MS-SSIM", "upper levels", *table.metrics,
    )  # fmt: skip
    rows = (
        (
            mean.codec,
            mean.point_label,
            str(mean.images),
            str(mean.failures),
            number(mean.value("bpp"), 4),
            number(mean.value("psnr"), 2),
            number(mean.value("ms_ssim"), 4),
            number(mean.value("theoretical_bpp"), 4),
            number(mean.value("theoretical_psnr"), 2),
            number(mean.value("theoretical_ms_ssim"), 4),
            "-" if (share := mean.value("upper_share")) is None else f"{100 * share:.1f} %",
            *(number(mean.value(name), 4) for name in table.metrics),
        )
        for mean in table.means
    )
    return grid(titles, rows)


def speed_section(table: Table) -> str:
    """Seconds and memory of each codec and point."""
    titles = (
        "codec", "point", "encode s", "network", "coder", "decode s", "network", "coder",
        "encode MiB", "decode MiB",
    )  # fmt: skip
    names = (
        "encode_s", "network_encode_s", "coder_encode_s",
        "decode_s", "network_decode_s", "coder_decode_s",
    )  # fmt: skip
    rows = (
        (
            mean.codec,
            mean.point_label,
            *(number(mean.value(name), 3) for name in names),
            number(mean.value("encode_peak_mib"), 0),
            number(mean.value("decode_peak_mib"), 0),
        )
        for mean in table.means
    )
    note = (
        "Means over the images. Memory is the largest that the process held, libraries "
        "included. The first call of each codec, which loads weights, isn't counted."
    )
    return f"<p>{note}</p>{grid(titles, rows)}"


def failures_section(table: Table) -> str:
    """What failed, and what decoded to something else than the encoder expected."""
    rows = [
        (row.image, row.codec, row.point_label, row.error or "")
        for row in table.failures
    ] + [
        (row.image, row.codec, row.point_label,
         "decoded to other pixels than the encoder's own reconstruction")
        for row in table.rows
        if row.matches_encoder is False
    ]  # fmt: skip
    if not rows:
        checked = sum(row.matches_encoder is True for row in table.rows)
        return (
            f"<p>None. {checked} files of codecs that know what their decoder will show decoded "
            "to exactly that.</p>"
        )
    return grid(("image", "codec", "point", "what happened"), rows, text_from=3)


def origin_section(recorded: Recorded) -> str:
    """Every command that made rows, and the last one's presets and versions."""
    run = recorded.run
    commands = [*run.get("earlier_commands", ()), run.get("command", ())]
    text = "\n".join(shlex.join(words) for words in commands)
    presets = "".join(
        f"<details><summary>Preset {escape(preset.name)}: codec {escape(preset.codec)} at "
        f"{escape(', '.join(map(str, preset.points)))}</summary>"
        f"<pre>{escape(json.dumps(_made_of(preset), indent=2))}</pre></details>"
        for preset in recorded.presets
    )
    versions = json.dumps(run.get("versions", {}), indent=2)
    return (
        f"<pre>{escape(text)}</pre>{presets}"
        f"<details><summary>Versions</summary><pre>{escape(versions)}</pre></details>"
    )


def _made_of(preset: RunPreset) -> dict[str, Any]:
    """Options, and what else results depend on."""
    return {"options": preset.options, "identity": preset.identity}
