"""``--help``: options in groups, examples and exit codes; in panels on a terminal."""

from __future__ import annotations

import inspect
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from lcam_cli.cli.help_groups import (
    COMMANDS,
    EXAMPLES,
    EXIT_CODES,
    EXPLAINED,
    FIRST_GROUP,
    GROUPS,
    OWN_GROUPS,
)
from lcam_cli.cli.signatures import Described, described

WIDTH = 100
"""Columns, at most: longer lines are hard to read."""

SUMMARY = 60
"""Characters of a command's summary, at most, so that it fits beside the command's name."""


@dataclass(frozen=True)
class Row:
    """What is typed, and what it does."""

    typed: str
    does: str


@dataclass(frozen=True)
class Page:
    """What a command says of itself.

    Attributes:
        path: The words that call it, e.g. ``lcam explain``.
        words: What follows them, e.g. ``[OPTIONS] [IMAGES]...``.
        about: Paragraphs.
        groups: Titles, each with its rows.
        examples: Command lines; none for the page of all commands.
        exit_codes: Those that it can end with, and their meanings.
    """

    path: str
    words: str
    about: Sequence[str]
    groups: Sequence[tuple[str, Sequence[Row]]]
    examples: Sequence[str]
    exit_codes: Sequence[tuple[str, str]]


# What click and typer add to the functions' own parameters.
_HELP = Row("-h, --help", "Show this page.")
_COMPLETION = (
    Row("--install-completion", "Let this shell complete commands, options and names."),
    Row("--show-completion", "Show the script that does so."),
)


def page_of(command: Any, context: Any) -> Page:
    """Return the page of a command, or of the group of all commands.

    Args:
        command: As click has it.
        context: The command's own.
    """
    function = inspect.unwrap(command.callback)
    about = [" ".join(part.split()) for part in (inspect.getdoc(function) or "").split("\n\n")]
    is_group = hasattr(command, "commands")
    groups = [
        (title, tuple(map(_row, params))) for title, params in grouped(command.name or "", function)
    ]
    added = (*_COMPLETION, _HELP) if is_group else (_HELP,)
    groups[-1] = (groups[-1][0], (*groups[-1][1], *added))
    return Page(
        context.command_path,
        " ".join(command.collect_usage_pieces(context)),
        about,
        [*_commands(command.commands), *groups] if is_group else groups,
        () if is_group else EXAMPLES.get(command.name or "", ()),
        list(_exit_codes([title for title, _ in groups])),
    )


def summary_of(command: Any) -> str:
    """Return the line that stands beside a command's name: the first of its text."""
    text = inspect.getdoc(inspect.unwrap(command.callback)) or ""
    return text.split("\n\n")[0].replace("\n", " ").rstrip(".")


def _exit_codes(groups: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield the exit codes of a command that has these groups of options."""
    for code, meaning in EXIT_CODES:
        reads_images = "Speed" in groups and groups[0].startswith("What to ")
        if (code == "1" and "Gates" not in groups) or (code == "3" and not reads_images):
            continue
        resumes = code == "130" and "Resuming" in groups
        yield code, f"{meaning}; --resume continues" if resumes else meaning


def _commands(commands: Any) -> Iterator[tuple[str, list[Row]]]:
    placed = {name for names in COMMANDS.values() for name in names}
    others = tuple(name for name in commands if name not in placed)
    for title, names in {**COMMANDS, "Others": others}.items():
        rows = [Row(name, summary_of(commands[name])) for name in names if name in commands]
        if rows:
            yield title, rows


def grouped(name: str, function: Any) -> Iterator[tuple[str, Sequence[Described]]]:
    """Yield the groups of a command's parameters that it has, in their order.

    Args:
        name: The command's.
        function: What typer made the command of.
    """
    there = {one.key: one for one in described(function)}
    own = OWN_GROUPS.get(name, {})
    taken = {key for keys in own.values() for key in keys}
    placed = {key for keys in GROUPS.values() for key in keys} | taken
    others = tuple(key for key in there if key not in placed)
    for title, keys in {**own, "More": others, **GROUPS}.items():
        params = [there[k] for k in keys if k in there and (title in own or k not in taken)]
        if params:
            yield FIRST_GROUP.get(name, title) if title == EXPLAINED else title, params


def _row(one: Described) -> Row:
    short_first = sorted(one.names, key=lambda name: name.startswith("--"))
    pair = "/" if one.is_pair else ", "
    typed = f"{pair.join(short_first)} {one.value}".strip()
    default = f" [default: {one.default}]" if one.default not in ("", "required") else ""
    return Row(typed, one.about + default)


# --- As text ------------------------------------------------------------------------------------


def write_help(command: Any, context: Any, formatter: Any) -> None:
    """Write a command's page: in panels on a terminal, plain and the same everywhere else.

    Args:
        command: As click has it.
        context: The command's own.
        formatter: click's, which the text goes to.
    """
    page = page_of(command, context)
    if sys.stdout.isatty():
        formatter.write(_in_panels(page, min(shutil.get_terminal_size().columns, WIDTH)))
    else:
        _write_plain(page, formatter)


def _write_plain(page: Page, formatter: Any) -> None:
    formatter.write_usage(page.path, page.words)
    for paragraph in page.about:
        formatter.write_paragraph()
        with formatter.indentation():
            formatter.write_text(paragraph)
    for title, rows in page.groups:
        with formatter.section(title):
            formatter.write_dl([(row.typed, row.does) for row in rows], col_max=26)
    if page.examples:
        with formatter.section("Examples"):
            formatter.write("".join(f"  {line}\n" for line in page.examples))
        with formatter.section("Exit codes"):
            formatter.write_dl(page.exit_codes)


def _in_panels(page: Page, width: int) -> str:
    """Return a page as Rich draws it, in colours where the terminal has them."""
    from rich.console import Console, Group
    from rich.padding import Padding
    from rich.panel import Panel
    from rich.table import Table
    from rich.text import Text

    def panel(title: str, inside: Any) -> Panel:
        return Panel(inside, title=Text(title, "bold"), title_align="left", border_style="dim")

    def table(rows: Sequence[Row]) -> Table:
        grid = Table.grid(padding=(0, 2))
        grid.add_column(max_width=28, style="cyan", overflow="fold")
        grid.add_column(ratio=1)
        for row in rows:
            grid.add_row(Text(row.typed), Text(row.does))
        return grid

    parts: list[Any] = [Text.assemble(("Usage: ", "bold"), f"{page.path} {page.words}"), Text()]
    parts += [Padding(Text(paragraph), (0, 1, 1, 1)) for paragraph in page.about]
    parts += [panel(title, table(rows)) for title, rows in page.groups]
    if page.examples:
        parts.append(panel("Examples", Text("\n".join(page.examples))))
        parts.append(panel("Exit codes", table([Row(*one) for one in page.exit_codes])))
    console = Console(file=sys.stdout, width=width, highlight=False)
    with console.capture() as drawn:
        console.print(Group(*parts))
    return drawn.get()
