"""Choosing a sampler by options, and saying in a file which one was chosen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from toolkit.errors import UnknownName, UsageError
from toolkit.format.errors import BadFile, BadStream, UnknownPlugin
from toolkit.format.varint import Fields, block
from toolkit.options import Options, parse_options, to_mapping
from toolkit.sampling.prior_refinement import Refined

if TYPE_CHECKING:
    from toolkit.plugin.loader import Plugins
    from toolkit.plugin.specs import SamplerSpec
    from toolkit.sampling.contract import Sampler

_REFINE = -1
"""Place of ``refine`` among a sampler's packed options."""
_MOST_BYTES = 200
"""Packed options are never longer: a name in them is still one of a file."""


@dataclass(frozen=True)
class SamplerChoice:
    """A sampler with its options."""

    spec: SamplerSpec
    options: Options
    refine: bool = False
    """Whether the prior is refined for each image (``toolkit.sampling.prior_refinement``)."""

    @classmethod
    def from_options(cls, plugins: Plugins, values: Mapping[str, Any], where: str) -> SamplerChoice:
        """From ``{sampler: NAME, refine: true or false, ...its options}``.

        Raises UsageError, saying ``where``.
        """
        rest = dict(values)
        name = rest.pop("sampler", None)
        if not isinstance(name, str):
            raise UsageError(f"{where}: needs 'sampler', the name of one")
        refine = rest.pop("refine", False)
        if not isinstance(refine, bool):
            raise UsageError(f"{where}: 'refine' is true or false, not {refine!r}")
        spec = plugins.sampler(name)
        return cls(spec, parse_options(spec.loaded.options_class, rest, where), refine)

    def build(self) -> Sampler:
        """The sampler itself."""
        sampler: Sampler = self.spec.loaded(self.options)
        return Refined(sampler) if self.refine else sampler

    def config(self) -> dict[str, Any]:
        """Name and all options, defaults included."""
        refine = {"refine": True} if self.refine else {}
        return {"sampler": self.spec.name, **refine, **to_mapping(self.options)}

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
    defaults = to_mapping(type(choice.options)())
    fields = type(choice.options).__struct_fields__
    values = to_mapping(choice.options)
    changed = {i: values[key] for i, key in enumerate(fields) if values[key] != defaults[key]}
    if choice.refine:
        changed[_REFINE] = True
    return block(msgspec.msgpack.encode(changed) if changed else b"")


def read_choice(plugins: Plugins, tag: str, data: bytes) -> tuple[SamplerChoice, bytes]:
    """The sampler that files name ``tag``, and the rest of its stream after its options.

    Raises UnknownPlugin for a tag that nobody has registered, BadStream for options that
    no encoder wrote.
    """
    try:
        spec = plugins.sampler_of_tag(tag)
    except UnknownName as error:
        raise UnknownPlugin(f"the file needs a sampler that isn't installed: {error}") from None
    cls = spec.loaded.options_class
    fields = Fields(data, 0, len(data))
    try:
        packed = fields.bytes(fields.number())
        if len(packed) > _MOST_BYTES:
            raise ValueError(f"{len(packed)} bytes of them")
        changed = msgspec.msgpack.decode(packed, type=dict[int, Any]) if packed else {}
        refine = changed.pop(_REFINE, False) is True
        if min(changed, default=0) < 0:
            raise IndexError("no option stands there")
        values = {cls.__struct_fields__[i]: value for i, value in changed.items()}
        options = parse_options(cls, values, tag)
    except (
        msgspec.MsgspecError, IndexError, ValueError, RecursionError, BadFile, UsageError
    ) as error:  # fmt: skip
        text = " ".join(str(error).split())[:200]
        raise BadStream(f"sampler '{tag}': options can't be read ({text})") from None
    return SamplerChoice(spec, options, refine), data[fields.at :]
