"""A picture format that another package brings: whatever goes wrong in it is said with its name."""

from __future__ import annotations

import math
from importlib.metadata import EntryPoint
from numbers import Real
from typing import Any, BinaryIO, cast

from PIL import Image

from lcam_cli.errors import BadImageError, LcamError, one_line
from lcam_cli.images.picture import Picture, PictureFormat, ReadOptions
from lcam_cli.images.rgb import Levels
from lcam_cli.plugins import load, plugin_code, plugin_name


def load_format(point: EntryPoint) -> PictureFormat:
    """Import the class that an entry point names, and make one.

    Raises:
        LcamError: It fails; one line says how.
    """
    loaded = load(point, "picture format")
    begin = f"{plugin_name(point, 'picture format')} does not load"
    if not (isinstance(loaded, type) and issubclass(loaded, PictureFormat)):
        raise LcamError(f"{begin}: {point.value} is no class derived from PictureFormat")
    with plugin_code(begin, point.module, hint="", but=()):
        plugin = loaded()
        extensions: object = plugin.extensions
    if _are_extensions(extensions):
        return _Plugin(point, plugin)
    raise LcamError(f"{begin}: its extensions are not like ('.npy',)")


def _are_extensions(given: object) -> bool:
    """Whether something is a collection of extensions."""
    if not isinstance(given, tuple | list | set | frozenset):
        return False
    return all(isinstance(one, str) and one[:1] == "." != one for one in given)


class _Plugin(PictureFormat):
    def __init__(self, point: EntryPoint, plugin: PictureFormat) -> None:
        self.extensions = frozenset(extension.lower() for extension in plugin.extensions)
        self._plugin = plugin
        self._module = point.module
        self.name = f"the plug-in picture format {point.name!r}"
        self._failed = f"{self.name} failed"

    def recognises(self, head: bytes) -> bool | None:
        try:
            with plugin_code(self._failed, self._module, but=()):
                answer: object = self._plugin.recognises(head)
                return None if answer is None else bool(answer)
        except LcamError:  # it is named where a file of its extension is read
            return None

    def read(self, file: BinaryIO, options: ReadOptions) -> Picture:
        try:
            with plugin_code(self._failed, self._module, but=(BadImageError, MemoryError)):
                picture: Any = self._plugin.read(file, options)
        except BadImageError as error:
            raise BadImageError(one_line(error)) from error
        except LcamError as error:
            raise BadImageError(error.what) from error
        if why := _what_is_wrong(picture):
            raise BadImageError(f"{self._failed}: {why}")
        return cast(Picture, picture)


def _what_is_wrong(picture: Any) -> str:
    """What in a plug-in's picture is of another kind than it has to be; empty where nothing is."""
    if not isinstance(picture, Picture):
        return "it returned no Picture"
    pixels, levels = cast(Any, picture.pixels), cast(Any, picture.levels)
    if not isinstance(pixels, Image.Image):
        return f"its pixels are a {type(pixels).__name__}, no Pillow picture"
    if levels is None or (isinstance(levels, Levels) and _are_in_order(levels)):
        return ""
    return f"its levels are {levels!r:.90}, no Levels with black ≤ low ≤ high ≤ white"


def _are_in_order(levels: Levels) -> bool:
    values: Any = (levels.black, levels.low, levels.high, levels.white)
    if not all(isinstance(value, Real) and math.isfinite(value) for value in values):
        return False
    return list(values) == sorted(values)
