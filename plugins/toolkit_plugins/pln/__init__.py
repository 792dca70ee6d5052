"""Quantization-free coding with a probabilistic ladder network (PLN)."""

from collections.abc import Iterable

from toolkit.plugin.hookspecs import hookimpl
from toolkit.plugin.specs import CodecSpec, EntropyModelSpec, Knob

REFERENCE = "Flamich 2019, Compression without Quantization"


@hookimpl
def toolkit_codecs() -> Iterable[CodecSpec]:
    yield CodecSpec(
        "pln",
        "probabilistic ladder network; each level coded by a sampler of your choice",
        "toolkit_plugins.pln.codec:PLNCodec",
        reference=REFERENCE,
        knob=Knob("rate", 0.0, 1.0),
    )


@hookimpl
def toolkit_entropy_models() -> Iterable[EntropyModelSpec]:
    yield EntropyModelSpec(
        "pln",
        "two-level probabilistic ladder network, conditioned on the rate",
        "toolkit_plugins.pln.model:PLN",
        reference=REFERENCE,
    )
