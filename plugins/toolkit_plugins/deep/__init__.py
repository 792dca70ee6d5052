"""A deep ladder: many levels at several strides, begun as a transform codec."""

from collections.abc import Iterable

from toolkit.plugin.hookspecs import hookimpl
from toolkit.plugin.specs import EntropyModelSpec


@hookimpl
def toolkit_entropy_models() -> Iterable[EntropyModelSpec]:
    yield EntropyModelSpec(
        "deep-pln",
        "residual ladder of eight levels at strides 32, 16 and 8, conditioned on the rate",
        "toolkit_plugins.deep.model:DeepPLN",
        reference="Flamich 2019; ladders: Duan et al. 2023, arXiv:2208.13056",
    )
    yield EntropyModelSpec(
        "deep-pln-quantized",
        "the deep ladder with its latents rounded and entropy-coded, for comparison",
        "toolkit_plugins.deep.quantized:QuantizedDeepPLN",
        reference="Minnen and Singh 2020, arXiv:2007.08739",
        codec="toolkit_plugins.deep.quantized:QuantizedLadderCodec",
        codec_needs=("python:constriction",),
    )
