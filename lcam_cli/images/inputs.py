"""From what a program has at hand to pictures: paths, folders, Pillow pictures, arrays, tensors."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lcam_cli.errors import LcamError
from lcam_cli.images.find import find_images
from lcam_cli.images.formats import extension_of, picture_extensions
from lcam_cli.images.pillow import upright_rgb

_WANTED = (
    "a path, a folder, a Pillow picture, an array (H, W, 3) or a tensor (3, H, W), or a list of "
    "those"
)
_SLACK = 1e-3


def pictures_of(given: object) -> list[str | Image.Image]:
    """Return pictures, in order, as paths of files or in mode RGB.

    Args:
        given: One picture or several. A path (``str`` or ``os.PathLike``) of a folder stands for
            the pictures in it. A Pillow picture is turned upright by its EXIF orientation. Arrays
            are (H, W), (H, W, 1) or (H, W, 3), or (N, H, W, 3) for several; tensors (H, W),
            (1, H, W) or (3, H, W), or (B, 3, H, W): uint8, uint16, or floats in [0, 1].

    Raises:
        LcamError: Values or a shape that no picture has, or a folder without pictures.
        TypeError: Something else.
    """
    return list(_each(given))


def _each(given: object) -> Iterator[str | Image.Image]:
    if isinstance(given, str | os.PathLike):
        yield from _of_path(os.fspath(given))
    elif isinstance(given, Image.Image):
        yield upright_rgb(given)[0]
    elif hasattr(given, "detach") and hasattr(given, "cpu"):  # a tensor; torch is not needed here
        yield from _of_tensor(given)
    elif isinstance(given, np.ndarray) and given.dtype.kind in "buif":
        yield from _of_array(given)
    elif isinstance(given, Iterable) and not isinstance(given, dict | bytes):
        for one in given:
            yield from _each(one)
    else:
        raise TypeError(f"a picture is {_WANTED}, not a {type(given).__name__}")


def _of_path(path: str | bytes) -> list[str]:
    name = os.fsdecode(path)
    # Most have a picture's extension, and are not looked at before they are read.
    is_file = extension_of(name) in picture_extensions()
    return find_images([name]).paths if not is_file and os.path.isdir(name) else [name]  # noqa: PTH112


def _of_tensor(tensor: Any) -> Iterator[Image.Image]:
    if str(tensor.dtype) == "torch.bfloat16":  # which NumPy does not have
        tensor = tensor.float()
    values = tensor.detach().cpu().numpy()
    shape = values.shape
    if values.ndim == 2:
        yield from _of_array(values)
    elif values.ndim in (3, 4) and shape[-3] in (1, 3):
        yield from _of_array(np.moveaxis(values, -3, -1))
    else:
        raise LcamError(
            f"a tensor of shape {shape} is no picture", "give (3, H, W) or (B, 3, H, W)"
        )


def _of_array(values: NDArray[Any]) -> Iterator[Image.Image]:
    colour = values.ndim in (3, 4) and values.shape[-1] in (1, 3)
    if values.size == 0 or not (colour or values.ndim == 2):
        raise LcamError(
            f"an array of shape {values.shape} is no picture",
            "give (H, W, 3), or (N, H, W, 3) for several; a tensor may be (3, H, W)",
        )
    if values.ndim == 4:
        for one in values:
            yield from _of_array(one)
        return
    levels = _in_8_bits(values)
    yield Image.fromarray(levels[..., 0] if levels.shape[2:] == (1,) else levels).convert("RGB")


def _in_8_bits(values: NDArray[Any]) -> NDArray[np.uint8]:
    if values.dtype == np.uint8:
        return np.ascontiguousarray(values)
    low, high = float(values.min()), float(values.max())
    white = {"b": 1.0, "f": 1.0}.get(values.dtype.kind, 255.0)
    if values.dtype == np.uint16:
        white = 65535.0
    if not (low >= -_SLACK and high <= white + _SLACK):  # written so that NaN fails too
        raise LcamError(
            f"a picture of {values.dtype} has values from {low:g} to {high:g}",
            "give uint8 from 0 to 255, or floats from 0 to 1, before any normalisation",
        )
    scaled = values.astype(np.float64) * (255 / white)
    levels: NDArray[np.uint8] = np.rint(scaled.clip(0, 255)).astype(np.uint8)
    return levels
