"""Which image formats are read: a line a family, and what installed packages bring.

A package brings one by an entry point of the group ``lcam.formats`` that names a class derived from
:class:`lcam_cli.images.picture.PictureFormat`. Reading processes look for entry points only where a
file is of none of the families here: that takes a while, and most runs never need it.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from lcam_cli.errors import LcamError
from lcam_cli.extras import is_installed
from lcam_cli.images.dicom import DicomFormat
from lcam_cli.images.heif import Heif
from lcam_cli.images.npy import Npy
from lcam_cli.images.parquet import Parquet
from lcam_cli.images.picture import PictureFormat
from lcam_cli.images.pillow import PillowFormats
from lcam_cli.images.tiff import Tiff

GROUP = "lcam.formats"

PILLOW = PillowFormats()

_OF_EXTRAS: Sequence[tuple[str, PictureFormat]] = [
    ("pydicom", DicomFormat()),
    ("pillow_heif", Heif()),
    ("pyarrow", Parquet()),
    ("tifffile", Tiff()),
]
"""The families that an extra brings, each with the package that it needs."""

FORMATS: Sequence[PictureFormat] = [
    PILLOW,
    Npy(),
    *(family for package, family in _OF_EXTRAS if is_installed(package)),
]
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
        extension for one in (*FORMATS, *plugin_formats().families) for extension in one.extensions
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


def format_of_several(name: str, head: Callable[[], bytes]) -> PictureFormat | None:
    """Return the family that numbers the images of a file; None where a file is one image.

    Args:
        name: Of the file, or its path.
        head: Gives its first bytes; called where the name does not tell.
    """
    families = _several(plugin_formats().families)
    extension = extension_of(name) if families else ""
    if not families or extension in PILLOW.extensions:
        return None
    if extension in picture_extensions():
        return next((one for one in families if extension in one.extensions), None)
    first = head()
    return next((one for one in families if one.recognises(first)), None)


def is_table(extension: str) -> bool:
    """Whether files of this extension are tables of images."""
    several = _several(plugin_formats().families)
    return any(one.is_table and extension in one.extensions for one in several)


@functools.cache
def _several(plugins: tuple[PictureFormat, ...]) -> tuple[PictureFormat, ...]:
    return tuple(one for one in (*FORMATS, *plugins) if one.holds_several)


def decoder_of(path: str) -> str:
    """Return what to call that which reads a file, in a message.

    Args:
        path: Of the file.
    """
    extension = extension_of(path)
    if extension in PILLOW.extensions:
        return PILLOW.name
    return next((one.name for one in _others() if extension in one.extensions), PILLOW.name)


def is_recognised(head: bytes) -> bool:
    """Whether a file that begins with these bytes is one of a family other than Pillow's."""
    return any(one.recognises(head) for one in _others())


def needs_no_extension(head: bytes) -> bool:
    """Whether a file that begins with these bytes is an image in a folder, whatever its name."""
    return any(one.needs_no_extension and one.recognises(head) for one in _others())


def _others() -> tuple[PictureFormat, ...]:
    return *FORMATS[1:], *plugin_formats().families


@dataclass(frozen=True)
class PluginFormats:
    """What installed packages bring.

    Attributes:
        families: Those that load, in order of their names.
        failures: One line about each of the others.
        ignored: Extensions of families that others have before them, by a line that says so.
    """

    families: tuple[PictureFormat, ...]
    failures: tuple[str, ...]
    ignored: Mapping[str, frozenset[str]]

    def warn(self, paths: Iterable[str]) -> None:
        """Warn of what does not load and, where a run has files of them, of extensions ignored.

        Args:
            paths: The run's images.
        """
        extensions = {extension_of(path) for path in paths} if self.ignored else set()
        for line, ignored in self.ignored.items():
            if here := sorted(ignored & extensions):
                log.warning("%s: %s", line, ", ".join(here), extra={"once": True})
        for line in self.failures:
            log.warning("%s", line, extra={"once": True})


@functools.cache
def plugin_formats() -> PluginFormats:
    """Load the families that installed packages bring.

    An extension that is not free stays with whoever has it.
    """
    # Late: reading processes start sooner without.
    from lcam_cli.images.plugin_format import load_format  # noqa: PLC0415
    from lcam_cli.plugins import entry_points_of, plugin_name  # noqa: PLC0415

    taken = {extension for one in FORMATS for extension in one.extensions}
    found: list[PictureFormat] = []
    failures: list[str] = []
    ignored: dict[str, frozenset[str]] = {}
    for point in entry_points_of(GROUP).values():
        try:
            plugin = load_format(point)
        except LcamError as error:
            failures.append(error.what + (f"; {error.hint}" if error.hint else ""))
            continue
        if not_free := taken.intersection(plugin.extensions):
            name = plugin_name(point, "image format")
            ignored[f"{name} is ignored for extensions that other formats read"] = frozenset(
                not_free
            )
        taken.update(plugin.extensions)
        found.append(plugin)
    return PluginFormats(tuple(found), tuple(failures), ignored)
