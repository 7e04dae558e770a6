"""What inputs hold that is not taken, though somebody may miss it, and how it is reported."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from lcam_cli.errors import plural
from lcam_cli.images.unread import Unread


@dataclass
class PassedOver:
    """What the inputs hold that is not taken, though somebody may miss it.

    Attributes:
        twice: Paths that were named before, by themselves or with their folder.
        linked: Links to folders inside of folders.
        tables: Tables in folders that hold no images.
        arrays: Arrays in folders whose shape is no image's, such as features.
        notes: What there is to say about single files.
        own: Images that lcam wrote itself: how many of which kind, and in which folder.
        unread: Images and scans that are not read.
    """

    twice: int = 0
    linked: list[str] = field(default_factory=list)
    tables: list[str] = field(default_factory=list)
    arrays: list[str] = field(default_factory=list)
    notes: dict[str, str] = field(default_factory=dict)
    own: Counter[tuple[str, str]] = field(default_factory=Counter)
    unread: Unread = field(default_factory=Unread)

    def add(self, other: PassedOver, place: str) -> None:
        """Note what a folder, as it was named, holds."""
        self.linked += other.linked
        self.arrays += other.arrays
        self.own += other.own
        self.unread.add(other.unread.extensions, place)

    def lines(self) -> list[str]:
        """Return a line for each of those that there is."""
        lines = []
        if self.twice:
            paths = "1 path was" if self.twice == 1 else f"{self.twice} paths were"
            lines.append(f"{paths} named twice: each path counts once")
        if self.linked:
            count = len(self.linked)
            folders = "1 link to a folder" if count == 1 else f"{count} links to folders"
            example = _example(self.linked)
            lines.append(f"skipped {folders}: {example} (to follow a link, name the link itself)")
        for found, what, why in (
            (self.tables, "table", "without images"),
            (self.arrays, "array", "that are not images"),
        ):
            if found:
                lines.append(f"skipped {plural(len(found), what)} {why}: {_example(found)}")
        if self.notes:
            path, note = min(self.notes.items())
            more = len(self.notes) - 1
            lines.append(f"{path}: {note}{f', and {more} more like it' if more else ''}")
        if self.own:
            lines.append(f"skipped lcam's own images: {self.own_in_words()}")
        return [*lines, *filter(None, [self.unread.line()])]

    def own_in_words(self) -> str:
        """Return e.g. ``12 overlays in photos/overlays, 1 figure in photos``."""
        return ", ".join(
            f"{plural(count, kind)} in {folder}" for (kind, folder), count in self.own.items()
        )


def _example(paths: list[str]) -> str:
    return f"{min(paths)}{' …' if len(paths) > 1 else ''}"
