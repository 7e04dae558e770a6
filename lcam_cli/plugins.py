"""What other installed packages bring: methods, measures, network sources and image formats.

A package names it in an entry point of a group of ours, as ``lcam.methods``; the entry point's name
is what users type. None of the package's code runs before :func:`load`. Wherever it runs, it runs
in :func:`plugin_code`: it may fail in any way, and whatever it does is said in one line.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from importlib.metadata import EntryPoint, distributions, entry_points
from typing import Any

from lcam_cli.errors import LcamError, one_line, shown_path

TELL = "report this to its author"
"""The hint where a plug-in gives what it must not."""

RUNNING = (LcamError, KeyboardInterrupt)
"""What :func:`plugin_code` passes on in the middle of a run, which users interrupt."""

log = logging.getLogger("lcam")


def entry_points_of(group: str) -> dict[str, EntryPoint]:
    """Installed plug-ins of a group by name, in order of their names; none of their code runs."""
    found = sorted(_installed(group), key=lambda point: (point.name, point.value))
    return {point.name: point for point in found}


def plugin_name(entry_point: EntryPoint, kind: str) -> str:
    """Return what a plug-in is called in messages: ``the plug-in method 'mm' (mm_mod:make)``."""
    return f"the plug-in {kind} {entry_point.name!r} ({entry_point.value})"


@contextmanager
def plugin_code(
    begin: str,
    module: str,
    hint: str = f"{TELL}; --debug shows where",
    but: tuple[type[BaseException], ...] = (LcamError,),
) -> Iterator[None]:
    """Have whatever a plug-in's code raises within the block end in one line that names it.

    Args:
        begin: How the line begins: ``the plug-in mm failed``.
        module: The module that the code is in; where in its package the error arose is said too.
        hint: The error's hint.
        but: What is passed on as it is. A Ctrl-C of the user's always is.

    Raises:
        LcamError: The code raises anything else, or calls ``sys.exit``.
    """
    try:
        yield
    except but:
        raise
    except BaseException as error:
        steps = [
            (frame, line)
            for frame, line in traceback.walk_tb(error.__traceback__)
            if _top(frame.f_globals.get("__name__") or "") == _top(module)
        ]
        if isinstance(error, KeyboardInterrupt) and not _raises_itself(error, module):
            raise
        why = f"{type(error).__name__}: {one_line(error)}".rstrip(": ")
        if isinstance(error, SystemExit):
            why = f"it called sys.exit({error.code!r})"
        if steps:
            frame, line = steps[-1]
            why += f" ({shown_path(frame.f_code.co_filename)}, line {line})"
        raise LcamError(f"{begin}: {why}", hint) from error


def load(entry_point: EntryPoint, kind: str) -> object:
    """Import what an entry point names.

    Args:
        entry_point: One of :func:`entry_points_of`.
        kind: What its group holds, for the error: ``"method"``, ``"network source"``.

    Raises:
        LcamError: Importing it fails, in whatever way; one line says how. Or several packages
            bring one of that name, and which is meant cannot be known.
    """
    named = [one for one in _installed(entry_point.group) if one.name == entry_point.name]
    values = sorted({point.value for point in named} | {entry_point.value})
    if len(values) > 1:
        raise LcamError(
            f"the plug-in {kind} {entry_point.name!r} comes from several packages: "
            f"{', '.join(values)}",
            "keep one of them installed",
        )
    begin = f"{plugin_name(entry_point, kind)} does not load"
    if entry_point.pattern.match(entry_point.value) is None:
        raise LcamError(
            f"{begin}: {entry_point.value!r} does not have the form package.module:object"
        )
    with plugin_code(begin, entry_point.module, hint="", but=()):
        return entry_point.load()


def load_function(entry_point: EntryPoint, kind: str) -> Callable[..., Any]:
    """Import the function that an entry point names.

    Raises:
        LcamError: As :func:`load`; or what it names cannot be called.
    """
    loaded = load(entry_point, kind)
    if not callable(loaded):
        raise LcamError(
            f"{plugin_name(entry_point, kind)} does not load: {entry_point.value} is not a function"
        )
    return loaded


def is_own(thing: object) -> bool:
    """Whether an object is of a class of lcam's own, and not of somebody else's."""
    return _top(type(thing).__module__) == _top(__name__)


def _installed(group: str) -> Iterable[EntryPoint]:
    try:
        return entry_points(group=group)
    except Exception:  # some package's list is malformed: that is no reason to lose the others
        return list(_readable(group))


def _readable(group: str) -> Iterator[EntryPoint]:
    """The entry points of a group, without those of packages whose lists are malformed."""
    known = set()
    for package in distributions():
        name = package.metadata["Name"]
        try:
            points = () if name in known else package.entry_points.select(group=group)
        except Exception:
            if f"[{group}]" in (package.read_text("entry_points.txt") or ""):
                log.warning(
                    "the entry points of a package are malformed and ignored: %s",
                    getattr(package, "_path", name),
                    extra={"once": True},
                )
            continue
        known.add(name)
        yield from points


def _raises_itself(error: BaseException, module: str) -> bool:
    """Whether a statement of the module's package raises an error; a signal's has no statement."""
    import dis  # noqa: PLC0415

    *_, trace = _traces(error)
    code, name = trace.tb_frame.f_code, trace.tb_frame.f_globals.get("__name__") or ""
    raises = dis.opname[code.co_code[trace.tb_lasti]] == "RAISE_VARARGS"
    return raises and _top(name) == _top(module)


def _traces(error: BaseException) -> Iterator[Any]:
    trace = error.__traceback__
    while trace is not None:
        yield trace
        trace = trace.tb_next


def _top(module: str) -> str:
    return module.partition(".")[0]
