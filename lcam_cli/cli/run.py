"""Running a command line: where every error ends."""

from __future__ import annotations

import io
import re
import select
import shlex
import signal
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typer

from lcam_cli.cli.console import Console, drop, typed_command, written_to
from lcam_cli.cli.options import Flags
from lcam_cli.cli.settings import key_of, section_of
from lcam_cli.cli.synonyms import meant
from lcam_cli.errors import LcamError, near_names

DONE = 0
WRONG = 2
INTERRUPTED = 130

# click's class, which Typer does not name in public and, since 0.26, brings along itself.
_UsageError: Any = typer.BadParameter.__base__


def run(app: typer.Typer, args: list[str]) -> int:
    """Run a command line as :func:`run_command` does.

    Args:
        app: The commands.
        args: The words after ``lcam``; none asks for help.
    """
    return run_command(typer.main.get_command(app), args)


def run_command(command: Any, args: list[str]) -> int:
    """Run a command line, tell its errors on stderr, and return its exit code.

    Args:
        command: The commands, as click has them.
        args: The words after ``lcam``; none asks for help.

    Returns:
        0 done, 2 wrong usage or a failure, 130 interrupted, or what the command exits with.
    """
    for stream in (sys.stdout, sys.stderr):
        # File names may hold anything, and the locale may know only ASCII.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    flags = Flags()
    console = Console()
    typed = typed_command.set(shlex.join(["lcam", *args]))
    try:
        with _terminable():
            code = _invoke(command, args or ["--help"], flags)
        with written_to(sys.stdout):
            sys.stdout.flush()
        return code
    except _UsageError as error:
        console.error(*_usage_error(error, flags))
        return WRONG
    except LcamError as error:
        _trace(flags)
        console.error(error.what, error.hint)
        return WRONG
    except (KeyboardInterrupt, typer.Abort):
        _trace(flags)
        console.error("interrupted")
        return INTERRUPTED
    except (Exception, SystemExit) as error:  # a network's forward may call sys.exit
        if isinstance(error, BrokenPipeError) and _reader_is_gone():
            return DONE
        _trace(flags)
        console.error(*_unforeseen(error))
        return WRONG
    finally:
        typed_command.reset(typed)


@contextmanager
def _terminable() -> Iterator[None]:
    """Let SIGTERM, which systems send that shut down, end a command as Ctrl-C does."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _invoke(command: Any, args: list[str], flags: Flags) -> int:
    # Not `command(args)`: that would print and exit by itself.
    try:
        try:
            with written_to(sys.stdout):  # help, the version, a script for completion
                context = command.make_context("lcam", list(args), obj=flags)
        except SystemExit:  # Typer's way to end once it has shown its script for completion
            return DONE
        with context:
            command.invoke(context)
    except typer.Exit as stop:
        return stop.exit_code
    return DONE


def _usage_error(error: Any, flags: Flags) -> tuple[str, str]:
    """Return what is wrong with the words typed, or read from file, and what to do."""
    what: str = error.format_message().replace("Value error, ", "")  # pydantic's words
    context, param = error.ctx, getattr(error, "param", None)
    hint = f"`{context.command_path if context else 'lcam'} --help` lists what there is"
    if getattr(error, "option_name", None) and hasattr(error, "possibilities"):
        known = context.command.params
        options = [name for param in known for name in (*param.opts, *param.secondary_opts)]
        arguments = [p.metavar or "" for p in known if p.param_type_name == "argument"]
        here = meant(error.option_name, options, "".join(arguments[:1]))
        return error.message, f"did you mean {here}? {hint}" if here else hint
    if context is None or param is None:
        return what, hint
    # Typer's own messages for numbers and choices leave the value out.
    given = _given(error)
    if given is not None and repr(given) not in what:
        what = f"{what} ({given!r} was given)"
    choice = _near_choice(what)
    if choice:
        hint = f"did you mean {choice}? {hint}"
    source = context.get_parameter_source(param.name)
    if source is not None and source.name == "DEFAULT_MAP":
        key = key_of(param).replace("_", "-")
        command = str(context.info_name)
        section = section_of(flags.settings, command, key) if flags.settings else command
        hint = f"it comes from {flags.settings}: [{section}] {key}; {hint}"
    elif source is not None and source.name == "ENVIRONMENT":
        hint = f"it comes from the environment: {param.envvar}; {hint}"
    return what, hint


def _given(error: BaseException) -> object:
    """Return the value that Typer, with pydantic, refused; None where it is not known."""
    details = getattr(error.__cause__, "errors", None)
    return details()[0].get("input") if callable(details) else None


def _near_choice(what: str) -> str:
    """Return the choice that the word typed looks like, of those an error message names, if any."""
    typed, _, choices = what.partition(" is not one of ")
    words = re.findall(r"'([^']*)'", choices)
    near = near_names(typed.rpartition(" ")[2].strip("'"), words) if words else []
    return near[0] if near else ""


def _trace(flags: Flags) -> None:
    if flags.debug:
        traceback.print_exc()


def _unforeseen(error: BaseException) -> tuple[str, str]:
    """Return what went wrong where no code expected it, and what to do."""
    name, text = type(error).__name__, str(error)
    if _is_out_of_memory(error):
        return (
            f"out of memory ({text.splitlines()[0] if text else name})",
            "use a smaller --batch-size or --image-size, fewer --workers, or another --device; "
            "continue what is saved with --resume",
        )
    theirs = _users(error)
    if theirs is not None:
        return theirs.what, theirs.hint
    return (
        f"internal error: {name}: {text}",
        "run again with --debug for the traceback, and report it at the project's issue page",
    )


def _users(error: BaseException) -> LcamError | None:
    """The error as the user's own, where code raised it that they named."""
    if "lcam_cli.networks.users_code" not in sys.modules:
        return None
    from lcam_cli.networks.users_code import users_error

    return users_error(error)


def _is_out_of_memory(error: BaseException) -> bool:
    if "torch" not in sys.modules:
        return isinstance(error, MemoryError)
    from lcam_cli.engine.device import is_out_of_memory

    return is_out_of_memory(error)


def _reader_is_gone() -> bool:
    """Return whether nobody reads stdout any more (``lcam … | head``); if so, drop what is left."""
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)
    gone = any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))
    if gone:
        drop(sys.stdout)
    return gone
