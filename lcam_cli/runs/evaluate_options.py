"""What ``evaluate_maps`` can be asked for. Nothing here imports torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

from lcam_cli.measures.registry import DEFAULT, check_measures
from lcam_cli.runs import checks as c
from lcam_cli.runs.gates import GateOptions
from lcam_cli.runs.named_results import NamedResults, named_results
from lcam_cli.runs.options import SHARED_CHECKS, BackboneOptions, EngineOptions


@dataclass(frozen=True)
class EvaluateOptions:
    """How the maps of a file are scored, and where the results go.

    Attributes:
        nu: Percentages ν of the pixels kept, the brightest of the map, in (0, 100].
        metrics: Names of measures, or ``"all"``; ``"ad"`` and ``"ic"`` are always there. Some have
            the method explain again, and need what it was made with.
        images: The images' folder, if it moved.
        method: Whose maps, in a file of a comparison.
        attention: The trained attention that made the maps, a file or a run's folder, for measures
            that have it explain again; None to look for it under ``runs/``.
        labels: ``"folders"``, or a file with a line ``NAME CLASS`` an image, for the classifier's
            top-1 and top-5; None for neither.
        mask_space: What hidden pixels become: black for ``"pixel"``, the mean colour for
            ``"normalized"``.
        keep: Whether kept pixels have the map's ``"values"``, the paper's φ_ν, or are shown
            ``"whole"``, so that only the place of a map counts.
        boxes: A file or folder that says in boxes where the objects are; None for none.
        masks: A folder of PNGs that says it in pixels; None for none.
        by_class: A file for the means of each class, ``.json``, ``.csv``, ``.md`` or ``.tex``: of
            the true class with ``labels``, else of the class explained; None for none.
        per_image: A file for every number of every image, ``.csv`` or ``.parquet``; None for
            none.
        floor: Whether random maps are scored too.
        max_ad: The highest AD that passes, in percent: one number for every ν, or numbers by ν,
            ``{50: 30, 15: 75}``; None for any.
        min_ic: The lowest IC that passes, likewise.
        worse_than: The JSON of an earlier run, which AD and IC are compared with; None for none.
        by: How much worse than there they may be, in percentage points.
        out: A file for the result, or several; None for none. The extension says what is written:
            ``.json``, ``.csv``, ``.md``, ``.tex`` or ``.txt``.
        format: The format of an ``out`` whose extension says none; None where each says its own.
        intervals: Whether ``out`` shows the 95% interval of every number, where it is Markdown or
            LaTeX; JSON and CSV always have them.
        report: A folder for a page with the table, curves and every image.
        overwrite: Whether ``out``, ``report`` and ``per_image`` may be replaced.
        strict: Stop at the first image that cannot be read.
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
    attention: Path | None = None
    labels: str | Path | None = None
    mask_space: Literal["pixel", "normalized"] = "pixel"
    keep: Literal["values", "whole"] = "values"
    boxes: Path | None = None
    masks: Path | None = None
    per_image: Path | None = None
    by_class: Path | None = None
    floor: bool = True
    max_ad: float | Mapping[float, float] | None = None
    min_ic: float | Mapping[float, float] | None = None
    worse_than: Path | None = None
    by: float | None = None
    out: Path | tuple[Path, ...] | None = None
    format: Literal["table", "json", "csv", "markdown", "latex"] | None = None
    intervals: bool = False
    report: Path | None = None
    overwrite: bool = False
    strict: bool = False
    seed: int = 0
    backbone: BackboneOptions = field(default_factory=BackboneOptions)
    engine: EngineOptions = field(default_factory=EngineOptions)

    FORMATS: ClassVar[tuple[str, ...]] = ("json", "csv", "markdown", "latex")

    CHECKS: ClassVar[dict[str, c.Check]] = {
        **SHARED_CHECKS,
        "nu": c.percents,
        "metrics": c.names,
        "images": c.optional(c.path),
        "method": c.optional(c.text),
        "attention": c.optional(c.path),
        "labels": c.optional(c.text),
        "mask_space": c.choice("pixel", "normalized"),
        "keep": c.choice("values", "whole"),
        **dict.fromkeys(("boxes", "masks", "per_image", "by_class"), c.optional(c.path)),
        **dict.fromkeys(("floor", "intervals"), c.flag),
        **GateOptions.CHECKS,
        "out": c.no_path_or_several,
        "format": c.optional(c.choice("table", "json", "csv", "markdown", "latex")),
    }

    def __post_init__(self) -> None:
        c.check_fields(self, self.CHECKS)
        _ = self.results  # refuses what it cannot write
        self.gates.check_nus(self.nu)
        check_measures(self.metrics, objects=bool(self.boxes or self.masks))

    @property
    def results(self) -> NamedResults:
        """What is written to which file of ``out``."""
        return named_results(c.no_path_or_several(self.out), self.format, self.FORMATS)

    @property
    def gates(self) -> GateOptions:
        """The thresholds."""
        return GateOptions(self.max_ad, self.min_ic, self.worse_than, self.by)
