"""Samplers' options in files: damaged ones are one named error, whatever they hold."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from toolkit.format.errors import BadStream
from toolkit.format.varint import block
from toolkit.options import parse_options
from toolkit.plugin.loader import load_plugins
from toolkit.sampling.choice import CommonOptions, SamplerChoice, pack_choice, read_choice

PLUGINS = load_plugins()
SAMPLERS = list(PLUGINS.samplers.values())
ODD = {
    "bad UTF-8": b"\x81\x00\xa2\xff\xfe",
    "deep": b"\x81\x00" + b"\x91" * 150 + b"\x00",
    "deeper": b"\x81\x00" + b"\x91" * 60_000 + b"\x00",
    "negative place": msgspec.msgpack.encode({-2: 1}),
    "far place": msgspec.msgpack.encode({2**60: 1}),
    "long name": msgspec.msgpack.encode({0: "a" * 50_000}),
    "extension": b"\x81\x00\xc7\x01\x05\x00",
    "not a number": msgspec.msgpack.encode({0: float("nan")}),
    "long key": msgspec.msgpack.encode({0: {"k" * 150: 1}}),
    "no mapping": msgspec.msgpack.encode([1, 2]),
    "cut": b"\x82\x00",
}


@pytest.mark.parametrize("spec", SAMPLERS, ids=lambda spec: spec.name)
@pytest.mark.parametrize("packed", ODD.values(), ids=ODD)
def test_options_that_no_encoder_wrote(spec, packed):
    for place in range(len(spec.loaded.options_class.__struct_fields__)):
        moved = packed[:1] + bytes([place]) + packed[2:] if packed[1:2] == b"\x00" else packed
        with pytest.raises(BadStream, match=rf"^sampler '{spec.tag}': options[^\n]{{1,300}}$"):
            read_choice(PLUGINS, spec.tag, block(moved))


@settings(deadline=None, max_examples=300)
@given(st.sampled_from(SAMPLERS), st.binary(max_size=60))
def test_any_bytes_are_options_or_a_named_error(spec, data):
    try:
        choice, rest = read_choice(PLUGINS, spec.tag, data)
    except BadStream:
        return
    assert choice.spec is spec
    assert data.endswith(rest)


@pytest.mark.parametrize("refine", [False, True])
def test_what_was_packed_is_read(refine):
    for spec in SAMPLERS:
        options = parse_options(spec.loaded.options_class, {}, "")
        choice = SamplerChoice(spec, options, CommonOptions(refine))
        again, rest = read_choice(PLUGINS, spec.tag, pack_choice(choice) + b"rest")
        assert (again, rest) == (choice, b"rest")
    long = {"sampler": "rejection", "counts": "a" * 100}
    choice = SamplerChoice.from_options(PLUGINS, long, "")
    assert read_choice(PLUGINS, "rej", pack_choice(choice))[0] == choice
