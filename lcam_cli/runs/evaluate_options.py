"""What ``evaluate_maps`` can be asked for. Nothing here imports torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

from lcam_cli.measures.registry import DEFAULT, check_measure
from lcam_cli.runs import checks as c
from lcam_cli.runs.options import SHARED_CHECKS, BackboneOptions, EngineOptions


@dataclass(frozen=True)
class EvaluateOptions:
    """How the maps of a file are scored, and where the results go.

    Attributes:
        nu: Percentages ν of the pixels kept, the brightest of the map, in (0, 100].
        metrics: Names of measures, or ``"all"``; ``"ad"`` and ``"ic"`` are always there. Some have
            the method explain again, and need what it was made with.
        images: The pictures' folder, if it moved.
        method: Whose maps, in a file of a comparison.
        labels: ``"folders"``, or a file with a line ``NAME CLASS`` a picture, for the classifier's
            top-1 and top-5; None for neither.
        mask_space: What hidden pixels become: black for ``"pixel"``, the mean colour for
            ``"normalized"``.
        keep: Whether kept pixels have the map's ``"values"``, the paper's φ_ν, or are shown
            ``"whole"``, so that only the place of a map counts.
        boxes: A file or folder that says in boxes where the objects are; None for none.
        masks: A folder of PNGs that says it in pixels; None for none.
        per_image: A file for every number of every picture, ``.csv`` or ``.parquet``; None for
            none.
        floor: Whether random maps are scored too.
        max_ad: The highest AD that passes, in percent, at any ν; None for any.
        min_ic: The lowest IC that passes, in percent, at any ν; None for any.
        out: A file for the results; None for none.
        format: The format of ``out``; ``"table"`` is Markdown there.
        report: A folder for a page with the table, curves and every picture.
        overwrite: Whether ``out`` and ``report`` may be replaced.
        strict: Stop at the first picture that cannot be read.
        seed: Of everything random.
        backbone: What the options say of the classifier; the file knows the rest.
        engine: Where and how it runs. The precision ``"auto"`` is fp32 here, in which the measures
            are defined.

    Raises:
        LcamError: A value is of a wrong kind or out of range; the message names it.
    """

    nu: tuple[float, ...] = (100.0, 50.0, 15.0)
    metrics: tuple[str, ...] = DEFAULT
    images: Path | None = None
    method: str | None = None
    labels: str | Path | None = None
    mask_space: Literal["pixel", "normalized"] = "pixel"
    keep: Literal["values", "whole"] = "values"
    boxes: Path | None = None
    masks: Path | None = None
    per_image: Path | None = None
    floor: bool = True
    max_ad: float | None = None
    min_ic: float | None = None
    out: Path | None = None
    format: Literal["table", "json", "csv", "markdown", "latex"] = "table"
    report: Path | None = None
    overwrite: bool = False
    strict: bool = False
    seed: int = 0
    backbone: BackboneOptions = field(default_factory=BackboneOptions)
    engine: EngineOptions = field(default_factory=EngineOptions)

    CHECKS: ClassVar[dict[str, c.Check]] = {
        **SHARED_CHECKS,
        "nu": c.percents,
        "metrics": c.names,
        "images": c.optional(c.path),
        "method": c.optional(c.text),
        "labels": c.optional(c.text),
        "mask_space": c.choice("pixel", "normalized"),
        "keep": c.choice("values", "whole"),
        **dict.fromkeys(("boxes", "masks", "per_image"), c.optional(c.path)),
        "floor": c.flag,
        "max_ad": c.optional(c.number()),
        "min_ic": c.optional(c.number()),
        "format": c.choice("table", "json", "csv", "markdown", "latex"),
    }

    def __post_init__(self) -> None:
        c.check_fields(self, self.CHECKS)
        for name in self.metrics:
            check_measure(name)
