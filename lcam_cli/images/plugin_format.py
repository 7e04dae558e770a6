"""An image format that another package brings: whatever goes wrong in it is said with its name."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import EntryPoint
from numbers import Real
from typing import Any, BinaryIO, cast

import numpy as np
from PIL import Image

from lcam_cli.errors import BadImageError, LcamError, one_line
from lcam_cli.images.picture import Picture, PictureFormat, ReadOptions
from lcam_cli.images.rgb import Levels
from lcam_cli.plugins import load, plugin_code, plugin_name

_MOST_DIGITS = 9


def load_format(point: EntryPoint) -> PictureFormat:
    """Import the class that an entry point names, and make one.

    Raises:
        LcamError: It fails; one line says how.
    """
    loaded = load(point, "image format")
    begin = f"{plugin_name(point, 'image format')} does not load"
    if not (isinstance(loaded, type) and issubclass(loaded, PictureFormat)):
        raise LcamError(f"{begin}: {point.value} is not a subclass of PictureFormat")
    with plugin_code(begin, point.module, hint="", but=()):
        plugin = loaded()
        extensions: object = plugin.extensions
        digits: object = plugin.digits
    if not _are_extensions(extensions):
        raise LcamError(f"{begin}: its extensions are not like ('.fits',)")
    if not isinstance(digits, int) or not 1 <= digits <= _MOST_DIGITS:
        raise LcamError(f"{begin}: its digits are {digits!r:.90}, not 1 to {_MOST_DIGITS}")
    return _Plugin(point, plugin)


def _are_extensions(given: object) -> bool:
    """Whether something is a collection of extensions."""
    if not isinstance(given, tuple | list | set | frozenset):
        return False
    return all(isinstance(one, str) and one[:1] == "." != one for one in given)


class _Plugin(PictureFormat):
    def __init__(self, point: EntryPoint, plugin: PictureFormat) -> None:
        self.extensions = frozenset(extension.lower() for extension in plugin.extensions)
        self.holds_several = bool(plugin.holds_several)
        self.digits = plugin.digits
        self.is_table = bool(plugin.is_table)
        self.needs_no_extension = bool(plugin.needs_no_extension)
        self._plugin = plugin
        self._module = point.module
        self.name = f"the plug-in image format {point.name!r}"
        self._failed = f"{self.name} failed"

    def recognises(self, head: bytes) -> bool | None:
        try:
            with plugin_code(self._failed, self._module, but=()):
                answer: object = self._plugin.recognises(head)
                return None if answer is None else bool(answer)
        except LcamError:  # it is named where a file of its extension is read
            return None

    def count(self, file: BinaryIO) -> int:
        with self._failing_in_one_line():
            number: object = self._plugin.count(file)
        if not isinstance(number, int):
            raise BadImageError(f"{self._failed}: it counts {number!r:.90} images")
        return number

    def note(self, file: BinaryIO) -> str:
        with self._failing_in_one_line():
            return " ".join(str(self._plugin.note(file)).split())

    def extract(self, file: BinaryIO, number: int) -> bytes:
        with self._failing_in_one_line():
            content: object = self._plugin.extract(file, number)
        if not isinstance(content, bytes):
            raise BadImageError(f"{self._failed}: it extracted a {type(content).__name__}")
        return content

    def read(self, file: BinaryIO, options: ReadOptions) -> Picture:
        with self._failing_in_one_line():
            picture: Any = self._plugin.read(file, options)
        if why := _what_is_wrong(picture):
            raise BadImageError(f"{self._failed}: {why}")
        return _of_plain_array(picture)

    @contextlib.contextmanager
    def _failing_in_one_line(self) -> Iterator[None]:
        try:
            with plugin_code(self._failed, self._module, but=(BadImageError, MemoryError)):
                yield
        except BadImageError as error:
            raise BadImageError(one_line(error)) from error
        except LcamError as error:
            raise BadImageError(error.what) from error


def _of_plain_array(picture: Picture) -> Picture:
    """Return an image whose array, where it has one, is of NumPy's own class."""
    if isinstance(picture.pixels, np.ndarray):
        return replace(picture, pixels=np.asarray(picture.pixels))
    return picture


def _what_is_wrong(picture: Any) -> str:
    """What in a plug-in's image is of another kind than it has to be; empty where nothing is."""
    if not isinstance(picture, Picture):
        return "it did not return a Picture"
    pixels, levels = cast(Any, picture.pixels), cast(Any, picture.levels)
    if isinstance(pixels, np.ndarray):
        if pixels.dtype.kind not in "buif" or pixels.ndim not in (2, 3) or pixels.size == 0:
            return f"an array {pixels.shape} of {pixels.dtype} is not an image"
    elif not isinstance(pixels, Image.Image):
        return f"its pixels are a {type(pixels).__name__}, not a Pillow image or an array"
    if levels is not None and not (isinstance(levels, Levels) and _are_in_order(levels)):
        return f"its levels are {levels!r:.90}, not Levels with low ≤ high and black ≤ white"
    inverted: object = picture.inverted
    return "" if isinstance(inverted, bool) else f"inverted is {inverted!r:.90}, not a bool"


def _are_in_order(levels: Levels) -> bool:
    values: Any = tuple(levels)
    if not all(isinstance(value, Real) and math.isfinite(value) for value in values):
        return False
    return levels.low <= levels.high and levels.black <= levels.white
