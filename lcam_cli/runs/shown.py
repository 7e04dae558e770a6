"""Which images and methods a figure shows: those that ``--show`` names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePosixPath

from lcam_cli.errors import LcamError, near_names


def split_shown(named: Sequence[str], methods: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return which of the names are images', and which are methods'."""
    chosen = [name for name in named if name in methods]
    return [name for name in named if name not in methods], chosen


def chosen_images(named: Sequence[str], images: Sequence[str], methods: Sequence[str]) -> list[int]:
    """Return the positions of the images that are named, in the order of the names.

    Args:
        named: An image's path as rows have it, its file's name, or that without the extension.
        images: The images' paths, as rows have them.
        methods: The methods of the figure, for messages.

    Raises:
        LcamError: No image has such a name.
    """
    found: list[int] = []
    for name in named:
        places = [
            i
            for i, image in enumerate(images)
            if name in (image, PurePosixPath(image).name, PurePosixPath(image).stem)
        ]
        if not places:
            known = [*images, *(PurePosixPath(image).name for image in images), *methods]
            near = near_names(name, known)
            raise LcamError(
                f"--show {name}: this comparison has no image or method of that name",
                f"did you mean {near[0]}?" if near else "give an image's file name, e.g. cat.jpg",
            )
        found += places
    return list(dict.fromkeys(found))
