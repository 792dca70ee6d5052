"""How codecs, files, pictures and models look in a prompt and in a notebook."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image
from random_models import picture

import toolkit
from toolkit.codec.base import Decoded
from toolkit.plugin.loader import load_plugins

FAST = {"refinement_steps": 0, "levels.default.nu": 8}


def test_a_codec_shows_its_options() -> None:
    assert repr(toolkit.load("jpeg")) == "<codec 'jpeg'>"
    assert repr(toolkit.load("jpeg", {"progressive": True})) == "<codec 'jpeg': progressive=True>"
    html = toolkit.load("pln", {"weights": "<b>.safetensors", "seed": 7})._repr_html_()
    assert "codec &#x27;pln&#x27;:" in html
    assert ">seed</td>" in html
    assert ">7</td>" in html
    assert "<b>" not in html


def test_a_file_shows_what_its_bits_are_for() -> None:
    codec = toolkit.load("pln", FAST)
    encoded = codec.encode(picture(64, 96), 0.5)
    size = len(encoded.data)
    assert repr(encoded).startswith(f"Encoded({size:,} bytes: header ")
    assert "level1" in repr(encoded)
    assert len(repr(encoded)) < 200
    html = encoded._repr_html_()
    assert html.count("<tr>") == 1 + len(encoded.parts)
    assert f">{encoded.kl_bits['level1'] / 8:,.0f}</td>" in html
    plain = toolkit.load("jpeg").encode(picture(64, 96), 50)
    assert repr(plain) == f"Encoded({len(plain.data):,} bytes)"


def test_a_decoded_file_shows_its_picture() -> None:
    for channels, mode in ((1, "L"), (3, "RGB"), (4, "RGBA")):
        decoded = Decoded(picture(20, 30, channels=channels))
        assert repr(decoded) == f"Decoded(30x20 {mode})"
        shown = Image.open(io.BytesIO(decoded._repr_png_()))
        assert shown.mode == mode
        found = np.asarray(shown).reshape(decoded.pixels.shape)
        np.testing.assert_array_equal(found, decoded.pixels)


def test_a_module_is_a_line() -> None:
    model = toolkit.load_model("pln", rate=0.3, options=FAST)
    millions = sum(p.numel() for p in model.parameters()) / 1e6
    assert repr(model) == f"<module 'pln': 2 levels, {millions:.2f} M weights, rate 0.3, on cpu>"


def test_plugins_are_counted() -> None:
    plugins = load_plugins()
    assert f"{len(plugins.samplers)} samplers" in repr(plugins)
