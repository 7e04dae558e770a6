"""What ``sanity_check`` can be asked for. Nothing here imports torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

from lcam_cli.errors import LcamError
from lcam_cli.runs import checks as c
from lcam_cli.runs.named_results import NamedResults, named_results
from lcam_cli.runs.options import SHARED_CHECKS, BackboneOptions, EngineOptions, PictureOptions

MAX_IMAGES = 50
"""Pictures that are taken unless asked otherwise: each is explained at every stage."""

MAX_STAGES = 8


def _pictures() -> PictureOptions:
    return PictureOptions(MAX_IMAGES)


@dataclass(frozen=True)
class SanityOptions:
    """Which methods are checked, how, and where the results go.

    Attributes:
        methods: Names of methods, a row each, or of groups of them, as ``"gradient"``; ``"all"``
            for all, None for ``"one-pass"``.
        attentions: Trained attentions, files or folders of runs; none for the newest run.
        stages: Into how many stages the network's layers are grouped at most, from 1 to 8.
        max_similarity: The highest mean rank correlation that passes at the last stage, in [-1, 1];
            None for any.
        out: A file for the result, or several; None for none. The extension says what is written:
            ``.json``, ``.csv``, ``.md``, ``.tex`` or ``.txt``.
        format: The format of an ``out`` whose extension says none; None where each says its own.
        figure: A PNG of some images' maps, the stages down; None for none.
        rise_masks: Masks of ``rise``; None for the paper's number.
        rise_cells: Cells a side of its masks.
        rise_p: The share of its cells that is kept, in (0, 1).
        floor: Whether random maps are checked too.
        overwrite: Whether ``out`` and ``figure`` may be replaced.
        align: Whether maps are placed by the receptive fields of their cells; else these tile the
            image evenly, as papers and other libraries draw them.
        seed: Of everything random, the weights drawn above all.
        pictures: Which images are taken; 50 where nothing is said.
        backbone: The classifier; a trained attention knows its own.
        engine: Where and how it runs. The precision ``"auto"`` is fp32 here: ranks must not depend
            on rounding.

    Raises:
        LcamError: A value is of a wrong kind or out of range; the message names it.
    """

    methods: tuple[str, ...] | None = None
    attentions: tuple[Path, ...] = ()
    stages: int = MAX_STAGES
    max_similarity: float | None = None
    out: Path | tuple[Path, ...] | None = None
    format: Literal["table", "json", "csv", "markdown", "latex"] | None = None
    figure: Path | None = None
    rise_masks: int | None = None
    rise_cells: int = 7
    rise_p: float = 0.5
    floor: bool = True
    overwrite: bool = False
    align: bool = True
    seed: int = 0
    pictures: PictureOptions = field(default_factory=_pictures)
    backbone: BackboneOptions = field(default_factory=BackboneOptions)
    engine: EngineOptions = field(default_factory=EngineOptions)

    FORMATS: ClassVar[tuple[str, ...]] = ("json", "csv", "markdown", "latex")

    CHECKS: ClassVar[dict[str, c.Check]] = {
        **SHARED_CHECKS,
        "methods": c.optional(c.names),
        "attentions": c.paths,
        "stages": c.whole(1, MAX_STAGES),
        "max_similarity": c.optional(c.number(-1, 1)),
        "out": c.no_path_or_several,
        "format": c.optional(c.choice("table", "json", "csv", "markdown", "latex")),
        "rise_masks": c.optional(c.whole(1)),
        "rise_cells": c.whole(1),
        "rise_p": c.number(),
        "floor": c.flag,
    }

    def __post_init__(self) -> None:
        c.check_fields(self, self.CHECKS)
        _ = self.results  # refuses what it cannot write
        if not 0 < self.rise_p < 1:
            raise LcamError(
                f"RISE with p = {self.rise_p}", "pass the share of cells kept, between 0 and 1"
            )

    @property
    def results(self) -> NamedResults:
        """What is written to which file of ``out``."""
        return named_results(
            c.no_path_or_several(self.out), self.format, self.FORMATS, figures=True
        )
