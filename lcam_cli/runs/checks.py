"""What the fields of options may hold: checked where options are made, and brought to one form.

A check takes what a caller gave and returns what is kept, e.g. a ``Path`` of a ``str``. Nothing
here imports torch or numpy; their numbers are known by what they can do.
"""

from __future__ import annotations

import dataclasses
import math
import operator
import os
import re
import reprlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from lcam_cli.errors import LcamError, near_names

T = TypeVar("T")

Check = Callable[[Any], Any]
"""Returns what is kept of a value, or raises :class:`WrongValueError`."""


class WrongValueError(Exception):
    """A value that is none of those wanted; the message says what is, after "give"."""


def check_fields(options: Any, checks: Mapping[str, Check]) -> None:
    """Check every field of a frozen dataclass, and keep what the checks return.

    Args:
        options: The dataclass.
        checks: A check a field; all fields must have one.

    Raises:
        LcamError: A field holds what it cannot; the message names it.
    """
    for field in dataclasses.fields(options):
        name = f"{type(options).__name__}.{field.name}"
        kept = checked(name, getattr(options, field.name), checks[field.name])
        object.__setattr__(options, field.name, kept)


def checked(name: str, value: Any, check: Check) -> Any:
    """Return what a check makes of a value.

    Raises:
        LcamError: It refuses the value, which the message calls ``name``.
    """
    try:
        return check(value)
    except WrongValueError as wrong:
        shown = " ".join(reprlib.repr(value).split())
        raise LcamError(f"{name} cannot be {shown}", f"pass {wrong}") from None


def given(name: str, value: T | None, kind: type[T]) -> T:
    """Return an argument of a kind; a new one, with all defaults, for None.

    Raises:
        LcamError: It is of another kind.
    """
    if value is None:
        return kind()
    kept: T = checked(name, value, instance_of(kind))
    return kept


def optional(check: Check) -> Check:
    """None, or what another check takes."""
    return lambda value: None if value is None else check(value)


def flag(value: Any) -> bool:
    """True or False, also numpy's."""
    if isinstance(value, bool) or type(value).__name__ in ("bool", "bool_"):
        return bool(value)
    raise WrongValueError("True or False")


def text(value: Any) -> str:
    """A string; a path is one too, where a file can stand for a name."""
    if isinstance(value, str | Path):
        return str(value)
    raise WrongValueError("a string")


def _spelling(value: Any) -> str:
    if isinstance(value, str | os.PathLike) and isinstance(spelt := os.fspath(value), str):
        return str(spelt)
    raise WrongValueError("a path, as a string or pathlib.Path")


def path(value: Any) -> Path:
    """A path; a string becomes one."""
    if isinstance(value, Path):
        return value
    if spelt := _spelling(value):
        return Path(spelt)
    raise WrongValueError("a path, as a string or pathlib.Path")


def whole(low: int, high: int | None = None) -> Check:
    """A whole number, also numpy's, from ``low`` to ``high``."""
    wanted = f"a whole number from {low}" + ("" if high is None else f" to {high}")

    def check(value: Any) -> int:
        try:
            number = None if isinstance(value, bool) else operator.index(value)
        except TypeError:
            number = None
        if number is None or number < low or (high is not None and number > high):
            raise WrongValueError(wanted)
        return number

    return check


def number(low: float = -math.inf, high: float = math.inf) -> Check:
    """A finite number, also numpy's, from ``low`` to ``high``."""
    wanted = "a finite number"
    if math.isfinite(low):
        wanted += f" from {low:g}" + (f" to {high:g}" if math.isfinite(high) else "")

    def check(value: Any) -> float:
        kept = _as_float(value)
        if not (math.isfinite(kept) and low <= kept <= high):
            raise WrongValueError(wanted)
        return kept

    return check


def _as_float(value: Any) -> float:
    """A number as a float; nan where the value is no number."""
    if isinstance(value, bool | str | bytes) or not hasattr(value, "__float__"):
        return math.nan
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan


def threshold(value: Any) -> Any:
    """One finite number for every ν, or a mapping of ν, in (0, 100], to numbers."""
    if not isinstance(value, Mapping):
        return number()(value)
    if not value:
        raise WrongValueError("a finite number, or numbers by ν, e.g. {50: 30, 15: 75}")
    return {percent(nu): number()(bound) for nu, bound in value.items()}


def choice(*names: str) -> Check:
    """One of some names."""

    def check(value: Any) -> str:
        if isinstance(value, str) and value in names:
            return str(value)
        near = near_names(value, names, 1) if isinstance(value, str) else []
        listed = " or ".join((", ".join(map(repr, names[:-1])), repr(names[-1])))
        raise WrongValueError(listed + (f"; did you mean {near[0]!r}?" if near else ""))

    return check


def device(value: Any) -> str:
    """Where a network runs, as a name or torch's own object."""
    if re.fullmatch(r"auto|cpu|mps|cuda(:[0-9]+)?", str(value)):
        return str(value)
    raise WrongValueError("'auto', 'cpu', 'cuda', 'cuda:N' or 'mps'")


def several(check: Check, wanted: str) -> Check:
    """Any number of what another check takes, as a tuple; one stands for itself."""

    def check_all(value: Any) -> tuple[Any, ...]:
        try:
            return (check(value),)
        except WrongValueError:
            pass
        if isinstance(value, str | bytes | Mapping) or not isinstance(value, Iterable):
            raise WrongValueError(wanted)
        try:
            return tuple(check(one) for one in value)
        except (TypeError, WrongValueError):  # numpy's numbers say that they can be iterated over
            raise WrongValueError(wanted) from None

    return check_all


def _name(value: Any) -> str:
    if isinstance(value, str):
        return str(value)
    raise WrongValueError("a name")


def _name_or_index(value: Any) -> str:
    return _name(value) if isinstance(value, str) else str(whole(0)(value))


names = several(_name, "names, e.g. ('gradcam', 'rise')")
names_or_indices = several(_name_or_index, "names or indices, e.g. ('boat', 3)")
paths = several(path, "paths, as strings or pathlib.Path")


def no_path_or_several(value: Any) -> tuple[Path, ...]:
    """Any number of paths, as a tuple; None stands for none of them."""
    return () if value is None else paths(value)


def spellings(value: Any) -> list[str]:
    """A path or several, each as it is spelt."""
    return list(several(_spelling, "a path, or several, as strings or pathlib.Path")(value))


def percents(value: Any) -> tuple[float, ...]:
    """Percentages in (0, 100], at least one."""
    wanted = "percents above 0 and at most 100, e.g. (50, 15)"
    found = several(number(), wanted)(value)
    if not found:
        raise WrongValueError(wanted)
    return tuple(map(percent, found))


def percent(value: Any) -> float:
    """A percentage in (0, 100]."""
    kept: float = number()(value)
    if not 0 < kept <= 100:
        raise LcamError(
            f"nu: ν = {kept:g} is not above 0 and at most 100", "pass percents, e.g. 15"
        )
    return kept


def of_channels(value: Any) -> float | tuple[float, ...]:
    """One finite number for all channels, or a tuple of one a channel."""
    wanted = "a finite number, or one per channel, e.g. (0.5, 0.5, 0.5)"
    if math.isfinite(kept := _as_float(value)):
        return kept
    found: tuple[float, ...] = several(number(), wanted)(value)
    if not found:
        raise WrongValueError(wanted)
    return found


def image_size(value: Any) -> int | tuple[int, int]:
    """The side of a square in pixels, or (H, W)."""
    wanted = "a whole number of pixels from 1, or two of them, (H, W)"
    found = several(whole(1), wanted)(value)
    if len(found) == 1:
        return int(found[0])
    if len(found) != 2:
        raise WrongValueError(wanted)
    height, width = found
    return height if height == width else (height, width)


def window(value: Any) -> Any:
    """``"auto"``, or two finite numbers, the lower first."""
    wanted = "'auto', or two finite numbers (LOW, HIGH), LOW below HIGH"
    if isinstance(value, str) and value == "auto":
        return "auto"
    found = several(number(), wanted)(value)
    if len(found) != 2 or not found[0] < found[1]:
        raise WrongValueError(wanted)
    return found


def part(value: Any) -> tuple[int, int]:
    """``(i, n)``, part i of n."""
    wanted = "(i, n) with 0 <= i < n, e.g. (0, 3) for the first of three parts"
    found = several(whole(0), wanted)(value)
    if len(found) != 2 or not found[0] < found[1]:
        raise WrongValueError(wanted)
    i, n = found
    return i, n


def function(value: Any) -> Any:
    """Something to be called."""
    if callable(value):
        return value
    raise WrongValueError("a function")


def instance_of(kind: type) -> Check:
    """Options of a kind."""

    def check(value: Any) -> Any:
        if isinstance(value, kind):
            return value
        raise WrongValueError(f"{kind.__name__}(…)")

    return check
