"""The names of a classifier's classes: reading them, and finding a class by what a user types."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from lcam_cli.errors import LcamError, did_you_mean

_SHOWN = 5


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
            "pass a UTF-8 text file with one name per line",
        ) from None
    names = [line.strip() for line in lines]
    while names and not names[-1]:
        names.pop()
    if not names:
        raise LcamError(
            f"{path} has no class names", "pass a text file with one class name per line"
        )
    return names


def find_class(name_or_index: str, class_names: Sequence[str]) -> int:
    """Find a class by its name, in any case where only one has it, or by its index.

    Of ImageNet-1k's thousand classes a WordNet id (``n02123045``) is a name too.

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
            raise LcamError(f"{name_or_index!r} is the name of classes {listed}", "pass the index")
        if same:
            return same[0]
    if lowered.isdecimal():  # not "²", which is a digit and no number
        if int(lowered) < len(class_names):
            return int(lowered)
        raise LcamError(
            f"class index {lowered} is out of range",
            f"this classifier has classes 0 to {len(class_names) - 1}",
        )
    wordnet_ids = _imagenet_wordnet_ids()
    if lowered in wordnet_ids and len(class_names) == len(wordnet_ids):
        return wordnet_ids[lowered]
    raise LcamError(
        f"there is no class named {name_or_index!r}",
        _with_word(lowered, class_names)
        or did_you_mean(name_or_index, class_names)
        or "pass an index, or a name as in --classes",
    )


def _with_word(word: str, class_names: Sequence[str]) -> str:
    """The classes that have a word in their name, as "Persian cat" has "cat"; empty without any."""
    found = [name for name in class_names if word in name.lower().replace("_", " ").split()]
    if not word or not found:
        return ""
    more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return f"did you mean {', '.join(found[:_SHOWN])}{more}?"


@functools.cache
def _imagenet_wordnet_ids() -> dict[str, int]:
    """ImageNet-1k's WordNet ids, in the order of its classes."""
    text = resources.files("lcam_cli.networks").joinpath("imagenet_wordnet_ids.txt").read_text()
    return {wordnet_id: index for index, wordnet_id in enumerate(text.split())}
