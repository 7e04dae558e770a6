"""Where a page comes from: the command that wrote it, and the files that its images are of."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from urllib.parse import quote

from lcam_cli.maps.record import Tiled
from lcam_cli.reports.text import printable, tiled_words

ALIGNED = "by receptive fields"
"""How maps are placed where nothing else is said."""


@dataclass(frozen=True)
class Origin:
    """What a page's head says of its run, and what its links need.

    Attributes:
        command: The command as it was typed; empty where there was none, as from Python.
        root: The folder that the paths of images are relative to, absolute; None leaves out the
            links to the originals.
    """

    command: str = ""
    root: str | None = None

    def link(self, page: Path, row_path: str) -> str:
        """Return the address of an image's original, relative to a page.

        Every byte that is not plain is escaped, a colon too: a name can be no other address.

        Args:
            page: The page's folder.
            row_path: The image, relative to the root or absolute.

        Returns:
            The address; empty where there is no such file, as of images in a tar.
        """
        if self.root is None or "\0" in row_path:
            return ""
        original = os.path.join(self.root, row_path)  # noqa: PTH118
        if not os.path.isfile(original):  # noqa: PTH113
            return ""
        try:
            relative = os.path.relpath(original, os.path.abspath(page))  # noqa: PTH100
        except ValueError:  # on another drive
            return ""
        return quote(os.fsencode(relative.replace(os.sep, "/")), safe="/")


def written_now() -> str:
    """Return the date and time, to the minute, with the offset from UTC."""
    return datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %z")


def alignment_words(tiled: Mapping[str, Tiled | None]) -> str:
    """Return how the maps are placed over the images.

    Args:
        tiled: By method, why its cells tile the image; None where they do not.
    """
    return printable("; ".join(tiled_words(tiled)) or ALIGNED)
