"""A hyperprior trained as the PLN was; its latents rounded, dithered or sampled."""

from collections.abc import Iterable

from toolkit.plugin.hookspecs import hookimpl
from toolkit.plugin.specs import EntropyModelSpec


@hookimpl
def toolkit_entropy_models() -> Iterable[EntropyModelSpec]:
    yield EntropyModelSpec(
        "hyperprior",
        "mean and scale hyperprior, conditioned on the rate; latents rounded, dithered or sampled",
        "toolkit_plugins.hyperprior.model:Hyperprior",
        needs=("python:compressai",),
        reference="Minnen et al. 2018, arXiv:1809.02736",
        codec="toolkit_plugins.hyperprior.codec:HyperpriorCodec",
        codec_needs=("python:constriction",),
    )
