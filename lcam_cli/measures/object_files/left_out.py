"""What a run finds wrong with pictures' objects, counted picture by picture, told at its end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

_MOST = 31  # as many bits as there are to mark a picture with


class Findings:
    """Marks pictures by what was found of their objects.

    However often a picture is looked at, once for each class or once more after a failure, it is
    counted once.

    Args:
        source: The file or folder that says where objects are.
        pictures: What the pictures are called.
    """

    def __init__(self, source: object, pictures: Sequence[str]) -> None:
        self._source = source
        self._pictures = pictures
        self._marks = np.zeros(len(pictures), np.uint32)
        self._known: dict[str, str] = {}  # by what was found, an example

    def add(self, picture: int, what: str, more: str = "") -> None:
        """Note something of a picture.

        Args:
            picture: Its place.
            what: What was found, in words that are the same for all such pictures.
            more: What is to be said of this one, where it serves as the example.
        """
        if what not in self._known:
            if len(self._known) == _MOST:
                return
            self._known[what] = f"{self._pictures[picture]}{f' ({more})' if more else ''}"
        self._marks[picture] |= self._bit(what)

    def known(self) -> list[list[Any]]:
        """What was found so far, as a JSON value: a text, an example and the pictures each."""
        return [
            [what, example, np.flatnonzero(self._marked(bit)).tolist()]
            for bit, (what, example) in enumerate(self._known.items())
        ]

    def take_over(self, known: Sequence[Sequence[Any]]) -> None:
        """Note what others found of the same pictures, or an earlier run.

        Args:
            known: As :meth:`known` gives it.
        """
        for what, example, pictures in known:
            if what in self._known or len(self._known) < _MOST:
                self._known.setdefault(what, example)
                self._marks[pictures] |= self._bit(what)

    def lines(self) -> list[str]:
        """What was found, a line each, with how many pictures and an example."""
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
    return "1 picture" if count == 1 else f"{count} pictures"


OUTSIDE_VIEW = "no object lies in what the network sees, so the picture is left out"
"""Found of pictures whose objects are all outside the network's view."""


def without_objects(source: object, lacking: Sequence[str], of: int, what: str) -> list[str]:
    """Say of which pictures of the run nothing is known, in a line; none where there are none.

    Args:
        source: The file or folder that says where objects are.
        lacking: The pictures.
        of: How many pictures the run has.
        what: What they lack: ``"box"`` or ``"mask"``.
    """
    if not lacking:
        return []
    have = "has" if len(lacking) == 1 else "have"
    return [
        f"{source}: {len(lacking)} of {of} pictures {have} no {what}, so the measures that ask for "
        f"one leave them out, e.g. {lacking[0]}"
    ]
