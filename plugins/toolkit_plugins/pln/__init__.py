"""The thesis's models: a one-level VAE and the two-level probabilistic ladder network (PLN)."""

from collections.abc import Iterable

from toolkit.plugin.hookspecs import hookimpl
from toolkit.plugin.specs import EntropyModelSpec

REFERENCE = "Flamich 2019, Compression without Quantization"


@hookimpl
def toolkit_entropy_models() -> Iterable[EntropyModelSpec]:
    yield EntropyModelSpec(
        "pln",
        "two-level probabilistic ladder network, conditioned on the rate",
        "toolkit_plugins.pln.model:PLN",
        reference=REFERENCE,
    )
    yield EntropyModelSpec(
        "vae",
        "one-level variational auto-encoder, the thesis's baseline, conditioned on the rate",
        "toolkit_plugins.pln.vae:VAE",
        reference=REFERENCE,
    )
