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
            f"settings file {path}: {error.strerror}", "name a readable file with --config"
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
                f"{path}: {name!r} stands outside a section",
                "put it below the line of its command, e.g. [explain]",
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
    maps: dict[str, dict[str, Typed]] = {}
    for section, entries in read_settings(path).items():
        if section not in commands:
            raise LcamError(
                f"{path}: there is no command for section [{section}]",
                did_you_mean(section, commands) or f"sections are {', '.join(commands)}",
            )
        params = [param for param in commands[section] if param.name not in _NEVER_IN_FILE]
        known = {key_of(param): param for param in params}
        maps[section] = {}
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
            raise LcamError(f"{where} = {value!r} is neither true nor false", "write true or false")
        return value
    words = [_word(item, where) for item in (value if isinstance(value, list) else [value])]
    takes_many = getattr(param, "multiple", False) or param.nargs == -1
    return words if takes_many else ",".join(words)


def _word(value: object, where: str) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise LcamError(
            f"{where} = {value!r} is neither text nor a number", "write what you would type"
        )
    return str(value)
