"""The built-in coded samplers, one small file each."""

from collections.abc import Iterable

from toolkit.hookspecs import hookimpl
from toolkit.specs import SamplerSpec


@hookimpl
def toolkit_samplers() -> Iterable[SamplerSpec]:
    yield SamplerSpec(
        "trellis",
        "Viterbi search over bit strings; values looked up in a shared table",
        "toolkit_plugins.samplers.trellis:Trellis",
        tag="tr",
        reference="Viterbi and Omura 1974",
    )
