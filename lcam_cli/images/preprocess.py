"""From an upright RGB picture of any size to the square the network sees, and back."""

from __future__ import annotations

import dataclasses
import reprlib
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lcam_cli.errors import LcamError

Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos"]
Fit = Literal["crop", "squash"]
CropBox = tuple[float, float, float, float]
"""x0, y0, x1, y1 of what the network sees, in pixels of the upright original."""

LARGEST_SIDE = 8192
"""Pixels: the largest network input, and the longest side ever resized to in full."""

RESAMPLING = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


@dataclass(frozen=True)
class Preprocess:
    """How a picture becomes the network's input; the defaults are torchvision's for ImageNet.

    Attributes:
        image_size: Height and width of the network's input, in pixels, 1 to 8192.
        resize: Length of the shorter side before the crop, in pixels, ``image_size`` to 8192.
        mean: Per channel (R, G, B), subtracted from values in 0..1.
        std: Per channel, above 0: what the difference is then divided by.
        interpolation: The resampling filter, always antialiased as Pillow does it.
        fit: ``"crop"`` sees the centre square, ``"squash"`` all of the picture, distorted.

    Raises:
        LcamError: A setting is of the wrong type or out of its range.
    """

    image_size: int = 224
    resize: int = 256
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    interpolation: Interpolation = "bilinear"
    fit: Fit = "crop"

    def __post_init__(self) -> None:
        for name in ("image_size", "resize"):
            value = getattr(self, name)
            whole = isinstance(value, int) and not isinstance(value, bool)
            if not whole or not 1 <= value <= LARGEST_SIDE:
                raise _wrong(name, value, f"a whole number of pixels from 1 to {LARGEST_SIDE}")
        if self.resize < self.image_size:
            raise _wrong("resize", self.resize, f"at least image_size, {self.image_size}")
        for name in ("mean", "std"):
            value = getattr(self, name)
            if not isinstance(value, tuple) or len(value) != 3 or not all(map(_is_finite, value)):
                raise _wrong(name, value, "three finite numbers")
        if min(self.std) <= 0:
            raise _wrong("std", self.std, "above 0")
        for name, choices in (("interpolation", Interpolation), ("fit", Fit)):
            value = getattr(self, name)
            if value not in get_args(choices):
                raise _wrong(name, value, f"one of {', '.join(get_args(choices))}")

    def to_json(self) -> dict[str, Any]:
        """Return the settings as a JSON object, a list for each tuple."""
        return dataclasses.asdict(self) | {"mean": list(self.mean), "std": list(self.std)}

    @classmethod
    def from_json(cls, settings: object) -> Preprocess:
        """Return what :meth:`to_json` wrote, trusting nothing about ``settings``.

        Raises:
            LcamError: Not an object, a setting missing or unknown, or a wrong value.
        """
        if not isinstance(settings, Mapping):
            raise LcamError(
                f"the preprocess settings are {reprlib.repr(settings)}",
                "they must be a JSON object",
            )
        names = {field.name for field in dataclasses.fields(cls)}
        if settings.keys() != names:
            odd = ", ".join(sorted(map(str, settings.keys() ^ names)))
            raise LcamError(
                f"the preprocess settings lack or do not know: {odd}",
                "the file may be damaged or written by another version of lcam",
            )
        tuples = {name: _as_tuple(settings[name]) for name in ("mean", "std")}
        return cls(**{**settings, **tuples})


def center_view(picture: Image.Image, preprocess: Preprocess) -> tuple[NDArray[np.uint8], CropBox]:
    """Return what the network sees of the picture, and where in the picture that lies.

    With ``fit="crop"`` the bytes are those of torchvision's ``Resize`` and ``CenterCrop`` on a
    Pillow picture, unless the resized picture's longer side would exceed 8192 pixels.

    Args:
        picture: Upright, mode RGB, of any size.
        preprocess: The settings; ``mean`` and ``std`` play no part here.

    Returns:
        uint8 (H, W, 3) with H = W = ``image_size``, and the box in the picture's pixels.
    """
    if preprocess.fit == "squash":
        return _squash(picture, preprocess), (0.0, 0.0, float(picture.width), float(picture.height))
    width, height = _resized_size(picture, preprocess.resize)
    # round() goes to the even neighbour at .5, as torchvision's CenterCrop does.
    left = round((width - preprocess.image_size) / 2)
    top = round((height - preprocess.image_size) / 2)
    return _crop(picture, preprocess, (width, height), (left, top))


def training_view(
    picture: Image.Image, preprocess: Preprocess, rng: np.random.Generator, flip: bool
) -> NDArray[np.uint8]:
    """Return a random view: shorter side to ``resize``, a random crop, maybe mirrored.

    With ``fit="squash"`` both sides become ``resize`` before the crop, so that the view is as
    distorted as the one that inference sees, and moves as far as with ``fit="crop"``.

    Args:
        picture: Upright, mode RGB, of any size.
        preprocess: The settings; ``mean`` and ``std`` play no part here.
        rng: Decides everything; the same state gives the same bytes.
        flip: Mirror left and right with probability 0.5.

    Returns:
        uint8 (H, W, 3) with H = W = ``image_size``.
    """
    if preprocess.fit == "squash":
        width = height = preprocess.resize
    else:
        width, height = _resized_size(picture, preprocess.resize)
    left = int(rng.integers(width - preprocess.image_size + 1))
    top = int(rng.integers(height - preprocess.image_size + 1))
    view, _ = _crop(picture, preprocess, (width, height), (left, top))
    if flip and rng.random() < 0.5:
        view = np.ascontiguousarray(view[:, ::-1])
    return view


def _resized_size(picture: Image.Image, shorter: int) -> tuple[int, int]:
    """Return width and height once the shorter side is ``shorter``, rounded as torchvision does."""
    width, height = picture.size
    if width <= height:
        return shorter, int(shorter * height / width)
    return int(shorter * width / height), shorter


def _crop(
    picture: Image.Image,
    preprocess: Preprocess,
    resized: tuple[int, int],
    corner: tuple[int, int],
) -> tuple[NDArray[np.uint8], CropBox]:
    """Return the square at ``corner`` of the resized picture, and its box in the original."""
    side, resampling = preprocess.image_size, RESAMPLING[preprocess.interpolation]
    (left, top), (width, height) = corner, resized
    x, y = picture.width / width, picture.height / height
    box = (left * x, top * y, (left + side) * x, (top + side) * y)
    if max(resized) > LARGEST_SIDE:
        # A 20000 × 3 picture would be resized to 1,706,666 × 256: make only the part seen.
        inside = (box[0], box[1], min(box[2], picture.width), min(box[3], picture.height))
        return np.array(picture.resize((side, side), resampling, box=inside)), inside
    view = picture.resize(resized, resampling).crop((left, top, left + side, top + side))
    return np.array(view), box


def _squash(picture: Image.Image, preprocess: Preprocess) -> NDArray[np.uint8]:
    size = (preprocess.image_size, preprocess.image_size)
    return np.array(picture.resize(size, RESAMPLING[preprocess.interpolation]))


def _is_finite(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) <= sys.float_info.max  # also false for NaN and for ints no float can hold


def _as_tuple(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


def _wrong(name: str, value: object, wanted: str) -> LcamError:
    return LcamError(f"preprocess setting {name} is {reprlib.repr(value)}", f"it must be {wanted}")
