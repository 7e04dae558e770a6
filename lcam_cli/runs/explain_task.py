"""What is explained, and how: the same on every rank and for every part of the images."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from lcam_cli.engine.engine import Engine
from lcam_cli.images.find import Found
from lcam_cli.maps.paths import stored_path
from lcam_cli.maps.record import Shard
from lcam_cli.methods.base import Method
from lcam_cli.methods.explain import ClassChoice, explained_at_once


@dataclass(frozen=True)
class Part:
    """Some of a task's images, and the file or folder that their maps go to.

    Attributes:
        out: What the user, or the plan of a shared run, names.
        pictures: Which of the task's images.
        shard: What a file of some of the images says of itself; None for one of all.
    """

    out: Path
    pictures: range
    shard: Shard | None = None


@dataclass(frozen=True)
class ExplainTask:
    """Pictures, and how they are explained.

    Attributes:
        engine: Runs the classifier.
        method: Makes the maps.
        found: The images, and the inputs that lead nowhere.
        choice: Which classes of an image are explained.
    """

    engine: Engine
    method: Method
    found: Found
    choice: ClassChoice

    @cached_property
    def names(self) -> list[str]:
        """What the images are called in the rows."""
        return [self.row_path(path) for path in self.found.paths]

    @property
    def batch_size(self) -> int:
        """Pictures a batch."""
        return explained_at_once(self.engine, self.method)

    def row_path(self, path: str) -> str:
        """What an image is called in the rows."""
        return stored_path(path, self.found.root)

    def all_pictures(self, out: Path) -> Part:
        """All images, in one output."""
        return Part(out, range(len(self.found.paths)))

    def part(self, out: Path, pictures: range) -> Part:
        """Some of the images, in a file that says which."""
        return Part(out, pictures, self.describe(pictures))

    def describe(self, pictures: range) -> Shard:
        """What a file of some of the images says of itself."""
        return Shard.of(pictures, self.names, repr(self.choice))
