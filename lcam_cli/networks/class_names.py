"""The names of a classifier's classes: reading them, and finding a class by what a user types."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lcam_cli.errors import LcamError, did_you_mean


def read_class_names(path: Path) -> list[str]:
    """Read class names, one a line, in the classifier's order (a trailing empty line is ignored).

    Raises:
        LcamError: The file is missing, empty or not UTF-8 text.
    """
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise LcamError(
            f"cannot read class names from {path}: {error}",
            "give a UTF-8 text file, one name a line",
        ) from None
    names = [line.strip() for line in lines]
    while names and not names[-1]:
        names.pop()
    if not names:
        raise LcamError(f"{path} names no classes", "give a text file, one class name a line")
    return names


def find_class(name_or_index: str, class_names: Sequence[str]) -> int:
    """Find a class by its name, in any case where only one has it, or by its index.

    Raises:
        LcamError: No class has that name or index, and the message suggests near ones; or
            several have that name, as ``CARDIGAN`` is a dog and a jacket of ImageNet.
    """
    wanted = name_or_index.strip()
    lowered = wanted.lower()
    for same in (
        [i for i, name in enumerate(class_names) if name == wanted],
        [i for i, name in enumerate(class_names) if name.lower() == lowered],
    ):
        if len(same) > 1:
            listed = f"{', '.join(map(str, same[:-1]))} and {same[-1]}"
            raise LcamError(f"{name_or_index!r} names classes {listed}", "give the index")
        if same:
            return same[0]
    if lowered.isdecimal():  # not "²", which is a digit and no number
        if int(lowered) < len(class_names):
            return int(lowered)
        raise LcamError(
            f"class index {lowered} is out of range",
            f"this classifier has classes 0 to {len(class_names) - 1}",
        )
    raise LcamError(
        f"no class named {name_or_index!r}",
        did_you_mean(name_or_index, class_names) or "give an index, or a name as in --classes",
    )
