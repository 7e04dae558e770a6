"""A mask of an image's objects, read in a reading process: which pixels of a view lie on them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from lcam_cli.errors import BadImageError
from lcam_cli.images.picture import ReadOptions
from lcam_cli.images.pixels import Pixels
from lcam_cli.images.preprocess import CropBox
from lcam_cli.images.read import opened
from lcam_cli.images.request import Request, View
from lcam_cli.images.rgb import Levels

_FORMATS = ("PNG",)


@dataclass(frozen=True)
class MaskRequest(Request):
    """The mask of an image, and which view of it.

    Attributes:
        crop_box: The view, in pixels of the upright image.
        picture_size: Width and height of the upright image, in pixels.
        view_size: Height and width of the view, in pixels.
    """

    crop_box: CropBox = (0.0, 0.0, 1.0, 1.0)
    picture_size: tuple[int, int] = (1, 1)
    view_size: tuple[int, int] = (1, 1)

    def view_with_levels(
        self, also: Callable[[Pixels], None] = lambda pixels: None
    ) -> tuple[View, Levels | None]:
        """Read the mask, a PNG, and show the view.

        Returns:
            uint8 (H, W, 1), 1 on the objects, with the mask's own size; and no levels.

        Raises:
            BadImageError: It is no PNG, is damaged or too large; it shows no object at all; or it
                has the size of the image before that was turned upright.
        """
        del also  # a mask is read for its view alone
        mask = _read(self.path, self.max_pixels)
        height, width = mask.shape
        if (height, width) == self.picture_size and height != width:
            raise BadImageError("it is turned on its side: masks must match the upright image")
        if not mask.any():
            raise BadImageError("a mask without an object: all its values are 0")
        view = nearest(mask, self.crop_box, self.picture_size, self.view_size)
        return View(view[..., None].astype(np.uint8), self.crop_box, (width, height)), None

    @property
    def channels(self) -> int:
        """One: whether a pixel lies on an object."""
        return 1

    def expects(self, height: int, width: int, *, floats: bool) -> bool:
        """Whether an answer has the view's size, and is no floats."""
        return (height, width) == self.view_size and not floats


def nearest(
    mask: NDArray[np.bool_],
    crop_box: CropBox,
    picture_size: tuple[int, int],
    view_size: tuple[int, int],
) -> NDArray[np.bool_]:
    """Show a view of a mask: of each of its pixels, what the mask is at that pixel's centre.

    Args:
        mask: (h, w), of the whole image, in another size too.
        crop_box: The view, in pixels of the image.
        picture_size: The image's width and height.
        view_size: The view's height and width.

    Returns:
        (H, W); False outside the image.
    """
    (left, top, right, bottom), (width, height) = crop_box, picture_size
    columns, are_columns = _places(left, right, width, mask.shape[1], view_size[1])
    rows, are_rows = _places(top, bottom, height, mask.shape[0], view_size[0])
    shown: NDArray[np.bool_] = mask[rows][:, columns] & are_rows[:, None] & are_columns
    return shown


def _places(
    begin: float, end: float, picture: int, mask: int, side: int
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Which row or column of a mask each of the view shows, and whether there is one."""
    centres = begin + (np.arange(side) + 0.5) * ((end - begin) / side)
    at = np.floor(centres * (mask / picture)).astype(np.int64)
    return at.clip(0, mask - 1), (at >= 0) & (at < mask)


def _read(path: str, max_pixels: int) -> NDArray[np.bool_]:
    """Which pixels of a mask are above 0, (h, w): of a palette their numbers, of colours any."""
    options = ReadOptions(max_pixels)
    with opened(path) as file:
        try:
            picture = Image.open(file, formats=_FORMATS)
        except UnidentifiedImageError:
            raise BadImageError("not a PNG, or damaged at its start") from None
        except Image.DecompressionBombError:  # far above Pillow's own limit
            raise options.too_many("a great many") from None
        with picture:
            options.check_size(*picture.size)
            try:
                picture.load()
            except (MemoryError, Image.DecompressionBombError):
                raise
            except Exception as error:
                state = "truncated" if "truncated" in str(error).lower() else "damaged"
                raise BadImageError(f"{state} PNG") from error
            values = np.asarray(_upright(picture))
            has_alpha = picture.mode in ("LA", "RGBA")
    above: NDArray[np.bool_] = values > 0
    if above.ndim == 2:
        return above
    shown = above[..., -1] if has_alpha else np.True_
    return np.asarray(above[..., : values.shape[-1] - has_alpha].any(2) & shown)


def _upright(picture: Image.Image) -> Image.Image:
    with contextlib.suppress(Exception):  # a good mask is not refused for bad metadata
        return ImageOps.exif_transpose(picture)
    return picture
