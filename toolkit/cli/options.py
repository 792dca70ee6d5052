"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from toolkit.device import Device
from toolkit.errors import UsageError

if TYPE_CHECKING:
    from toolkit.plugin.presets import Preset, Registry

OptionList = Annotated[
    list[str] | None,
    typer.Option(
        "-o",
        "--option",
        metavar="[PRESET:]KEY.PATH=VALUE",
        help="Override an option of the preset(s); may be repeated.",
    ),
]
ListedName = Annotated[
    str | None, typer.Argument(metavar="[NAME]", help="Only this one; default: all.")
]
ShowOptions = Annotated[
    bool, typer.Option("--options", help="Its options: types, ranges, defaults.")
]
JsonFlag = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
DeviceOption = Annotated[
    Device,
    typer.Option(
        help="Where networks run; auto takes a GPU where there is one. Any decodes any file."
    ),
]
Threads = Annotated[int | None, typer.Option(min=1, help="Threads of each process.")]
OutputFolder = Annotated[
    Path | None,
    typer.Option(metavar="FOLDER", help="Write all outputs there; all arguments are inputs then."),
]
Workers = Annotated[int, typer.Option(min=1, help="Processes that share the inputs of --out.")]
Force = Annotated[
    bool, typer.Option("--force", "-f", help="Replace the output where it is there already.")
]
Deterministic = Annotated[
    bool,
    typer.Option(
        "--deterministic",
        help="Code in float32 with fixed kernels: the same bytes on every machine of one type.",
    ),
]
Strip = Annotated[
    bool, typer.Option("--strip", help="Leave out EXIF, colour profile and resolution.")
]
MaxPixels = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Refuse larger pictures; one given is believed of any file, however short.",
    ),
]
MaxMemory = Annotated[
    str | None,
    typer.Option(metavar="SIZE", help="Memory that the program may take, like 2G or 500M."),
]


def presets_with_options(
    registry: Registry, names: Iterable[str], options: Iterable[str] | None
) -> list[Preset]:
    """The presets ``names``, commas between several, with the overrides that are meant for them.

    ``KEY=VALUE`` is for every preset, ``PRESET:KEY=VALUE`` for one. Raises UsageError for an
    override that names a preset that isn't among them.
    """
    from toolkit.plugin.presets import parse_override

    names = split_names(names)
    overrides: dict[str, dict[str, Any]] = {name: {} for name in names}
    for text in options or ():
        key, value = parse_override(text)
        head, colon, tail = key.partition(":")
        if colon and head not in overrides:
            raise UsageError(f"'{text}': preset '{head}' isn't among {', '.join(names)}")
        for name in [head] if colon else names:
            overrides[name][tail if colon else key] = value
    return [registry.preset(name, overrides[name]) for name in names]


def split_names(texts: Iterable[str]) -> list[str]:
    """The names in ``a,b`` and ``c``, each once."""
    return list(dict.fromkeys(name.strip() for text in texts for name in text.split(",")))


def set_limits(max_pixels: int | None, max_memory: str | None) -> None:
    """Keep these limits until the command ends."""
    from toolkit.cli import session
    from toolkit.format.limits import limited, parse_size

    memory = None if max_memory is None else parse_size(max_memory)
    session().resources.enter_context(limited(max_pixels, memory))
