"""What a run finds wrong with images' objects, counted image by image, told at its end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

_MOST = 31  # as many bits as there are to mark an image with


class Findings:
    """Marks images by what was found of their objects.

    However often an image is looked at, once for each class or once more after a failure, it is
    counted once.

    Args:
        source: The file or folder that says where objects are.
        pictures: What the images are called.
    """

    def __init__(self, source: object, pictures: Sequence[str]) -> None:
        self._source = source
        self._pictures = pictures
        self._marks = np.zeros(len(pictures), np.uint32)
        self._known: dict[str, str] = {}  # by what was found, an example

    def add(self, picture: int, what: str, more: str = "") -> None:
        """Note something of an image.

        Args:
            picture: Its place.
            what: What was found, in words that are the same for all such images.
            more: What is to be said of this one, where it serves as the example.
        """
        if what not in self._known:
            if len(self._known) == _MOST:
                return
            self._known[what] = f"{self._pictures[picture]}{f' ({more})' if more else ''}"
        self._marks[picture] |= self._bit(what)

    def known(self) -> list[list[Any]]:
        """What was found so far, as a JSON value: a text, an example and the images each."""
        return [
            [what, example, np.flatnonzero(self._marked(bit)).tolist()]
            for bit, (what, example) in enumerate(self._known.items())
        ]

    def take_over(self, known: Sequence[Sequence[Any]]) -> None:
        """Note what others found of the same images, or an earlier run.

        Args:
            known: As :meth:`known` gives it.
        """
        for what, example, pictures in known:
            if what in self._known or len(self._known) < _MOST:
                self._known.setdefault(what, example)
                self._marks[pictures] |= self._bit(what)

    def lines(self) -> list[str]:
        """What was found, a line each, with how many images and an example."""
        return [
            f"{self._source}: {what}: {_pictures(self._count(bit))}, e.g. {example}"
            for bit, (what, example) in enumerate(self._known.items())
        ]

    def _bit(self, what: str) -> np.uint32:
        return np.uint32(1 << list(self._known).index(what))

    def _marked(self, bit: int) -> NDArray[np.uint32]:
        return self._marks & np.uint32(1 << bit)

    def _count(self, bit: int) -> int:
        return int(np.count_nonzero(self._marked(bit)))


def _pictures(count: int) -> str:
    return "1 image" if count == 1 else f"{count} images"


OUTSIDE_VIEW = (
    "no object is in the part of the image that the network sees, so the image is skipped"
)
"""Found of images whose objects are all outside the network's view."""


def without_objects(source: object, lacking: Sequence[str], of: int, what: str) -> list[str]:
    """Say of which images of the run nothing is known, in a line; none where there are none.

    Args:
        source: The file or folder that says where objects are.
        lacking: The images.
        of: How many images the run has.
        what: What they lack: ``"box"`` or ``"mask"``.
    """
    if not lacking:
        return []
    have = "has" if len(lacking) == 1 else "have"
    return [
        f"{source}: {len(lacking)} of {of} images {have} no {what}, so measures that need one skip "
        f"them, e.g. {lacking[0]}"
    ]
