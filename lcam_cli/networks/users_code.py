"""Whose fault an error is: what the user's own code raises is reported as theirs, with its line.

A network's forward pass runs in the middle of this package, for hours, on any image: so the
traceback is asked, wherever the error ends up.
"""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import lcam_cli
from lcam_cli.errors import LcamError, one_line, shown_path

_OURS = Path(lcam_cli.__file__).resolve().parent

_roots: dict[Path, str] = {}  # where the user's code lies, and by which name they gave it


def note_users_code(name: str, root: Path) -> None:
    """Note that a file or folder holds code that the user named, as ``file.py:function``."""
    _roots[root.resolve()] = name


def users_error(
    error: BaseException, name: str = "", *, resumable: bool = True
) -> LcamError | None:
    """Describe an error that the user's code raised.

    Args:
        error: As caught.
        name: What raised it, in the user's words; default what they gave as ``--backbone``.
        resumable: Whether there may be something saved already.

    Returns:
        One line with the error's type, text, file and line; None where the innermost code that is
        not a library's is this package's.
    """
    found = _innermost(error.__traceback__)
    if found is None:
        return None
    file, line, given = found
    hint = "fix it there (--debug shows the traceback)"
    if resumable:
        hint += "; continue what is saved with --resume"
    if isinstance(error, FileNotFoundError) and not Path(str(error.filename or "/")).is_absolute():
        hint = f"relative paths are relative to the working directory, {Path.cwd()}"
    what = f"called sys.exit({error.code!r})" if isinstance(error, SystemExit) else raised(error)
    return LcamError(f"{name or given} {what} ({shown_path(file)}, line {line})", hint)


def needed_arguments(signature: inspect.Signature) -> list[str]:
    """The names of the arguments that a call cannot leave out."""
    return [
        p.name
        for p in signature.parameters.values()
        if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
    ]


def raised(error: BaseException) -> str:
    """``"raised KeyError: 'scores'"``, in one line."""
    return f"raised {type(error).__name__}: {one_line(error)}".rstrip(": ")


def _innermost(trace: TracebackType | None) -> tuple[Path, int, str] | None:
    """File, line and name of the last step in the user's code, if none of ours comes after it."""
    found = None
    for file, line in _steps(trace):
        if file.is_relative_to(_OURS):
            found = None
        else:
            found = next(((file, line, n) for root, n in _roots.items() if _in(file, root)), found)
    return found


def _steps(trace: TracebackType | None) -> Iterator[tuple[Path, int]]:
    for frame, line in traceback.walk_tb(trace):
        # Modes stand between a function of torch and its caller, and raise nothing themselves.
        if frame.f_code.co_name != "__torch_function__":
            yield Path(frame.f_code.co_filename).absolute(), line


def _in(file: Path, root: Path) -> bool:
    """Whether a file is the root or lies below it, but not in an environment's libraries there."""
    file = file.resolve()
    return file.is_relative_to(root) and "site-packages" not in file.relative_to(root).parts
