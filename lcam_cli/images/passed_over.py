"""What inputs hold that is not taken, though somebody may miss it, and how it is reported."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from lcam_cli.images.unread import Unread


@dataclass
class PassedOver:
    """What the inputs hold that is not taken, though somebody may miss it.

    Attributes:
        twice: Paths that were named before, by themselves or with their folder.
        linked: Links to folders inside of folders.
        own: Pictures that lcam wrote itself: how many of which kind, and in which folder.
        unread: Pictures and scans that are not read.
    """

    twice: int = 0
    linked: list[str] = field(default_factory=list)
    own: Counter[tuple[str, str]] = field(default_factory=Counter)
    unread: Unread = field(default_factory=Unread)

    def add(self, other: PassedOver, place: str) -> None:
        """Note what a folder, as it was named, holds."""
        self.linked += other.linked
        self.own += other.own
        self.unread.add(other.unread.extensions, place)

    def lines(self) -> list[str]:
        """Return a line for each of the four that there is."""
        lines = []
        if self.twice:
            paths = "1 path was" if self.twice == 1 else f"{self.twice} paths were"
            lines.append(f"{paths} named twice: each picture counts once a path")
        if self.linked:
            count = len(self.linked)
            folders = "1 link to a folder" if count == 1 else f"{count} links to folders"
            shown = f"{min(self.linked)}{' …' if count > 1 else ''}"
            lines.append(f"{folders} passed over: {shown} (named itself, a link is followed)")
        if self.own:
            lines.append(f"lcam's own pictures passed over: {self.own_in_words()}")
        return [*lines, *filter(None, [self.unread.line()])]

    def own_in_words(self) -> str:
        """Return e.g. ``12 overlays in photos/overlays, 1 figure in photos``."""
        return ", ".join(
            f"{count} {kind}{'s' * (count > 1)} in {folder}"
            for (kind, folder), count in self.own.items()
        )
