"""A hyperprior trained as the PLN was; its latents rounded, dithered or sampled."""

from collections.abc import Iterable

from toolkit.plugin.hookspecs import hookimpl
from toolkit.plugin.specs import CodecSpec, EntropyModelSpec, Knob


@hookimpl
def toolkit_codecs() -> Iterable[CodecSpec]:
    yield CodecSpec(
        "hyperprior",
        "hyperprior trained as the PLN was; its latents rounded, dithered or sampled",
        "toolkit_plugins.hyperprior.codec:HyperpriorCodec",
        needs=("python:constriction",),
        reference="Minnen et al. 2018, arXiv:1809.02736",
        knob=Knob("rate", 0.0, 1.0),
        state="toolkit_plugins.hyperprior.shipped:state",
    )


@hookimpl
def toolkit_entropy_models() -> Iterable[EntropyModelSpec]:
    yield EntropyModelSpec(
        "hyperprior",
        "mean and scale hyperprior, conditioned on the rate",
        "toolkit_plugins.hyperprior.model:Hyperprior",
        needs=("python:compressai",),
        reference="Minnen et al. 2018, arXiv:1809.02736",
    )
