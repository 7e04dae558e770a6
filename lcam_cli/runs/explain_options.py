"""What :func:`~lcam_cli.runs.explain.explain_folder` can be asked for. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from lcam_cli.errors import LcamError
from lcam_cli.runs import checks as c
from lcam_cli.runs.options import (
    METHOD_CHECKS,
    SHARED_CHECKS,
    BackboneOptions,
    EngineOptions,
    OverlayOptions,
    PictureOptions,
)

if TYPE_CHECKING:
    from lcam_cli.maps.map_files import MapFormat, MapSize
    from lcam_cli.maps.record import MapDtype


@dataclass(frozen=True)
class ExplainOptions:
    """How images are explained; the defaults are those of ``lcam explain``.

    Attributes:
        method: A name of ``lcam explain --list-methods``; None for the trained attention of
            ``attention``, or of the newest run that fits.
        attention: A trained attention, a file or a run's folder; None for the newest that fits.
        class_names: The classes to explain, by name or index; empty for the predicted ones.
        top_k: Without ``class_names``, how many of the best-scored classes are explained.
        align: Whether maps are placed by the receptive fields of their cells; else these tile the
            image evenly, as papers and other libraries draw them.
        contrast: ``"K"`` or ``"K:α"``: gradients are those of what tells the class from the K
            classes nearest to it in score; None for those of the class.
        layers: Several layers, whose maps are fused; the last is ``backbone.layer``, which may be
            left out. Empty for ``backbone.layer`` alone.
        fuse: ``"max"``, ``"mean"`` or ``"product"``: how their maps become one; None for the
            method's own way.
        map_dtype: How maps are stored in HDF5: ``"float16"``, ``"uint8"`` or ``"float32"``.
        map_size: ``"input"`` for maps of the size of the network's input, ``"original"`` for the
            upright image's, in a folder.
        map_format: Of the files in a folder: ``"png"`` (8 bits), ``"png16"``, ``"tiff"`` or
            ``"npy"`` (float32).
        regions: A file ``*.json`` (COCO) or ``*.csv`` for the boxes of what maps keep: the highest
            ν% of ``overlays.contour``, else 15%; None for none.
        shard: ``(i, n)``: explain part i, from 0, of n alone, into ``<out>.i-of-n.h5``.
        resume: Go on with an interrupted run.
        overwrite: Replace what is there.
        seed: Of everything random.
        overlays: What is drawn over the images.
        backbone: The classifier; a trained attention brings its own.
        pictures: Which images are taken.
        engine: Where and how the network runs.

    Raises:
        LcamError: A value is of a wrong kind or out of range; or ``resume`` and ``overwrite``
            exclude each other.
    """

    method: str | None = None
    attention: Path | None = None
    class_names: tuple[str, ...] = ()
    top_k: int = 1
    align: bool = True
    contrast: str | None = None
    layers: tuple[str, ...] = ()
    fuse: Literal["max", "mean", "product"] | None = None
    map_dtype: MapDtype = "float16"
    map_size: MapSize = "input"
    map_format: MapFormat = "png"
    regions: Path | None = None
    shard: tuple[int, int] | None = None
    resume: bool = False
    overwrite: bool = False
    seed: int = 0
    overlays: OverlayOptions = field(default_factory=OverlayOptions)
    backbone: BackboneOptions = field(default_factory=BackboneOptions)
    pictures: PictureOptions = field(default_factory=PictureOptions)
    engine: EngineOptions = field(default_factory=EngineOptions)

    CHECKS: ClassVar[dict[str, c.Check]] = {
        **SHARED_CHECKS,
        **METHOD_CHECKS,
        "method": c.optional(c.text),
        "attention": c.optional(c.path),
        "class_names": c.names_or_indices,
        "top_k": c.whole(1),
        "map_dtype": c.choice("float16", "uint8", "float32"),
        "map_size": c.choice("input", "original"),
        "map_format": c.choice("png", "png16", "tiff", "npy"),
        "regions": c.optional(c.path),
        "shard": c.optional(c.part),
    }

    def __post_init__(self) -> None:
        c.check_fields(self, self.CHECKS)
        if self.resume and self.overwrite:
            raise LcamError("--resume and --overwrite exclude each other", "pass only one of them")
