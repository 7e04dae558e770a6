"""The pictures of a report as files that a browser loads one by one.

A picture is a JPEG, the maps of a row are a script of their own, and ``data.js`` says what there
is, a line a row. (Scripts, since a page that was opened from a disk may load no other data; and
maps as text in them, since it may not look into a picture that lies beside it.) All of it is
written row by row, so that memory does not grow with the number of pictures.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lcam_cli.engine.backbone import Backbone
from lcam_cli.images.shown import as_rgb
from lcam_cli.maps.overlay import DEFAULT_ALPHA, DEFAULT_COLORMAP, colour_table
from lcam_cli.maps.png_encoder import encode_png
from lcam_cli.maps.record import Floats
from lcam_cli.measures.measure import Quantity
from lcam_cli.measures.scored import ScoredBatch
from lcam_cli.measures.task import Task
from lcam_cli.reports.page import PageFolder, script_json
from lcam_cli.reports.results import nu_key
from lcam_cli.reports.text import printable

PARTS = ("pictures", "maps")
LARGEST_SIDE = 256
"""Pixels: pictures and maps of larger inputs are reduced until no side is longer."""

_JPEG_QUALITY = 85
_DIGITS = 5


@dataclass(frozen=True)
class GalleryInfo:
    """What all rows of a gallery share.

    Attributes:
        methods: The methods' names.
        floor: The position among them of the one that others must beat; None where there is none.
        nus: Percentages ν that were scored.
        hidden: What hidden pixels become: R, G, B in 0 to 255.
        size: (H, W) of the network's input.
        class_names: The classifier's.
        measured: What each number of a row is of, K quantities.
        keep: ``"values"`` or ``"whole"``: whether kept pixels have the map's value, or are whole.
    """

    methods: Sequence[str]
    floor: int | None
    nus: Sequence[float]
    hidden: tuple[int, int, int]
    size: tuple[int, int]
    class_names: Sequence[str]
    measured: Sequence[Quantity] = ()
    keep: str = "values"

    @classmethod
    def of(
        cls, backbone: Backbone, methods: Sequence[str], floor: int | None, task: Task
    ) -> GalleryInfo:
        """Return it for a backbone, methods and what is measured."""
        preprocess = backbone.preprocess
        r, g, b = as_rgb(np.array(preprocess.mean, np.float32)).tolist()
        return cls(
            methods,
            floor,
            task.nus,
            (r, g, b) if task.space == "normalized" else (0, 0, 0),
            preprocess.input_shape[1:],
            backbone.class_names,
            task.quantities,
            task.keep,
        )


class Gallery:
    """Writes the rows of a gallery.

    Args:
        folder: The report's folder, with the folders :data:`PARTS`.
        shown: What all rows share.

    Attributes:
        rows: Rows written.

    Raises:
        LcamError: The disk is full or fails.
    """

    def __init__(self, folder: PageFolder, shown: GalleryInfo) -> None:
        self.rows = 0
        self._folder = folder
        self._shown = shown
        self._size = reduced_size(shown.size)
        self._pictures = 0
        self._last_path: str | None = None
        with folder.disk_errors():
            self._data = folder.open("data.js")
        self._say(f"var lcamReport={{run:{script_json(self._run())},entries:[\n")

    def add(self, batch: ScoredBatch) -> None:
        """Write some rows.

        Raises:
            LcamError: The disk is full or fails.
        """
        numbers = batch.of_quantities(self._shown.measured)
        for k, path in enumerate(batch.paths):
            if path != self._last_path:
                self._folder.write(f"pictures/{self._pictures:06}.jpg", self._jpeg(batch.images[k]))
                self._pictures += 1
                self._last_path = path
            maps = [self._map(saliency[k]) for saliency in batch.saliency]
            call = f"lcamMaps({self.rows},{script_json(maps)});\n"
            self._folder.write(f"maps/{self.rows:06}.js", call.encode("ascii"))
            self._say(f"{script_json(self._entry(batch, numbers, k))},\n")
            self.rows += 1

    def finish(self) -> None:
        """Write the end of what says what there is.

        Raises:
            LcamError: The disk is full or fails.
        """
        self._say("]};\n")
        self.close()

    def close(self) -> None:
        """Close the file that is being written; after this nothing can be added."""
        with self._folder.disk_errors():
            self._data.close()

    def _run(self) -> dict[str, Any]:
        colours = colour_table(DEFAULT_COLORMAP)
        return {
            "methods": [printable(name) for name in self._shown.methods],
            "floor": self._shown.floor,
            "nus": [float(nu_key(nu)) for nu in self._shown.nus],
            "hidden": self._shown.hidden,
            "height": self._size[0],
            "width": self._size[1],
            "colours": colours.tobytes().hex(),
            "alpha": DEFAULT_ALPHA,
            "keep": self._shown.keep,
            "measured": [_described(quantity) for quantity in self._shown.measured],
        }

    def _entry(self, batch: ScoredBatch, numbers: NDArray[np.float64], k: int) -> list[Any]:
        """Return what a row is.

        Its path, picture, class, its name, the predicted one's if another, f(X), the scores of each
        method at each ν, the numbers of each method, rounded as tables show them.
        """
        explained, predicted = int(batch.class_index[k]), int(batch.predicted_index[k])
        return [
            printable(batch.paths[k]),
            self._pictures - 1,
            explained,
            printable(batch.class_names[k]),
            None if predicted == explained else printable(self._shown.class_names[predicted]),
            round(float(batch.full[k]), _DIGITS),
            [[round(float(s), _DIGITS) for s in row] for row in batch.masked[:, :, k]],
            [self._numbers(row) for row in numbers[:, :, k].T],
        ]

    def _numbers(self, row: NDArray[np.float64]) -> list[float | None]:
        """One method's numbers of a row, (K,); nothing where one is not defined."""
        return [
            None if np.isnan(number) else round(float(number), quantity.measure.digits)
            for number, quantity in zip(row, self._shown.measured, strict=True)
        ]

    def _jpeg(self, view: NDArray[Any]) -> bytes:
        picture = Image.fromarray(as_rgb(view))
        if self._size != self._shown.size:
            picture = picture.resize(self._size[::-1], Image.Resampling.LANCZOS)
        encoded = io.BytesIO()
        picture.save(encoded, "JPEG", quality=_JPEG_QUALITY)
        return encoded.getvalue()

    def _map(self, saliency: Floats) -> str:
        """V at 8 bits as a grey PNG, in base64."""
        levels = np.rint(saliency * np.float32(255)).astype(np.uint8)
        if self._size != self._shown.size:
            small = Image.fromarray(levels).resize(self._size[::-1], Image.Resampling.BOX)
            levels = np.asarray(small)
        return base64.b64encode(encode_png(levels)).decode("ascii")

    def _say(self, text: str) -> None:
        with self._folder.disk_errors():
            self._data.write(text.encode("ascii"))


def reduced_size(size: tuple[int, int]) -> tuple[int, int]:
    """Return the (H, W) at which a gallery shows inputs of a size."""
    scale = min(1.0, LARGEST_SIDE / max(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _described(quantity: Quantity) -> dict[str, Any]:
    """What the page has to know of a quantity to show and to sort its numbers."""
    measure, nu = quantity.measure, quantity.nu
    return {
        "measure": printable(measure.title),
        "nu": None if nu is None else float(nu_key(nu)),
        "lower": measure.lower_is_better,
        "digits": measure.digits,
    }
