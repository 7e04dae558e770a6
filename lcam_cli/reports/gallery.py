"""The images of a report: what its page knows of each, row by row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lcam_cli.engine.backbone import Backbone
from lcam_cli.images.shown import as_rgb
from lcam_cli.maps.display import PERCENTILE
from lcam_cli.measures.measure import Quantity
from lcam_cli.measures.scored import ScoredBatch
from lcam_cli.measures.task import Task
from lcam_cli.methods.registry import is_of_pixels
from lcam_cli.reports.entries import Entries
from lcam_cli.reports.nu_key import nu_key
from lcam_cli.reports.origin import Origin
from lcam_cli.reports.page import PageFolder
from lcam_cli.reports.per_image import column_name
from lcam_cli.reports.text import printable

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
        labels: True classes by row path; empty where nobody knows them.
        origin: The command, and where the images lie.
    """

    methods: Sequence[str]
    floor: int | None
    nus: Sequence[float]
    hidden: tuple[int, int, int]
    size: tuple[int, int]
    class_names: Sequence[str]
    measured: Sequence[Quantity] = ()
    keep: str = "values"
    labels: Mapping[str, int] = field(default_factory=dict)
    origin: Origin = field(default_factory=Origin)

    @classmethod
    def of(
        cls,
        backbone: Backbone,
        methods: Sequence[str],
        floor: int | None,
        task: Task,
        labels: Mapping[str, int] | None = None,
        origin: Origin | None = None,
    ) -> GalleryInfo:
        """Return it for a backbone, methods, what is measured, true classes and their origin."""
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
            labels or {},
            origin or Origin(),
        )


class Gallery:
    """Writes the rows of a gallery.

    Args:
        folder: The report's folder, with the folders that entries need.
        shown: What all rows share.

    Raises:
        LcamError: The disk is full or fails.
    """

    def __init__(self, folder: PageFolder, shown: GalleryInfo) -> None:
        self._page = folder.path
        self._shown = shown
        self._entries = Entries(folder, shown.size)
        self._last_path: str | None = None
        self._image = -1
        self._link = ""

    def add(self, batch: ScoredBatch) -> None:
        """Write some rows.

        Raises:
            LcamError: The disk is full or fails.
        """
        numbers = batch.of_quantities(self._shown.measured)
        for k, path in enumerate(batch.paths):
            if path != self._last_path:
                self._image = self._entries.add_image(batch.images[k])
                self._link = self._shown.origin.link(self._page, path)
                self._last_path = path
            maps = [saliency[k] for saliency in batch.saliency]
            self._entries.add(self._entry(batch, numbers, k), maps)

    def finish(self, tables: Mapping[str, str] | None = None) -> None:
        """Write the end of what says what there is.

        Args:
            tables: Files of the results that the page offers, by the ends of their names.

        Raises:
            LcamError: The disk is full or fails.
        """
        self._entries.finish(
            {
                "methods": [printable(name) for name in self._shown.methods],
                "percentiles": [
                    PERCENTILE if is_of_pixels(name) else None for name in self._shown.methods
                ],
                "floor": self._shown.floor,
                "nus": [float(nu_key(nu)) for nu in self._shown.nus],
                "hidden": self._shown.hidden,
                "keep": self._shown.keep,
                "measured": [_described(quantity) for quantity in self._shown.measured],
                "tables": dict(tables or {}),
            }
        )

    def close(self) -> None:
        """Close the file that is being written; after this nothing can be added."""
        self._entries.close()

    def _entry(self, batch: ScoredBatch, numbers: NDArray[np.float64], k: int) -> list[Any]:
        """Return what a row is.

        Its path, image, class, its name, the predicted one's if another, f(X), the scores of each
        method at each ν, the numbers of each method, rounded as tables show them; the predicted
        class, the address of the original, and the true class with its name, if it is known.
        """
        explained, predicted = int(batch.class_index[k]), int(batch.predicted_index[k])
        true = self._shown.labels.get(batch.paths[k])
        return [
            printable(batch.paths[k]),
            self._image,
            explained,
            printable(batch.class_names[k]),
            None if predicted == explained else printable(self._shown.class_names[predicted]),
            round(float(batch.full[k]), _DIGITS),
            [[round(float(s), _DIGITS) for s in row] for row in batch.masked[:, :, k]],
            [self._numbers(row) for row in numbers[:, :, k].T],
            predicted,
            self._link,
            None if true is None else [true, printable(self._shown.class_names[true])],
        ]

    def _numbers(self, row: NDArray[np.float64]) -> list[float | None]:
        """One method's numbers of a row, (K,); nothing where one is not defined."""
        return [
            None if np.isnan(number) else round(float(number), quantity.measure.digits)
            for number, quantity in zip(row, self._shown.measured, strict=True)
        ]


def _described(quantity: Quantity) -> dict[str, Any]:
    """What the page has to know of a quantity to show, to sort and to save its numbers."""
    measure, nu = quantity.measure, quantity.nu
    return {
        "measure": printable(measure.title),
        "column": printable(column_name(quantity)),
        "nu": None if nu is None else float(nu_key(nu)),
        "lower": measure.lower_is_better,
        "digits": measure.digits,
    }
