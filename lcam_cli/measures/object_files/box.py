"""One box as a file has it, and the numbers that its edges may be."""

from __future__ import annotations

import math
import reprlib
from typing import NamedTuple

from lcam_cli.errors import LcamError

Edges = tuple[float, float, float, float]

LARGEST_SIDE = 2**31 - 1
"""Of an image, in pixels: the most that an int32 holds."""

_LONGEST = 120
_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = _LONGEST


def short(value: object) -> str:
    """A value as a message shows it: in a stranger's file it may be as long as a book."""
    return _SHORT.repr(value)


def short_name(name: str) -> str:
    """A name as a message shows it: the end of a long one, which tells it from others."""
    return name if len(name) <= _LONGEST else f"…{name[-_LONGEST:]}"


class NamedBox(NamedTuple):
    """A box around an object.

    Attributes:
        picture: The image's name, as the file has it.
        label: The object's class, as the file has it; empty where it has none.
        edges: x0, y0, x1, y1, in pixels of the upright image: edges, so that the box around the
            first pixel alone is 0 0 1 1. Finite; ``x0 < x1`` and ``y0 < y1``.
        size: Width and height that the file says the image has; None where it does not say.
    """

    picture: str
    label: str
    edges: Edges
    size: tuple[int, int] | None = None


class BoxFile(NamedTuple):
    """What a file of boxes says.

    Attributes:
        pictures: The names of all images it speaks of, with or without a box.
        boxes: Its boxes.
        notes: What is to be told of it, a line each.
    """

    pictures: list[str]
    boxes: list[NamedBox]
    notes: list[str]


def number(value: object, what: str, hint: str) -> float:
    """Read a number, of JSON or of text.

    Args:
        value: A number, or text that is one.
        what: Says in an error whose number it is, such as ``"boxes.csv, line 3: x0"``.
        hint: What to do about it.

    Raises:
        LcamError: It is none, or not finite.
    """
    try:
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            raise ValueError
        if isinstance(value, str) and "_" in value:  # a number to Python alone
            raise ValueError
        found = float(value)
    except ValueError:
        raise LcamError(f"{what} is {short(value)}, not a number", hint) from None
    except OverflowError:  # a whole number of hundreds of digits
        found = math.inf
    if not math.isfinite(found):
        raise LcamError(f"{what} is {short(value)}, not a finite number", hint)
    return found


def is_empty(edges: Edges) -> bool:
    """Whether nothing lies between the edges."""
    x0, y0, x1, y1 = edges
    return x1 <= x0 or y1 <= y0


def picture_size(width: object, height: object) -> tuple[int, int] | None:
    """Width and height as a file says them; None where it does not, or says 0.

    Some files have whole numbers as floats, ``640.0``. No side is larger than ``LARGEST_SIDE``: a
    file that says more gives an image another size than it has all the same.
    """
    try:
        sides = (float(str(width)), float(str(height)))
    except ValueError:
        return None
    if not all(side >= 1 for side in sides):  # nor NaN
        return None
    across, down = (round(min(side, LARGEST_SIDE)) for side in sides)
    return across, down


def empty_boxes(count: int, source: object, example: str) -> list[str]:
    """Say how many boxes are left out because nothing lies in them, in a line; none for 0."""
    if not count:
        return []
    words = "1 box is" if count == 1 else f"{count} boxes are"
    return [f"{source}: {words} empty or negative and skipped, e.g. {example}"]
