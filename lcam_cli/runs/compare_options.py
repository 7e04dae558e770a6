"""What ``compare_folder`` can be asked for. Nothing here imports torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

from lcam_cli.errors import LcamError
from lcam_cli.measures.registry import DEFAULT, check_measures
from lcam_cli.runs import checks as c
from lcam_cli.runs.gates import GateOptions
from lcam_cli.runs.named_results import NamedResults, named_results
from lcam_cli.runs.options import (
    METHOD_CHECKS,
    SHARED_CHECKS,
    BackboneOptions,
    EngineOptions,
    PictureOptions,
)

DEFAULT_STATE = Path("runs/compare")


@dataclass(frozen=True)
class CompareOptions:
    """What is compared, and where the results go.

    Attributes:
        methods: Names of methods, a row each, or of groups of them, as ``"gradient"``; ``"all"``
            for all, None for ``"one-pass"``.
        attentions: Trained attentions, files or folders of runs; none for the newest run.
        nu: Percentages ν of the pixels kept, the brightest of the map, in (0, 100].
        metrics: Names of measures, or ``"all"``; ``"ad"`` and ``"ic"`` are always there.
        class_names: The classes explained, by name or index; none for the predicted one.
        labels: ``"folders"``, or a file with a line ``NAME CLASS`` an image, for the classifier's
            top-1 and top-5; None for neither.
        out: Files for what there is to keep, one or several; None for none. The extension says
            what: ``.h5`` all maps, a group a method; ``.json``, ``.csv``, ``.md``, ``.tex`` or
            ``.txt`` the table.
        format: The format of an ``out`` whose extension says none; None where each says its own.
        intervals: Whether tables show the 95% interval of every number; JSON and CSV always have
            them.
        figure: A file for some of the maps, ``.png``, ``.pdf`` or ``.svg``; None for none.
        show: The images of the figure, by path or file name, and the methods; none for eight
            images and all methods.
        report: A folder for a page with the table, curves and every image; None for none.
        rise_masks: Masks of ``rise``; None for the paper's number.
        rise_cells: Cells a side of its masks.
        rise_p: The share of its cells that is kept, in (0, 1).
        contrast: ``"K"`` or ``"K:α"``: gradients are those of what tells the class from the K
            classes nearest to it in score; None for those of the class.
        layers: Several layers, whose maps are fused; the last is ``backbone.layer``, which may be
            left out. Empty for ``backbone.layer`` alone.
        fuse: ``"max"``, ``"mean"`` or ``"product"``: how their maps become one; None for the
            method's own way.
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
        max_ad: The highest AD that passes, in percent: one number for every ν, or numbers by ν,
            ``{50: 30, 15: 75}``; None for any.
        min_ic: The lowest IC that passes, likewise.
        worse_than: The JSON of an earlier run, which AD and IC are compared with; None for none.
        by: How much worse than there they may be, in percentage points.
        floor: Whether random maps are compared too.
        resume: Take over what an earlier run finished.
        state: The folder where what is finished is kept for ``resume``.
        state_limit: GB that comparisons may keep there: once this one is done, those written first
            are removed until it fits.
        overwrite: Whether ``out``, ``figure``, ``report`` and ``per_image`` may be replaced.
        align: Whether maps are placed by the receptive fields of their cells; else these tile the
            image evenly, as papers and other libraries draw them.
        seed: Of everything random.
        pictures: Which images are taken.
        backbone: The classifier; a trained attention knows its own.
        engine: Where and how it runs. The precision ``"auto"`` is fp32 here, in which the measures
            are defined.

    Raises:
        LcamError: A value is of a wrong kind or out of range, or a metric is unknown.
    """

    methods: tuple[str, ...] | None = None
    attentions: tuple[Path, ...] = ()
    nu: tuple[float, ...] = (100.0, 50.0, 15.0)
    metrics: tuple[str, ...] = DEFAULT
    class_names: tuple[str, ...] = ()
    labels: str | Path | None = None
    out: Path | tuple[Path, ...] | None = None
    format: Literal["table", "json", "csv", "markdown", "latex"] | None = None
    intervals: bool = False
    figure: Path | None = None
    show: tuple[str, ...] = ()
    report: Path | None = None
    rise_masks: int | None = None
    rise_cells: int = 7
    rise_p: float = 0.5
    contrast: str | None = None
    layers: tuple[str, ...] = ()
    fuse: Literal["max", "mean", "product"] | None = None
    mask_space: Literal["pixel", "normalized"] = "pixel"
    keep: Literal["values", "whole"] = "values"
    boxes: Path | None = None
    masks: Path | None = None
    per_image: Path | None = None
    by_class: Path | None = None
    max_ad: float | Mapping[float, float] | None = None
    min_ic: float | Mapping[float, float] | None = None
    worse_than: Path | None = None
    by: float | None = None
    floor: bool = True
    resume: bool = False
    state: Path = DEFAULT_STATE
    state_limit: float = 10
    overwrite: bool = False
    align: bool = True
    seed: int = 0
    pictures: PictureOptions = field(default_factory=PictureOptions)
    backbone: BackboneOptions = field(default_factory=BackboneOptions)
    engine: EngineOptions = field(default_factory=EngineOptions)

    FORMATS: ClassVar[tuple[str, ...]] = ("json", "csv", "markdown", "latex")

    CHECKS: ClassVar[dict[str, c.Check]] = {
        **SHARED_CHECKS,
        **METHOD_CHECKS,
        "methods": c.optional(c.names),
        "attentions": c.paths,
        "nu": c.percents,
        "metrics": c.names,
        "class_names": c.names_or_indices,
        "show": c.names,
        "labels": c.optional(c.text),
        "rise_masks": c.optional(c.whole(1)),
        "rise_cells": c.whole(1),
        "rise_p": c.number(),
        "mask_space": c.choice("pixel", "normalized"),
        "keep": c.choice("values", "whole"),
        **dict.fromkeys(("boxes", "masks", "per_image", "by_class"), c.optional(c.path)),
        **dict.fromkeys(("floor", "intervals"), c.flag),
        "out": c.no_path_or_several,
        "format": c.optional(c.choice("table", "json", "csv", "markdown", "latex")),
        "state": c.path,
        "state_limit": c.number(0),
        **GateOptions.CHECKS,
    }

    def __post_init__(self) -> None:
        c.check_fields(self, self.CHECKS)
        _ = self.results  # refuses what it cannot write
        self.gates.check_nus(self.nu)
        if self.show and self.figure is None:
            raise LcamError(
                f"--show {self.show[0]}: there is no figure to show it in", "add --figure FILE.png"
            )
        if not 0 < self.rise_p < 1:
            raise LcamError(
                f"RISE with p = {self.rise_p}", "pass the share of cells kept, between 0 and 1"
            )
        check_measures(self.metrics, objects=bool(self.boxes or self.masks))

    @property
    def results(self) -> NamedResults:
        """What is written to which file of ``out``."""
        return named_results(
            c.no_path_or_several(self.out), self.format, self.FORMATS, maps=True, figures=True
        )

    @property
    def gates(self) -> GateOptions:
        """The thresholds."""
        return GateOptions(self.max_ad, self.min_ic, self.worse_than, self.by)
