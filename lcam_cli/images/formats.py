"""Which picture formats are read: a line a family, and what installed packages bring.

A package brings one by an entry point of the group ``lcam.formats`` that names a class derived from
:class:`lcam_cli.images.picture.PictureFormat`. Reading processes look for entry points only where a
file is of none of the families here: that takes a while, and most runs never need it.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterator

from lcam_cli.errors import LcamError
from lcam_cli.images.picture import PictureFormat
from lcam_cli.images.pillow import PillowFormats

GROUP = "lcam.formats"

PILLOW = PillowFormats()

FORMATS: tuple[PictureFormat, ...] = (PILLOW,)
"""The families that come along."""

_DOUBLE_EXTENSIONS = (".nii.gz", ".tar.gz")

log = logging.getLogger("lcam")


def extension_of(name: str) -> str:
    """Return the extension, lower case with the dot: ``.nii.gz`` too; empty where there is none.

    Args:
        name: Of a file, or its path.
    """
    lower = name.lower().rpartition("/")[2]
    for double in _DOUBLE_EXTENSIONS:
        if lower.endswith(double):
            return double
    stem, dot, extension = lower.rpartition(".")
    return dot + extension if stem else ""


@functools.cache
def picture_extensions() -> frozenset[str]:
    """Return the extensions of all that is read, lower case with the dot, e.g. ``".jpg"``."""
    return frozenset(
        extension for one in (*FORMATS, *plugin_formats()) for extension in one.extensions
    )


def formats_for(extension: str, head: bytes) -> Iterator[PictureFormat]:
    """Yield the families that may read a file, in the order in which to ask them.

    Names may lie. So the extension decides where the first bytes agree or do not tell; else Pillow
    has a look at the file, and then whoever recognises its first bytes.

    Args:
        extension: Of its name, as :func:`extension_of` gives it.
        head: Its first bytes.
    """
    named = None
    if extension and extension not in PILLOW.extensions:
        named = next((one for one in _others() if extension in one.extensions), None)
        if named is not None and named.recognises(head) is not False:
            yield named
    yield PILLOW
    for one in _others():
        if one is not named and one.recognises(head):
            yield one


def is_recognised(head: bytes) -> bool:
    """Whether a file that begins with these bytes is one of a family other than Pillow's."""
    return any(one.recognises(head) for one in _others())


def _others() -> tuple[PictureFormat, ...]:
    return *FORMATS[1:], *plugin_formats()


@functools.cache
def plugin_formats() -> tuple[PictureFormat, ...]:
    """Return the families that installed packages bring, in order of their names.

    One that does not load is warned of and left out; an extension that is not free stays with
    whoever has it.
    """
    # Late: reading processes start sooner without.
    from lcam_cli.images.plugin_format import load_format  # noqa: PLC0415
    from lcam_cli.plugins import entry_points_of  # noqa: PLC0415

    taken = {extension for one in FORMATS for extension in one.extensions}
    found: list[PictureFormat] = []
    for name, point in entry_points_of(GROUP).items():
        try:
            plugin = load_format(point)
        except LcamError as error:
            log.warning("%s", error.what, extra={"once": True})
            continue
        if not_free := taken.intersection(plugin.extensions):
            log.warning(
                "the plug-in picture format %r (%s) takes extensions that others have: %s",
                *(name, point.value, ", ".join(sorted(not_free))),
                extra={"once": True},
            )
        taken.update(plugin.extensions)
        found.append(plugin)
    return tuple(found)
