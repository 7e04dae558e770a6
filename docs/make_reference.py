"""Write docs/reference.md: every command, argument and option, told by the program itself.

    python docs/make_reference.py

A test fails while the page differs from the program.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lcam_cli.cli.app import lcam_app
from lcam_cli.cli.help import grouped
from lcam_cli.cli.signatures import Described

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
    parts = [HEAD, section("lcam", "", app.registered_callback.callback)]
    for command in app.registered_commands:
        assert command.callback is not None
        name = command.name or command.callback.__name__.rstrip("_").replace("_", "-")
        parts.append(section(f"lcam {name}", name, command.callback))
    return "\n".join(parts)


def section(title: str, name: str, function: Callable[..., Any] | None) -> str:
    """Return what one command says of itself: a table for each group of its options."""
    assert function is not None
    about = (inspect.getdoc(function) or "").split("\f")[0].strip()
    tables = [
        "\n".join([f"| {cell(group)} | default | |", "|---|---|---|", *map(row, params)])
        for group, params in grouped(name, function)
    ]
    return "\n\n".join([f"## {title}", about, *tables]) + "\n"


def row(one: Described) -> str:
    """Return a table's row of a parameter: how it is typed, its default, what it does."""
    return f"| {typed(one)} | {cell(one.default)} | {cell(one.about)} |"


def typed(one: Described) -> str:
    """Return a parameter as a user types it."""
    value = f"`{cell(one.value)}`" if one.value else ""
    if not one.names:
        return f"{value} …" if one.takes_many else value
    return " ".join([", ".join(f"`{name}`" for name in one.names), value]).strip()


def cell(text: str) -> str:
    """Return text as it may stand in a table's cell."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
