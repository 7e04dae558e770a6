"""What ``diagnose_folder`` can be asked for. Nothing here imports torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

from lcam_cli.measures.error_groups import DEFAULT_RULES, Rules
from lcam_cli.runs import checks as c
from lcam_cli.runs.named_results import NamedResults, named_results
from lcam_cli.runs.options import SHARED_CHECKS, BackboneOptions, EngineOptions, PictureOptions

AUTO, NONE = "auto", "none"
"""Second methods that are none by name."""


@dataclass(frozen=True)
class DiagnoseOptions:
    """How misclassified images are explained and grouped, and where the results go.

    Attributes:
        method: How to explain; None for the newest trained attention that fits.
        second_method: Another method that sorts the same errors, so that the result says how many
            it would put into another group; ``"auto"`` takes one that costs little, ``"none"``
            none.
        attention: A trained attention, a file or the folder of a run; None for the newest run.
        nu: Percent of the pixels in a class's region, the brightest of its map, in (0, 100].
        same_region: Overlap (IoU) in [0, 1] from which two regions are the same.
        evidence: Share of the predicted class's score, in [0, 1], that the true one must reach
            somewhere.
        out: A file for the result, or several; None for none. The extension says what is written:
            ``.json``, ``.csv``, ``.md``, or ``.txt``.
        format: The format of an ``out`` whose extension says none; None where each says its own.
        figure: A PNG of those that the classifier is most wrong about, a few of each group; None
            for none.
        report: A folder for a page with every misclassified image; None for none.
        overwrite: Whether ``out``, ``figure`` and ``report`` may be replaced.
        align: Whether maps are placed by the receptive fields of their cells; else these tile the
            image evenly, as papers and other libraries draw them.
        seed: Of everything random.
        pictures: Which images are taken.
        backbone: The classifier; a trained attention knows its own.
        engine: Where and how it runs. The precision ``"auto"`` is fp32 here: what an image is
            taken for must not depend on rounding.

    Raises:
        LcamError: A value is of a wrong kind or out of range; the message names it.
    """

    method: str | None = None
    second_method: str = "auto"
    attention: Path | None = None
    nu: float = DEFAULT_RULES.nu
    same_region: float = DEFAULT_RULES.same_region
    evidence: float = DEFAULT_RULES.evidence
    out: Path | tuple[Path, ...] | None = None
    format: Literal["table", "json", "csv", "markdown"] | None = None
    figure: Path | None = None
    report: Path | None = None
    overwrite: bool = False
    align: bool = True
    seed: int = 0
    pictures: PictureOptions = field(default_factory=PictureOptions)
    backbone: BackboneOptions = field(default_factory=BackboneOptions)
    engine: EngineOptions = field(default_factory=EngineOptions)

    FORMATS: ClassVar[tuple[str, ...]] = ("json", "csv", "markdown")

    CHECKS: ClassVar[dict[str, c.Check]] = {
        **SHARED_CHECKS,
        "method": c.optional(c.text),
        "second_method": c.text,
        "attention": c.optional(c.path),
        "nu": c.percent,
        "same_region": c.number(0, 1),
        "evidence": c.number(0, 1),
        "out": c.no_path_or_several,
        "format": c.optional(c.choice("table", "json", "csv", "markdown")),
    }

    def __post_init__(self) -> None:
        c.check_fields(self, self.CHECKS)
        _ = self.results  # refuses what it cannot write

    @property
    def rules(self) -> Rules:
        """What the groups are told by."""
        return Rules(self.nu, self.same_region, self.evidence)

    @property
    def results(self) -> NamedResults:
        """What is written to which file of ``out``."""
        return named_results(
            c.no_path_or_several(self.out), self.format, self.FORMATS, figures=True
        )
