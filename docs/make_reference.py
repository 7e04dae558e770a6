"""Write docs/reference.md: every command, argument and option, told by the program itself.

    python docs/make_reference.py

A test fails while the page differs from the program. It is told by the commands' signatures,
because the wording of ``--help`` differs between versions of typer.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from enum import Enum
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin

from typer.models import ArgumentInfo, OptionInfo

from lcam_cli.cli.app import lcam_app

PAGE = Path(__file__).with_name("reference.md")
HEAD = """# Reference

Every command with its arguments and options, as the program tells them. How they work together is
on the page [commands and settings](commands.md).

In `lcam.toml` an option is called by its name without the leading dashes; its variable is
`LCAM_<COMMAND>_<OPTION>`, with `_` for `-`.
"""


def page() -> str:
    """Return the whole page, as Markdown."""
    app = lcam_app()
    assert app.registered_callback is not None
    parts = [HEAD, section("lcam", app.registered_callback.callback)]
    for command in app.registered_commands:
        assert command.callback is not None
        name = command.name or command.callback.__name__.rstrip("_").replace("_", "-")
        parts.append(section(f"lcam {name}", command.callback))
    return "\n".join(parts)


def section(title: str, function: Callable[..., Any] | None) -> str:
    """Return what one command says of itself."""
    assert function is not None
    told = (inspect.getdoc(function) or "").split("\f")[0].strip()
    table = "\n".join(["| | default | |", "|---|---|---|", *rows(function)])
    return f"## {title}\n\n{told}\n\n{table}\n"


def rows(function: Callable[..., Any]) -> Iterator[str]:
    """Yield a table's row for each parameter: how it is typed, its default, what it does."""
    for name, parameter in inspect.signature(function, eval_str=True).parameters.items():
        if get_origin(parameter.annotation) is not Annotated:
            continue  # the context
        kind, info = get_args(parameter.annotation)[:2]
        if not info.hidden:
            about = cell(info.help or "")
            yield f"| {typed(name, kind, info)} | {default(parameter.default, info)} | {about} |"


def typed(name: str, kind: Any, info: OptionInfo | ArgumentInfo) -> str:
    """Return a parameter as a user types it."""
    value = cell(info.metavar or "|".join(choices(kind)))
    if isinstance(info, ArgumentInfo):
        return f"`{(value or name.upper()).strip('[.]')}`{' …' if takes_many(kind) else ''}"
    # In an annotation, typer keeps the first name where a default would stand.
    told = [one for one in (info.default, *(info.param_decls or ())) if isinstance(one, str)]
    names = [part for decl in told for part in decl.split("/")]
    names = names or [f"--{name.rstrip('_').replace('_', '-')}"]
    return ", ".join(f"`{one}`" for one in names) + (f" `{value}`" if value else "")


def takes_many(kind: Any) -> bool:
    """Return whether a parameter takes any number of words."""
    return list in (get_origin(kind), *map(get_origin, get_args(kind)))


def choices(kind: Any) -> list[str]:
    """Return the words that a parameter takes, where it takes only some."""
    if get_origin(kind) is Literal:
        return [str(word) for word in get_args(kind)]
    if isinstance(kind, type) and issubclass(kind, Enum):
        return [str(word.value) for word in kind]
    return [word for part in get_args(kind) if part is not NoneType for word in choices(part)]


def default(value: Any, info: OptionInfo | ArgumentInfo) -> str:
    """Return the default as the help shows it."""
    if isinstance(info.show_default, str):
        return cell(info.show_default)
    if value is inspect.Parameter.empty:
        return "required"
    if not info.show_default or value is None or isinstance(value, bool) or value == ():
        return ""
    values = value if isinstance(value, list | tuple) else [value]
    return cell(", ".join(str(getattr(one, "value", one)) for one in values))


def cell(text: str) -> str:
    """Return text as it may stand in a table's cell."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
