"""A picture format that another package brings: whatever goes wrong in it is said with its name."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from typing import BinaryIO

from PIL import Image

from lcam_cli.errors import BadImageError, LcamError
from lcam_cli.images.picture import Picture, PictureFormat, ReadOptions
from lcam_cli.plugins import load


def load_format(point: EntryPoint) -> PictureFormat:
    """Import the class that an entry point names, and make one.

    Raises:
        LcamError: It fails; one line says how.
    """
    loaded = load(point, "picture format")
    if not (isinstance(loaded, type) and issubclass(loaded, PictureFormat)):
        why = f"{point.value} is no class derived from PictureFormat"
    else:
        try:
            plugin = _Plugin(point.name, loaded())
        except Exception as error:  # the plug-in's code, as in all that follows
            why = _one_line(error)
        else:
            if all(extension[:1] == "." != extension for extension in plugin.extensions):
                return plugin
            why = "its extensions are not like ('.npy',)"
    raise LcamError(
        f"the plug-in picture format {point.name!r} ({point.value}) does not load: {why}"
    )


class _Plugin(PictureFormat):
    def __init__(self, name: str, plugin: PictureFormat) -> None:
        self.extensions = frozenset(extension.lower() for extension in plugin.extensions)
        self._name = name
        self._plugin = plugin

    def recognises(self, head: bytes) -> bool | None:
        try:
            return self._plugin.recognises(head)
        except Exception:  # it is named where a file of its extension is read
            return None

    def read(self, file: BinaryIO, options: ReadOptions) -> Picture:
        try:
            picture: object = self._plugin.read(file, options)
            if isinstance(picture, Picture) and isinstance(picture.pixels, Image.Image):
                return picture
            why = "it returned no Picture"
        except (BadImageError, MemoryError):
            raise
        except Exception as error:
            why = _one_line(error)
        raise BadImageError(f"the plug-in picture format {self._name!r} failed: {why}")


def _one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]
