"""The entries of a page as files that a browser loads one by one.

An image is a JPEG, the maps of an entry are a script of their own, and ``data.js`` says what there
is, a line an entry. (Scripts, since a page that was opened from a disk may load no other data; and
maps as text in them, since it may not look into an image that lies beside it.) All of it is
written entry by entry, so that memory does not grow with the number of images.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lcam_cli.images.shown import as_rgb
from lcam_cli.maps.display import PERCENTILE
from lcam_cli.maps.overlay import DEFAULT_ALPHA, DEFAULT_COLORMAP, colour_table
from lcam_cli.maps.png_encoder import encode_png
from lcam_cli.maps.record import Floats
from lcam_cli.reports.page import PageFolder, script_json

PARTS = ("images", "maps")
ASSETS = ("entries.css", "maps.js", "address.js", "downloads.js", "viewer.js", "entries.js")
LARGEST_SIDE = 256
"""Pixels: images and maps of larger inputs are reduced until no side is longer."""

_JPEG_QUALITY = 85


class Entries:
    """Writes the entries of a page.

    Args:
        folder: The page's folder, with the folders :data:`PARTS`.
        size: (H, W) of the network's input.

    Attributes:
        count: Entries written.
        size: (H, W) of what is shown.

    Raises:
        LcamError: The disk is full or fails.
    """

    def __init__(self, folder: PageFolder, size: tuple[int, int]) -> None:
        self.count = 0
        self.size = reduced_size(size)
        self._whole = size
        self._folder = folder
        self._images = 0
        with folder.disk_errors():
            self._data = folder.open("data.js")
        self._append("var lcamReport={entries:[\n")

    def add_image(self, view: NDArray[Any]) -> int:
        """Write an image that entries show; return its number.

        Args:
            view: What the network sees, uint8 or float32 in [0, 1], (H, W, C).

        Raises:
            LcamError: The disk is full or fails.
        """
        number = self._images
        self._folder.write(f"images/{number:06}.jpg", self._jpeg(view))
        self._images += 1
        return number

    def add(self, entry: Sequence[Any], maps: Sequence[Floats]) -> None:
        """Write an entry.

        Args:
            entry: What the page's script is to know of it, as JSON has it.
            maps: V of each map, float32 (H, W) in [0, 1].

        Raises:
            LcamError: The disk is full or fails.
        """
        texts = [self._map(V) for V in maps]
        call = f"lcamMaps({self.count},{script_json(texts)});\n"
        self._folder.write(f"maps/{self.count:06}.js", call.encode("ascii"))
        self._append(f"{script_json(entry)},\n")
        self.count += 1

    def finish(self, run: Mapping[str, Any]) -> None:
        """Write what all entries share, and end the file.

        Raises:
            LcamError: The disk is full or fails.
        """
        shared = {
            "height": self.size[0],
            "width": self.size[1],
            "colours": colour_table(DEFAULT_COLORMAP).tobytes().hex(),
            "alpha": DEFAULT_ALPHA,
            **run,
        }
        self._append(f"],run:{script_json(shared)}}};\n")
        self.close()

    def close(self) -> None:
        """Close the file that is being written; after this nothing can be added."""
        with self._folder.disk_errors():
            self._data.close()

    def _jpeg(self, view: NDArray[Any]) -> bytes:
        image = Image.fromarray(as_rgb(view))
        if self.size != self._whole:
            image = image.resize(self.size[::-1], Image.Resampling.LANCZOS)
        encoded = io.BytesIO()
        image.save(encoded, "JPEG", quality=_JPEG_QUALITY)
        return encoded.getvalue()

    def _map(self, V: Floats) -> str:
        """V at 8 bits as a grey PNG, in base64."""
        levels = np.rint(np.clip(V, 0, 1) * np.float32(255)).astype(np.uint8)
        if self.size != self._whole:
            small = Image.fromarray(levels).resize(self.size[::-1], Image.Resampling.BOX)
            levels = np.asarray(small)
        return base64.b64encode(encode_png(levels)).decode("ascii")

    def _append(self, text: str) -> None:
        with self._folder.disk_errors():
            self._data.write(text.encode("ascii"))


def reduced_size(size: tuple[int, int]) -> tuple[int, int]:
    """Return the (H, W) at which a page shows inputs of a size."""
    scale = min(1.0, LARGEST_SIDE / max(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def colour_gradient(stops: int = 17) -> str:
    """Return the colours of V from 0 to 1, for a legend: ``"rgb(0 0 3), …"``."""
    table = colour_table(DEFAULT_COLORMAP)
    at = np.linspace(0, 255, stops).round().astype(int)
    return ", ".join(f"rgb({r} {g} {b})" for r, g, b in table[at].tolist())


def colours_end(of_pixels: Sequence[bool]) -> str:
    """Return what the brightest colour stands for, for a legend.

    Args:
        of_pixels: Whether the maps are of a method of single pixels, for each method.
    """
    if not any(of_pixels):
        return "maximum of the map"
    if all(of_pixels):
        return f"{PERCENTILE}th percentile of the map"
    return f"maximum of the map (pixel methods: its {PERCENTILE}th percentile)"
