"""Choosing a sampler by options, and saying in a file which one was chosen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from toolkit.errors import UnknownName, UsageError
from toolkit.format.errors import BadFile, BadStream, UnknownPlugin
from toolkit.format.varint import Fields, block
from toolkit.options import Options, parse_options, to_mapping
from toolkit.sampling.prior_refinement import refine_prior

if TYPE_CHECKING:
    from toolkit.plugin.loader import Plugins
    from toolkit.plugin.specs import SamplerSpec
    from toolkit.sampling.contract import Sampler

T = TypeVar("T", bound=Options)
_MOST_BYTES = 200
"""Packed options are never longer: a name in them is still one of a file."""


class CommonOptions(Options, frozen=True):
    """Options that every sampler has beside its own, carried out before and behind it.

    In files they stand below the sampler's own, at places -1, -2 and so on; for their order and
    defaults the same holds.
    """

    refine: bool = False
    """Prior refinement: whether a correction of the prior is sent for each image
    (``toolkit.sampling.prior_refinement``)."""


@dataclass(frozen=True)
class SamplerChoice:
    """A sampler with its options."""

    spec: SamplerSpec
    options: Options
    common: CommonOptions = field(default_factory=CommonOptions)

    @classmethod
    def from_options(cls, plugins: Plugins, values: Mapping[str, Any], where: str) -> SamplerChoice:
        """From ``{sampler: NAME, refine: true or false, ...its options}``.

        Raises UsageError, saying ``where``.
        """
        rest = dict(values)
        name = rest.pop("sampler", None)
        if not isinstance(name, str):
            raise UsageError(f"{where}: needs 'sampler', the name of one")
        spec = plugins.sampler(name)
        common = {key: rest.pop(key) for key in CommonOptions.__struct_fields__ if key in rest}
        return cls(
            spec,
            parse_options(spec.loaded.options_class, rest, where),
            parse_options(CommonOptions, common, where),
        )

    def build(self) -> Sampler:
        """The sampler itself."""
        sampler: Sampler = self.spec.loaded(self.options)
        return refine_prior(sampler) if self.common.refine else sampler

    def config(self) -> dict[str, Any]:
        """Name and all options, defaults included; of the common ones, those that are set."""
        common = {key: value for key, (_, value) in _changed(self.common).items()}
        return {"sampler": self.spec.name, **common, **to_mapping(self.options)}

    def identity(self) -> dict[str, Any]:
        """Name, options, and what else a stream depends on. Raises what the sampler does for
        tables that aren't there."""
        return {**self.config(), **self.build().identity()}


def pack_choice(choice: SamplerChoice) -> bytes:
    """The options that differ from the defaults, MessagePack, keyed by their place.

    One byte for a sampler that runs by its defaults. So the order and the defaults of a
    released option class never change; new options go last, with a default that means
    what was done before. Golden files hold this.
    """
    own, common = _changed(choice.options), _changed(choice.common)
    packed = dict(own.values())
    packed |= {-1 - place: value for place, value in common.values()}
    return block(msgspec.msgpack.encode(packed) if packed else b"")


def _changed(options: Options) -> dict[str, tuple[int, Any]]:
    """Names of the options that differ from the defaults -> their places and values."""
    defaults, values = to_mapping(type(options)()), to_mapping(options)
    return {
        key: (place, values[key])
        for place, key in enumerate(type(options).__struct_fields__)
        if values[key] != defaults[key]
    }


def read_choice(plugins: Plugins, tag: str, data: bytes) -> tuple[SamplerChoice, bytes]:
    """The sampler that files name ``tag``, and the rest of its stream after its options.

    Raises UnknownPlugin for a tag that nobody has registered, BadStream for options that
    no encoder wrote.
    """
    try:
        spec = plugins.sampler_of_tag(tag)
    except UnknownName as error:
        raise UnknownPlugin(f"the file needs a sampler that isn't installed: {error}") from None
    fields = Fields(data, 0, len(data))
    try:
        packed = fields.bytes(fields.number())
        if len(packed) > _MOST_BYTES:
            raise ValueError(f"{len(packed)} bytes of them")
        changed = msgspec.msgpack.decode(packed, type=dict[int, Any]) if packed else {}
        own = {place: value for place, value in changed.items() if place >= 0}
        common = {-1 - place: value for place, value in changed.items() if place < 0}
        choice = SamplerChoice(
            spec,
            _from_places(spec.loaded.options_class, own, tag),
            _from_places(CommonOptions, common, tag),
        )
    except (
        msgspec.MsgspecError, IndexError, ValueError, RecursionError, BadFile, UsageError
    ) as error:  # fmt: skip
        text = " ".join(str(error).split())[:200]
        raise BadStream(f"sampler '{tag}': options can't be read ({text})") from None
    return choice, data[fields.at :]


def _from_places(cls: type[T], values: Mapping[int, Any], where: str) -> T:
    """Options from their places; raises IndexError for one that there isn't."""
    return parse_options(cls, {cls.__struct_fields__[i]: v for i, v in values.items()}, where)
