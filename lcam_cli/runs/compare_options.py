"""What ``compare_folder`` can be asked for. Nothing here imports torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

from lcam_cli.errors import LcamError
from lcam_cli.measures.registry import DEFAULT, check_measures
from lcam_cli.runs import checks as c
from lcam_cli.runs.options import (
    METHOD_CHECKS,
    SHARED_CHECKS,
    BackboneOptions,
    EngineOptions,
    PictureOptions,
)


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
        labels: ``"folders"``, or a file with a line ``NAME CLASS`` a picture, for the classifier's
            top-1 and top-5; None for neither.
        out: An HDF5 file for all maps, a group a method; None for none.
        figure: A PNG for some of the maps; None for none.
        report: A folder for a page with the table, curves and every picture; None for none.
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
        per_image: A file for every number of every picture, ``.csv`` or ``.parquet``; None for
            none.
        floor: Whether random maps are compared too.
        resume: Take over what an earlier run finished.
        state: The folder where what is finished is kept for ``resume``.
        overwrite: Whether ``out``, ``figure``, ``report`` and ``per_image`` may be replaced.
        align: Whether maps are placed by the receptive fields of their cells; else these tile the
            picture evenly, as papers and other libraries draw them.
        seed: Of everything random.
        pictures: Which pictures are taken.
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
    out: Path | None = None
    figure: Path | None = None
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
    floor: bool = True
    resume: bool = False
    state: Path = Path("runs/compare")
    overwrite: bool = False
    align: bool = True
    seed: int = 0
    pictures: PictureOptions = field(default_factory=PictureOptions)
    backbone: BackboneOptions = field(default_factory=BackboneOptions)
    engine: EngineOptions = field(default_factory=EngineOptions)

    CHECKS: ClassVar[dict[str, c.Check]] = {
        **SHARED_CHECKS,
        **METHOD_CHECKS,
        "methods": c.optional(c.names),
        "attentions": c.paths,
        "nu": c.percents,
        "metrics": c.names,
        "class_names": c.names_or_indices,
        "labels": c.optional(c.text),
        "rise_masks": c.optional(c.whole(1)),
        "rise_cells": c.whole(1),
        "rise_p": c.number(),
        "mask_space": c.choice("pixel", "normalized"),
        "keep": c.choice("values", "whole"),
        **dict.fromkeys(("boxes", "masks", "per_image"), c.optional(c.path)),
        "floor": c.flag,
        "state": c.path,
    }

    def __post_init__(self) -> None:
        c.check_fields(self, self.CHECKS)
        if not 0 < self.rise_p < 1:
            raise LcamError(
                f"RISE with p = {self.rise_p}", "give the share of cells kept, between 0 and 1"
            )
        check_measures(self.metrics, objects=bool(self.boxes or self.masks))
