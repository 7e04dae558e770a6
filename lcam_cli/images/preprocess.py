"""From an upright image of any size to what the network sees of it."""

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

from lcam_cli.errors import BadImageError, LcamError
from lcam_cli.images.pixels import Pixels

Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos", "box", "hamming"]
Fit = Literal["crop", "squash", "pad"]
CropRounding = Literal["even", "down"]
CropBox = tuple[float, float, float, float]
"""x0, y0, x1, y1 of what the network sees, in pixels of the upright original."""

Window = Literal["auto"] | tuple[float, float]
"""The values of a file that become 0 and 1; ``"auto"``: its own, else its type's whole range."""

LARGEST_SIDE = 8192
"""Pixels: the largest network input, and the longest side ever resized to in full."""

RESAMPLING = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
    "box": Image.Resampling.BOX,
    "hamming": Image.Resampling.HAMMING,
}


@dataclass(frozen=True)
class Preprocess:
    """How an image becomes the network's input; the defaults are torchvision's for ImageNet.

    Attributes:
        image_size: Height and width of the network's input, in pixels, 1 to 8192: one number for a
            square, else (H, W).
        resize: What the image is resized to before the crop, in pixels, 1 to 8192. One number,
            at least the shorter side of the input: until the image covers the input times
            ``resize`` over that side; of a square it is the image's shorter side. (H, W): to
            exactly that, distorted, at least the input. 0: not at all; an image that is smaller
            than the input has black around it, and with ``fit="squash"`` only images of the
            input's size are read.
        mean: Per channel, subtracted from values in 0..1.
        std: Per channel, above 0: what the difference is then divided by.
        interpolation: The resampling filter, always antialiased as Pillow does it.
        fit: ``"crop"`` sees the centre, ``"squash"`` all of the image, distorted, ``"pad"`` all
            of it as it is, between black bars (a letterbox). For the last two, ``resize`` matters
            to training alone.
        crop_rounding: Where the centre crop begins when half a pixel is left: at the even
            neighbour (``"even"``, torchvision) or always at the lower one (``"down"``).
        window: The values of a file that become 0 and 1; what lies beyond is clipped.

    Raises:
        LcamError: A setting is of the wrong type or out of its range.
    """

    image_size: int | tuple[int, int] = 224
    resize: int | tuple[int, int] = 256
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    interpolation: Interpolation = "bilinear"
    fit: Fit = "crop"
    crop_rounding: CropRounding = "even"
    window: Window = "auto"

    def __post_init__(self) -> None:
        if not _is_side(self.image_size) and not _are_sides(self.image_size):
            raise _wrong(
                "image_size", self.image_size, f"a whole number of pixels from 1 to {LARGEST_SIDE}"
            )
        if isinstance(self.image_size, tuple) and self.height == self.width:
            object.__setattr__(self, "image_size", self.height)  # one way to say one thing
        self._check_resize()
        for name in ("mean", "std"):
            value = getattr(self, name)
            if not isinstance(value, tuple) or not value or not all(map(_is_finite, value)):
                raise _wrong(name, value, "finite numbers, one per channel")
        if len(self.mean) != len(self.std):
            raise _wrong("std", self.std, f"as many numbers as mean has, {len(self.mean)}")
        if min(self.std) <= 0:
            raise _wrong("std", self.std, "above 0")
        for name, choices in (
            ("interpolation", Interpolation),
            ("fit", Fit),
            ("crop_rounding", CropRounding),
        ):
            value = getattr(self, name)
            if value not in get_args(choices):
                raise _wrong(name, value, f"one of {', '.join(get_args(choices))}")
        if self.window != "auto" and not _is_window(self.window):
            raise _wrong("window", self.window, "auto, or two finite numbers, LOW below HIGH")

    def _check_resize(self) -> None:
        if isinstance(self.resize, tuple):
            if not _are_sides(self.resize):
                raise _wrong("resize", self.resize, f"two sides from 1 to {LARGEST_SIDE} pixels")
            if self.resize[0] < self.height or self.resize[1] < self.width:
                raise _wrong("resize", self.resize, f"at least {(self.height, self.width)}")
            return
        if self.resize == 0 and not isinstance(self.resize, bool):
            return
        if not _is_side(self.resize):
            raise _wrong(
                "resize", self.resize, f"a whole number of pixels from 1 to {LARGEST_SIDE}"
            )
        if self.resize < min(self.height, self.width):
            side = min(self.height, self.width)
            raise _wrong("resize", self.resize, f"at least image_size, {side}")

    @property
    def height(self) -> int:
        """H of the network's input, in pixels."""
        return self.image_size if isinstance(self.image_size, int) else self.image_size[0]

    @property
    def width(self) -> int:
        """W of the network's input, in pixels."""
        return self.image_size if isinstance(self.image_size, int) else self.image_size[1]

    @property
    def view_size(self) -> tuple[int, int]:
        """W and H of the network's input, as Pillow has sizes."""
        return self.width, self.height

    @property
    def channels(self) -> int:
        """C of the network's input: one mean a channel."""
        return len(self.mean)

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        return self.channels, self.height, self.width

    def with_channels(self, channels: int) -> Preprocess:
        """The same for an input of so many channels.

        Where their number changes, each channel gets the average of the means and that of the
        standard deviations, as timm does.
        """
        if channels == self.channels:
            return self
        mean, std = (sum(values) / len(values) for values in (self.mean, self.std))
        return dataclasses.replace(self, mean=(mean,) * channels, std=(std,) * channels)

    def to_json(self) -> dict[str, Any]:
        """Return the settings as a JSON object, a list for each tuple, with the channels."""
        settings = dataclasses.asdict(self) | {"channels": self.channels}
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in settings.items()
        }

    @classmethod
    def from_json(cls, settings: object) -> Preprocess:
        """Return what :meth:`to_json` wrote, trusting nothing about ``settings``.

        Files of 0.1.0 have no channels, no window and no ``crop_rounding``.

        Raises:
            LcamError: Not an object, a setting missing or unknown, or a wrong value.
        """
        if not isinstance(settings, Mapping):
            raise LcamError(
                f"the preprocess settings are {reprlib.repr(settings)}",
                "they must be a JSON object",
            )
        names = {field.name for field in dataclasses.fields(cls)}
        newer = {"channels", "window", "crop_rounding"}
        known = settings.keys() - {"channels"}
        if not names - newer <= known <= names:
            odd = ", ".join(sorted(map(str, (names - newer - known) | (known - names))))
            raise LcamError(
                f"the preprocess settings have missing or unknown keys: {odd}",
                "the file may be damaged or written by another version of lcam",
            )
        values: dict[str, Any] = {name: _as_tuple(settings[name]) for name in known}
        preprocess = cls(**values)
        if settings.get("channels", preprocess.channels) != preprocess.channels:
            raise _wrong("channels", settings["channels"], f"{preprocess.channels}, as for mean")
        return preprocess


def center_view(
    picture: Pixels | Image.Image, preprocess: Preprocess
) -> tuple[NDArray[Any], CropBox]:
    """Return what the network sees of the image, and where in the image that lies.

    With ``fit="crop"`` the bytes are those of torchvision's ``Resize`` and ``CenterCrop`` on a
    Pillow image, unless the resized image's longer side would exceed 8192 pixels.

    Args:
        picture: Upright, of any size; a Pillow image in mode RGB or L.
        preprocess: The settings; ``mean`` and ``std`` play no part here.

    Returns:
        (H, W, C): uint8, or float32 in [0, 1] where the image has floats; and the box in the
        image's pixels, which begins below 0 where there is black around the image, and ends
        beyond it.

    Raises:
        BadImageError: The image may not be resized, and has not the input's size or, with
            ``fit="pad"``, is larger.
    """
    pixels = picture if isinstance(picture, Pixels) else Pixels.of(picture)
    _check_size(pixels, preprocess)
    if preprocess.fit == "squash":
        size, resampling = preprocess.view_size, RESAMPLING[preprocess.interpolation]
        view = pixels.changed(lambda plane: plane.resize(size, resampling))
        return view, crop_box(pixels.size, preprocess)
    resized = _resized_size(pixels.size, preprocess)
    corner = _centre(resized, preprocess)
    view = _crop(pixels, preprocess, resized, corner)
    return view, _box_seen(pixels.size, preprocess, resized, corner)


def crop_box(size: tuple[int, int], preprocess: Preprocess) -> CropBox:
    """Return where in an image lies what the network sees of it.

    Args:
        size: The upright image's width and height.
        preprocess: The settings.
    """
    if preprocess.fit == "squash":
        return 0.0, 0.0, float(size[0]), float(size[1])
    resized = _resized_size(size, preprocess)
    return _box_seen(size, preprocess, resized, _centre(resized, preprocess))


def training_view(
    picture: Pixels | Image.Image, preprocess: Preprocess, rng: np.random.Generator, flip: bool
) -> NDArray[Any]:
    """Return a random view: the image resized as for :func:`center_view`, cropped at random.

    With ``fit="squash"`` it is resized to what an image of the input's shape would be, so that the
    view is as distorted as the one that inference sees, and moves as far as with ``fit="crop"``.
    With ``fit="pad"`` it is fitted into that size, and moves as far, its bars with it.

    Args:
        picture: Upright, of any size; a Pillow image in mode RGB or L.
        preprocess: The settings; ``mean`` and ``std`` play no part here.
        rng: Decides everything; the same state gives the same bytes.
        flip: Mirror left and right with probability 0.5.

    Returns:
        (H, W, C): uint8, or float32 in [0, 1] where the image has floats.
    """
    pixels = picture if isinstance(picture, Pixels) else Pixels.of(picture)
    _check_size(pixels, preprocess)
    if preprocess.fit == "crop":
        page = resized = _resized_size(pixels.size, preprocess)
    else:
        page = resized = _covering_size(preprocess.view_size, preprocess)
    bars = (0, 0)
    if preprocess.fit == "pad":
        resized = _fitting_size(pixels.size, page, preprocess)
        bars = (_begin(resized[0] - page[0], "even"), _begin(resized[1] - page[1], "even"))
    centre = _centre(page, preprocess)
    left, top = (
        # An image that is smaller than the input stays in the middle.
        int(rng.integers(side - seen + 1)) if side >= seen else middle
        for side, seen, middle in zip(page, preprocess.view_size, centre, strict=True)
    )
    view = _crop(pixels, preprocess, resized, (left + bars[0], top + bars[1]))
    if flip and rng.random() < 0.5:
        view = np.ascontiguousarray(view[:, ::-1])
    return view


def _check_size(pixels: Pixels, preprocess: Preprocess) -> None:
    """Check that an image of which all is seen, without being resized, fits the input.

    Raises:
        BadImageError: It does not have its size, or with ``fit="pad"`` is larger.
    """
    if preprocess.fit == "pad" and preprocess.resize == 0:
        (width, height), most = pixels.size, preprocess.view_size
        if width > most[0] or height > most[1]:
            raise BadImageError(
                f"it is {width}×{height} (width × height), larger than the network's input of "
                f"{most[0]}×{most[1]}, and this network's images are not resized"
            )
    if preprocess.fit == "squash" and preprocess.resize == 0:
        (width, height), wanted = pixels.size, preprocess.view_size
        if (width, height) != wanted:
            raise BadImageError(
                f"it is {width}×{height} (width × height), but the network only "
                f"takes {wanted[0]}×{wanted[1]}, not resized"
            )


def _resized_size(size: tuple[int, int], preprocess: Preprocess) -> tuple[int, int]:
    """Return the width and height that an image is resized to before the centre is taken."""
    if preprocess.fit == "pad":
        return _fitting_size(size, preprocess.view_size, preprocess)
    return _covering_size(size, preprocess)


def _fitting_size(
    size: tuple[int, int], page: tuple[int, int], preprocess: Preprocess
) -> tuple[int, int]:
    """Return the largest width and height, in proportion, that a page has room for."""
    if preprocess.resize == 0:
        return size
    (width, height), (wide, high) = size, page
    if width * high >= height * wide:
        return wide, max(round(wide * height / width), 1)
    return max(round(high * width / height), 1), high


def _covering_size(size: tuple[int, int], preprocess: Preprocess) -> tuple[int, int]:
    """Return the width and height at which an image covers the input, as torchvision rounds."""
    resize, (width, height) = preprocess.resize, size
    if isinstance(resize, tuple):
        return resize[1], resize[0]
    if resize == 0:
        return size
    least_width, least_height = _with_shorter_side(preprocess.view_size, resize)
    if width * least_height <= height * least_width:
        return least_width, int(least_width * height / width)
    return int(least_height * width / height), least_height


def _with_shorter_side(size: tuple[int, int], shorter: int) -> tuple[int, int]:
    width, height = size
    if width <= height:
        return shorter, int(shorter * height / width)
    return int(shorter * width / height), shorter


def _centre(resized: tuple[int, int], preprocess: Preprocess) -> tuple[int, int]:
    """Return the left and the top edge of the centre crop of a resized image."""
    width, height = resized
    return (
        _begin(width - preprocess.width, preprocess.crop_rounding),
        _begin(height - preprocess.height, preprocess.crop_rounding),
    )


def _begin(left_over: int, rounding: CropRounding) -> int:
    """Return where the middle begins when so many pixels are left over; below 0: lacking."""
    if rounding == "down":
        return left_over // 2
    # round() goes to the even neighbour at .5, as torchvision's CenterCrop does; but that halves
    # what is lacking downwards.
    return round(left_over / 2) if left_over >= 0 else -(-left_over // 2)


def _box_seen(
    size: tuple[int, int],
    preprocess: Preprocess,
    resized: tuple[int, int],
    corner: tuple[int, int],
) -> CropBox:
    """Return the box in the original of the view at ``corner`` of the resized image."""
    (left, top), (width, height) = corner, resized
    x, y = size[0] / width, size[1] / height
    right, bottom = (left + preprocess.width) * x, (top + preprocess.height) * y
    if _is_made_in_part(resized, preprocess):  # rounding must not lead out of the image
        right, bottom = min(right, size[0]), min(bottom, size[1])
    return left * x, top * y, right, bottom


def _is_made_in_part(resized: tuple[int, int], preprocess: Preprocess) -> bool:
    """Whether no more is made of the resized image than what is seen.

    A 20000 × 3 image would be resized to 1,706,666 × 256.
    """
    return preprocess.resize != 0 and max(resized) > LARGEST_SIDE


def _crop(
    pixels: Pixels,
    preprocess: Preprocess,
    resized: tuple[int, int],
    corner: tuple[int, int],
) -> NDArray[Any]:
    """Return the view at ``corner`` of the resized image."""
    (width, height), (left, top) = preprocess.view_size, corner
    resampling = RESAMPLING[preprocess.interpolation]
    if _is_made_in_part(resized, preprocess):
        inside = _box_seen(pixels.size, preprocess, resized, corner)
        return pixels.changed(lambda plane: plane.resize((width, height), resampling, box=inside))
    edges = (left, top, left + width, top + height)
    if resized == pixels.size:
        return pixels.changed(lambda plane: plane.crop(edges))
    return pixels.changed(lambda plane: plane.resize(resized, resampling).crop(edges))


def _is_side(value: object) -> bool:
    whole = isinstance(value, int) and not isinstance(value, bool)
    return whole and 1 <= value <= LARGEST_SIDE  # type: ignore[operator]


def _are_sides(value: object) -> bool:
    return isinstance(value, tuple) and len(value) == 2 and all(map(_is_side, value))


def _is_window(value: object) -> bool:
    if not isinstance(value, tuple) or len(value) != 2 or not all(map(_is_finite, value)):
        return False
    return bool(value[0] < value[1])


def _is_finite(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) <= sys.float_info.max  # also false for NaN and for ints no float can hold


def _as_tuple(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


def _wrong(name: str, value: object, wanted: str) -> LcamError:
    return LcamError(f"preprocess setting {name} is {reprlib.repr(value)}", f"it must be {wanted}")
