"""Options that come from ``lcam.toml``, handed to click as if they had been typed."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lcam_cli.errors import LcamError, did_you_mean

if TYPE_CHECKING:
    import typer

FILE_NAME = "lcam.toml"
DEFAULTS = "defaults"
"""The section of all commands: each takes what it has an option for, if its own has no such key."""

# What a maps file knows of its classifier. A default for all commands would contradict the files
# of other classifiers; of code, it is the consent to run it.
_KNOWN_TO_MAPS = ("backbone", "weights", "classes", "layer", "output", "activation", "grid")

# What click stores for a parameter: the words typed, a list of them, or a flag.
Typed = str | list[str] | bool

# The options that say where settings are read from, or which only make sense when typed.
_NEVER_IN_FILE = {"config", "help", "version"}


def find_settings(config: Path | None) -> Path | None:
    """Return the settings file: ``config``, or ``lcam.toml`` in the working directory if any."""
    if config is not None:
        return config
    here = Path(FILE_NAME)
    return here if here.exists() else None


def read_settings(path: Path) -> dict[str, dict[str, Any]]:
    """Return the sections of a settings file, as TOML has them.

    Raises:
        LcamError: The file cannot be read, is not UTF-8 or not TOML, or has a key outside a
            section.
    """
    try:
        # Some editors put a byte order mark first; TOML knows none.
        sections = tomllib.loads(path.read_text("utf-8-sig"))
    except OSError as error:
        raise LcamError(
            f"settings file {path}: {error.strerror}", "pass a readable file with --config"
        ) from error
    except UnicodeDecodeError as error:
        raise LcamError(
            f"settings file {path} is not UTF-8 (byte {error.start})", "save it as UTF-8"
        ) from error
    except tomllib.TOMLDecodeError as error:
        raise LcamError(f"settings file {path} is not TOML: {error}", "fix that line") from error
    for name, section in sections.items():
        if not isinstance(section, dict):
            raise LcamError(
                f"{path}: {name!r} is outside a section",
                "move it below the section of its command, e.g. [explain]",
            )
    return sections


def default_maps(
    path: Path, commands: Mapping[str, list[typer.CallbackParam]]
) -> dict[str, dict[str, Typed]]:
    """Return, for every command in the settings file, what click takes as its ``default_map``.

    Args:
        path: The settings file.
        commands: The parameters of each command, by its name.

    Raises:
        LcamError: The file cannot be read, or names a command, option or argument there is not.
    """
    sections = read_settings(path)
    common = sections.pop(DEFAULTS, {})
    all_known = {command: _known(params) for command, params in commands.items()}
    maps = _of_all_commands(path, common, all_known)
    for section, entries in sections.items():
        if section not in commands:
            names = [*commands, DEFAULTS]
            raise LcamError(
                f"{path}: there is no command for section [{section}]",
                did_you_mean(section, names) or f"sections are {', '.join(names)}",
            )
        known = all_known[section]
        for key, value in entries.items():
            param = known.get(key.replace("-", "_"))
            if param is None:
                names = [name.replace("_", "-") for name in known]
                raise LcamError(
                    f"{path}: [{section}] has no option {key!r}",
                    did_you_mean(key.replace("_", "-"), names)
                    or f"`lcam {section} --help` lists them",
                )
            maps[section][str(param.name)] = _as_typed(value, param, f"{path}: [{section}] {key}")
    return maps


def _known(params: list[typer.CallbackParam]) -> dict[str, typer.CallbackParam]:
    """The parameters that may stand in a file, by what they are called there."""
    return {key_of(param): param for param in params if param.name not in _NEVER_IN_FILE}


def _of_all_commands(
    path: Path,
    common: Mapping[str, Any],
    known: Mapping[str, Mapping[str, typer.CallbackParam]],
) -> dict[str, dict[str, Typed]]:
    """What each command takes of the section of all; its arguments are no options.

    Raises:
        LcamError: No command has such an option.
    """
    maps: dict[str, dict[str, Typed]] = {command: {} for command in known}
    options = {
        command: {key: p for key, p in params.items() if p.param_type_name == "option"}
        for command, params in known.items()
    }
    names = list(dict.fromkeys(key for params in options.values() for key in params))
    is_code = ":" in str(common.get("backbone", ""))
    for key, value in common.items():
        name = key.replace("-", "_")
        if name not in names:
            raise LcamError(
                f"{path}: [{DEFAULTS}] has {key!r}, and no command has that option",
                did_you_mean(key.replace("_", "-"), [one.replace("_", "-") for one in names])
                or "`lcam COMMAND --help` lists those of a command",
            )
        for command, params in options.items():
            in_file = command == "evaluate" and name in _KNOWN_TO_MAPS and not is_code
            if name in params and not in_file:
                param = params[name]
                where = f"{path}: [{DEFAULTS}] {key}"
                maps[command][str(param.name)] = _as_typed(value, param, where)
    return maps


def section_of(path: Path, command: str, key: str) -> str:
    """Return the section that a command's value of a key is from."""
    entries = read_settings(path).get(command, {})
    own = {name.replace("-", "_") for name in entries}
    return command if key.replace("-", "_") in own else DEFAULTS


def key_of(param: typer.CallbackParam) -> str:
    """Return what a parameter is called in a file: its long option or its name, with ``_``."""
    long_options = [name for name in param.opts if name.startswith("--")]
    return (long_options or [param.name or ""])[0].lstrip("-").replace("-", "_")


def _as_typed(value: object, param: typer.CallbackParam, where: str) -> Typed:
    """Return a TOML value as the words a user would have typed for it.

    So every value is checked by one parser, wherever it came from: numbers become text again,
    and a list for an option that takes one value is joined by commas (``mean = [0.5, 0.5, 0.5]``).
    """
    if getattr(param, "is_flag", False):
        if not isinstance(value, bool):
            raise LcamError(f"{where} = {value!r} is not true or false", "write true or false")
        return value
    words = [_word(item, where) for item in (value if isinstance(value, list) else [value])]
    takes_many = getattr(param, "multiple", False) or param.nargs == -1
    return words if takes_many else ",".join(words)


def _word(value: object, where: str) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise LcamError(f"{where} = {value!r} is not text or a number", "write what you would type")
    return str(value)
