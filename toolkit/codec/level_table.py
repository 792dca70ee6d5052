"""What a file says of its levels: sampler and length of each, top first.

::

    parameters    rate (2 bytes), seed (1), then of each level
                      tag of its sampler: varint length, text; length 0: as of the level above
                      its options, if it has a tag: varint length, MessagePack
                      bytes of its stream and 1: varint; 0: none, it is at its prior's mean
    stream "z"    the streams, one after another

Files of stream version 1 have a stream for each level in the container instead, named by the
level's number and the sampler's tag, which begins with the options.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from toolkit.format.container import BadStream, Container, Stream
from toolkit.format.errors import BadFile, UnknownPlugin
from toolkit.format.varint import Fields, varint
from toolkit.sampling.choice import SamplerChoice, pack_choice, read_choice

if TYPE_CHECKING:
    from toolkit.plugin.loader import Plugins

RATE_STEPS = 65535
STREAM = "z"
_HEAD = struct.Struct("<HB")  # rate in units of 1 / RATE_STEPS, seed
_STREAM_1 = re.compile(r"([1-9][0-9]?)(.+)")
_LONGEST_TAG = 40


@dataclass(frozen=True)
class LevelEntry:
    """A level in a file."""

    choice: SamplerChoice
    data: bytes | None
    """Its stream; None where the level is at its prior's mean."""


@dataclass(frozen=True)
class LevelTable:
    """All that a file says of a ladder; levels top first."""

    rate: float
    seed: int
    levels: tuple[LevelEntry, ...]


def pack_table(
    point: float, seed: int, choices: Sequence[SamplerChoice], data: Sequence[bytes | None]
) -> tuple[bytes, Stream]:
    """The parameters and the stream of a file."""
    parts = [_HEAD.pack(round(point * RATE_STEPS), seed)]
    above: SamplerChoice | None = None
    for choice, stream in zip(choices, data, strict=True):
        if choice == above:
            parts.append(varint(0))
        else:
            tag = choice.spec.tag.encode()
            parts += [varint(len(tag)), tag, pack_choice(choice)]
        parts.append(varint(0 if stream is None else len(stream) + 1))
        above = choice
    return b"".join(parts), Stream(STREAM, b"".join(stream or b"" for stream in data))


def read_table(plugins: Plugins, container: Container, partial: bool = False) -> LevelTable:
    """The table of a container, whichever its stream version; of a file that was cut short
    (``partial``) with the levels that are whole.

    Raises UnknownPlugin for a sampler that nobody has registered, BadStream for what no encoder
    wrote.
    """
    if len(container.parameters) < _HEAD.size:
        raise BadStream(f"codec '{container.codec}': parameters of the wrong size")
    steps, seed = _HEAD.unpack_from(container.parameters)
    if container.stream_version == 1:
        levels = _read_1(plugins, container)
    else:
        levels = _read_2(plugins, container, partial)
    return LevelTable(steps / RATE_STEPS, seed, tuple(levels))


def _read_1(plugins: Plugins, container: Container) -> list[LevelEntry]:
    name = f"codec '{container.codec}'"
    if len(container.parameters) != _HEAD.size:
        raise BadStream(f"{name}: parameters of the wrong size")
    levels = []
    for index, stream in enumerate(container.streams):
        match, number = _STREAM_1.fullmatch(stream.name), len(container.streams) - index
        if match is None or int(match[1]) != number:
            raise BadStream(f"{name}: stream '{stream.name}' where level{number} should be")
        levels.append(LevelEntry(*read_choice(plugins, match[2], stream.data)))
    return levels


def _read_2(plugins: Plugins, container: Container, partial: bool) -> list[LevelEntry]:
    name = f"codec '{container.codec}'"
    if [stream.name for stream in container.streams] != [STREAM]:
        raise BadStream(f"{name}: one stream expected, '{STREAM}'")
    data, at = container.streams[0].data, 0
    levels: list[LevelEntry] = []
    fields = Fields(container.parameters, _HEAD.size, len(container.parameters))
    try:
        while fields.at < len(container.parameters):
            tag = fields.bytes(min(fields.number(), _LONGEST_TAG)).decode("ascii")
            if tag:
                choice, rest = read_choice(plugins, tag, container.parameters[fields.at :])
                fields.at = len(container.parameters) - len(rest)
            elif levels:
                choice = levels[-1].choice
            else:
                raise BadStream(f"{name}: the first level has no sampler")
            length = fields.number() - 1
            if partial and at + length > len(data):
                return levels
            levels.append(LevelEntry(choice, None if length < 0 else data[at : at + length]))
            at += max(0, length)
    except (BadStream, UnknownPlugin):
        raise
    except (BadFile, UnicodeDecodeError) as error:
        raise BadStream(f"{name}: its table of levels can't be read ({error})") from None
    if at != len(data):
        raise BadStream(f"{name}: {len(data)} bytes of levels, where its table says {at}")
    return levels


def names_of(count: int) -> list[str]:
    """Names of so many levels, top first: ``level1`` is nearest the image."""
    return [f"level{count - index}" for index in range(count)]
