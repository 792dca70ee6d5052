"""The built-in coded samplers, one small file each."""

from collections.abc import Iterable

from toolkit.plugin.hookspecs import hookimpl
from toolkit.plugin.specs import SamplerSpec


@hookimpl
def toolkit_samplers() -> Iterable[SamplerSpec]:
    yield SamplerSpec(
        "trellis",
        "Viterbi search over bit strings; values looked up in a shared table",
        "toolkit_plugins.samplers.trellis.sampler:Trellis",
        tag="tc",
        reference="Viterbi and Omura 1974",
    )
    yield SamplerSpec(
        "importance",
        "one of 2^KL draws a block, by its weight",
        "toolkit_plugins.samplers.importance:Importance",
        tag="is",
        reference="Havasi et al. 2019",
    )
    yield SamplerSpec(
        "greedy",
        "a block as a sum of shards, each the best of 2^b draws",
        "toolkit_plugins.samplers.greedy:Greedy",
        tag="gs",
        reference="Flamich 2019",
    )
    yield SamplerSpec(
        "irec",
        "a block as a sum of auxiliary variables, found by beam search",
        "toolkit_plugins.samplers.irec:IREC",
        tag="ir",
        reference="Flamich et al. 2020",
    )
    yield SamplerSpec(
        "ordered",
        "importance sampling by ordered noise, indices entropy-coded",
        "toolkit_plugins.samplers.ordered:Ordered",
        tag="orc",
        reference="Theis and Yosri 2022",
    )
    yield SamplerSpec(
        "poisson",
        "Poisson functional representation, cut off at 2^KL draws and some",
        "toolkit_plugins.samplers.ordered:Poisson",
        tag="pfr",
        reference="Li and El Gamal 2018",
    )
    yield SamplerSpec(
        "rejection",
        "exact draws, each latent by itself, at most 2^B tries",
        "toolkit_plugins.samplers.exact.rejection:Rejection",
        tag="rej",
        reference="Harsha et al. 2007",
    )
    yield SamplerSpec(
        "harsha",
        "exact draws, each latent by itself, without a budget; numbers in Elias's delta code",
        "toolkit_plugins.samplers.exact.harsha:Harsha",
        tag="har",
        reference="Harsha et al. 2007",
    )
    yield SamplerSpec(
        "astar",
        "exact draws of blocks by A* coding, the Poisson functional representation",
        "toolkit_plugins.samplers.exact.astar:AStar",
        tag="ast",
        reference="Li and El Gamal 2018; Flamich, Markou and Hernandez-Lobato 2022",
    )
