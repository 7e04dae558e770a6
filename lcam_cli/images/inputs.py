"""From what a program has at hand to images: paths, folders, Pillow images, arrays, tensors."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lcam_cli.errors import LcamError
from lcam_cli.images.find import find_images
from lcam_cli.images.formats import extension_of, picture_extensions
from lcam_cli.images.picture import Picture
from lcam_cli.images.pillow import upright
from lcam_cli.images.preprocess import Window
from lcam_cli.images.rgb import Levels
from lcam_cli.images.several import family_of

_WANTED = (
    "a path, a folder, a Pillow image, an array (H, W, 3) or a tensor (3, H, W), or a list of them"
)
_SLACK = 1e-3
_GREY_AND_COLOUR = (1, 3)


def pictures_of(given: object, channels: int = 3, window: Window = "auto") -> list[str | Picture]:
    """Return images, in order, as paths of files or what they hold.

    Args:
        given: One image or several. A path (``str`` or ``os.PathLike``) of a folder stands for
            the images in it. A Pillow image is turned upright by its EXIF orientation. Arrays
            are (H, W) or (H, W, C), or (N, H, W, C) for several; tensors (H, W) or (C, H, W), or
            (B, C, H, W); C is 1, 3, or the network's. Of uint8, of uint16, or of floats in [0, 1];
            of any numbers where a window is given. uint16 and floats keep their depth.
        channels: How many the network takes.
        window: The values that become 0 and 1; ``"auto"`` for those of the type.

    Raises:
        LcamError: Values or a shape that no image has, or a folder without images.
        TypeError: Something else.
    """
    return list(_each(given, _Wanted(channels, window)))


@dataclass(frozen=True)
class _Wanted:
    channels: int
    window: Window

    def has_channels(self, number: int) -> bool:
        return number in (*_GREY_AND_COLOUR, self.channels)


def _each(given: object, wanted: _Wanted) -> Iterator[str | Picture]:
    if isinstance(given, str | os.PathLike):
        yield from _of_path(os.fspath(given))
    elif isinstance(given, Image.Image):
        yield upright(given, wanted.window)
    elif hasattr(given, "detach") and hasattr(given, "cpu"):  # a tensor; torch is not needed here
        yield from _of_tensor(given, wanted)
    elif isinstance(given, np.ndarray) and given.dtype.kind in "buif":
        yield from _of_array(given, wanted)
    elif isinstance(given, Iterable) and not isinstance(given, dict | bytes):
        for one in given:
            yield from _each(one, wanted)
    else:
        raise TypeError(f"an image is {_WANTED}, not a {type(given).__name__}")


def _of_path(path: str | bytes) -> list[str]:
    name = os.fsdecode(path)
    # Most have an image's extension, and are not looked at before they are read.
    is_file = extension_of(name) in picture_extensions()
    holds_more = os.path.isfile(name) if family_of(name) else not is_file and os.path.isdir(name)  # noqa: PTH112, PTH113
    return find_images([name]).paths if holds_more else [name]


def _of_tensor(tensor: Any, wanted: _Wanted) -> Iterator[Picture]:
    if str(tensor.dtype) == "torch.bfloat16":  # which NumPy does not have
        tensor = tensor.float()
    values = tensor.detach().cpu().numpy()
    shape = values.shape
    if values.ndim == 2:
        yield from _of_array(values, wanted)
    elif values.ndim in (3, 4) and wanted.has_channels(shape[-3]):
        yield from _of_array(np.moveaxis(values, -3, -1), wanted)
    else:
        channels = wanted.channels
        raise LcamError(
            f"a tensor of shape {shape} is not an image",
            f"pass ({channels}, H, W) or (B, {channels}, H, W)",
        )


def _of_array(values: NDArray[Any], wanted: _Wanted) -> Iterator[Picture]:
    has_channels = values.ndim in (3, 4) and wanted.has_channels(values.shape[-1])
    if values.size == 0 or not (has_channels or values.ndim == 2):
        channels = wanted.channels
        raise LcamError(
            f"an array of shape {values.shape} is not an image",
            f"pass (H, W, {channels}), or (N, H, W, {channels}) for several images; a tensor may "
            f"be ({channels}, H, W)",
        )
    if values.ndim == 4:
        for one in values:
            yield from _of_array(one, wanted)
    elif wanted.window == "auto":
        yield _in_range_of_type(values)
    else:
        yield Picture(values)


def _in_range_of_type(values: NDArray[Any]) -> Picture:
    """Return an array as an image: floats are 0 to 1, whole numbers 0 to 255, uint16 to 65535."""
    if values.dtype in (np.uint8, np.bool_):
        return Picture(values)
    low, high = float(values.min()), float(values.max())
    white = {"f": 1.0}.get(values.dtype.kind, 255.0)
    if values.dtype == np.uint16:
        white = 65535.0
    if not (low >= -_SLACK and high <= white + _SLACK):  # written so that NaN fails too
        raise LcamError(
            f"an image of {values.dtype} has values from {low:g} to {high:g}",
            "pass uint8 from 0 to 255, or floats from 0 to 1, before any normalisation; or set "
            "the window of your values in the preprocessing",
        )
    if white == 255.0:
        return Picture(values.astype(np.uint8))
    return Picture(values, Levels(low, high, 0.0, white))
