"""``toolkit completion``: a script that makes a shell complete commands, options and their values.

The script is made of the commands as they are, so that a completion costs no start of Python;
print it again after installing another version or plugin.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

import typer

from toolkit.cli import session

if TYPE_CHECKING:
    from toolkit.plugin.specs import Spec


class Shell(enum.StrEnum):
    """Shells that scripts are made for."""

    bash = "bash"
    zsh = "zsh"
    fish = "fish"


@dataclass(frozen=True)
class _Option:
    names: tuple[str, ...]
    about: str
    values: tuple[str, ...] = ()
    """What may follow it; empty where that is a file or free."""
    flag: bool = False


@dataclass(frozen=True)
class _Command:
    path: tuple[str, ...]
    """``eval`` or ``bench samplers``; empty for the program itself."""
    about: str
    options: tuple[_Option, ...]
    words: dict[str, str] = field(default_factory=dict)
    """Commands, or values of the first argument, with a line about each."""


def completion(
    shell: Annotated[Shell, typer.Argument(help="The shell to write for.")],
) -> None:
    """Print a completion script; `eval "$(toolkit completion bash)"` in ~/.bashrc takes it."""
    from toolkit.cli import app

    root = typer.main.get_command(app)
    commands = list(_commands(root, (), _known()))
    print(_fish(commands) if shell is Shell.fish else _bash(commands, shell is Shell.zsh))


def _known() -> dict[str, dict[str, str]]:
    """Names that options and arguments take: option or command -> name -> a line about it."""
    here = session()
    presets = [here.registry.preset(name) for name in here.registry.names()]
    plugins = here.plugins
    tables: dict[str, Mapping[str, Spec]] = {
        "codecs": plugins.codecs,
        "models": plugins.entropy_models,
        "samplers": plugins.samplers,
        "metrics": plugins.metrics,
        "--metric": plugins.metrics,
    }
    names = {key: {s.name: s.summary for s in table.values()} for key, table in tables.items()}
    return {**names, "--codec": {preset.name: preset.summary for preset in presets}}


def _commands(
    command: Any, path: tuple[str, ...], known: dict[str, dict[str, str]]
) -> Iterator[_Command]:
    below = getattr(command, "commands", {})
    words = {name: _line(sub) for name, sub in below.items()}
    words = words or (known.get(path[0], {}) if len(path) == 1 else {})
    for argument in (p for p in command.params if p.param_type_name == "argument"):
        words = words or dict.fromkeys(_choices(argument), "")
    options = [_option(p, known) for p in command.params if p.param_type_name == "option"]
    options.append(_Option(("-h", "--help"), "Show the help.", flag=True))
    yield _Command(path, _line(command), tuple(options), words)
    for name, sub in below.items():
        yield from _commands(sub, (*path, name), known)


def _option(parameter: Any, known: dict[str, dict[str, str]]) -> _Option:
    names = (*parameter.opts, *parameter.secondary_opts)
    values = _choices(parameter)
    for name in names:
        values = values or tuple(known.get(name, ()))
    about = " ".join((parameter.help or "").split())
    return _Option(names, about, values, bool(parameter.is_flag))


def _choices(parameter: Any) -> tuple[str, ...]:
    """Values of an enumeration; where they stand depends on Typer's version."""
    descriptor = getattr(parameter, "type_descriptor", None)
    kind = getattr(descriptor, "annotation", None)
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return tuple(str(member.value) for member in kind)
    return tuple(map(str, getattr(getattr(parameter, "type", None), "choices", ())))


def _line(command: Any) -> str:
    text = (command.help or "").strip().split("\n\n")[0]
    return " ".join(text.split())


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "'\\''") + "'"


_BASH_TEMPLATE = """\
_toolkit_completion() {
    local word="${COMP_WORDS[COMP_CWORD]}" before="${COMP_WORDS[COMP_CWORD-1]}" place="" i
    for ((i = 1; i < COMP_CWORD; i++)); do
        case "$place ${COMP_WORDS[i]}" in
        %(paths)s) place="$place ${COMP_WORDS[i]}" ;;
        esac
    done
    COMPREPLY=()
    case "$place $before" in
%(values)s
    esac
    case "$place" in
%(words)s
    esac
    if [ ${#COMPREPLY[@]} -eq 0 ]; then
        COMPREPLY=( $(compgen -f -- "$word") )
    fi
}
complete -o filenames -F _toolkit_completion toolkit"""
_ZSH_HEAD = "autoload -U +X compinit && compinit -u\nautoload -U +X bashcompinit && bashcompinit\n"


def _bash(commands: list[_Command], zsh: bool) -> str:
    """For bash, and for zsh, which can take bash's."""
    reply = 'COMPREPLY=( $(compgen -W "{}" -- "$word") )'
    paths = " | ".join(f'" {" ".join(c.path)}"' for c in commands if c.path)
    values, words = [], []
    for command in commands:
        place = f" {' '.join(command.path)}" if command.path else ""
        for option in command.options:
            case = " | ".join(f'"{place} {name}"' for name in option.names)
            if option.values:
                values.append(f"    {case}) {reply.format(' '.join(option.values))}; return ;;")
            elif not option.flag:
                values.append(f'    {case}) COMPREPLY=( $(compgen -f -- "$word") ); return ;;')
        names = " ".join(name for option in command.options for name in option.names)
        first = " ".join(command.words)
        words.append(
            f'    "{place}") case "$word" in\n'
            f"        -*) {reply.format(names)} ;;\n"
            f"        *) {reply.format(first) if first else ':'} ;;\n"
            f"        esac ;;"
        )
    parts = {"paths": paths, "values": "\n".join(values), "words": "\n".join(words)}
    return (_ZSH_HEAD if zsh else "") + _BASH_TEMPLATE % parts


def _fish(commands: list[_Command]) -> str:
    lines = ["complete -c toolkit -e"]
    top = " ".join(command.path[0] for command in commands if len(command.path) == 1)
    for command in commands:
        if command.path:
            seen = [f"__fish_seen_subcommand_from {name}" for name in command.path]
        else:
            seen = [f"not __fish_seen_subcommand_from {top}"]
        base = f"complete -c toolkit -n {_quoted('; and '.join(seen))}"
        lines += [f"{base} -a {_quoted(w)} -d {_quoted(a)}" for w, a in command.words.items()]
        for option in command.options:
            flags = " ".join(
                f"-l {name[2:]}" if name.startswith("--") else f"-s {name[1:]}"
                for name in option.names
            )
            taken = "" if option.flag else " -r"
            if option.values:
                taken = f" -x -a {_quoted(' '.join(option.values))}"
            lines.append(f"{base} {flags}{taken} -d {_quoted(option.about)}")
    return "\n".join(lines)


def register(app: typer.Typer) -> None:
    app.command()(completion)
