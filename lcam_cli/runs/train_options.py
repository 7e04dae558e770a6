"""What :func:`~lcam_cli.runs.train.train_attention` can be asked for. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal, cast

from lcam_cli.errors import LcamError
from lcam_cli.runs import checks as c
from lcam_cli.runs.options import SHARED_CHECKS, BackboneOptions, EngineOptions, PictureOptions

if TYPE_CHECKING:
    from lcam_cli.training.recipes import Mode


@dataclass(frozen=True)
class TrainOptions:
    """How an attention is trained; the defaults are those of ``lcam train``.

    Attributes:
        mode: What is learned: L-CAM's ``"img"`` or ``"fm"``, ``"bla"``, ``"bla-t"``, ``"l2x-f"``,
            ``"amg"`` or ``"tame"``.
        train_head: With ``"bla"`` or ``"bla-t"``: train the classifier's linear head too.
        labels: With ``train_head``, the true classes: a file of lines ``NAME CLASS``, or
            ``"folders"``; None for the classifier's own predictions.
        layers: The layers whose feature maps are weighed, in the network's order; several with
            ``"tame"`` alone. Empty for that of ``backbone``, or what the mode takes by itself.
        recipe: ``"auto"``, ``"paper"`` or ``"reference"``; ``engine.batch_size``, if given, and
            what follows stand in place of the recipe's own.
        keep_aside: The share of the images that is never trained on, from 0 to 0.5: the best of
            where the run started and what it learned is chosen on them.
        epochs: Passes over the images, at least 1.
        lr: Base learning rate.
        lambda_tv: λ1, of the map's total variation (Eq. 8).
        lambda_av: λ2, of the map's average value (Eq. 7).
        lambda_ce: λ3, of the masked image's cross-entropy (Eq. 6).
        lambda4: λ4, the exponent in the average (Eq. 7).
        init: What the attention's weights start from: ``"auto"``, ``"random"`` or
            ``"classifier"``.
        loss: ``"full"``, or ``"ce"`` for cross-entropy alone.
        out: The run's folder; None for ``runs/<backbone>-<mode>``.
        resume: Go on with an interrupted run.
        overwrite: Start anew where the folder holds a run already.
        seed: Of everything random.
        backbone: The classifier.
        pictures: Which images are taken.
        engine: Where and how the network runs.

    Raises:
        LcamError: A value is of a wrong kind or out of range; or ``mode``, ``train_head`` and
            ``labels`` do not go together.
    """

    mode: Literal["img", "fm", "bla", "bla-t", "l2x-f", "amg", "tame"] = "img"
    train_head: bool = False
    labels: str | None = None
    layers: tuple[str, ...] = ()
    recipe: Literal["auto", "paper", "reference"] = "auto"
    keep_aside: float | None = None
    epochs: int | None = None
    lr: float | None = None
    lambda_tv: float | None = None
    lambda_av: float | None = None
    lambda_ce: float | None = None
    lambda4: float | None = None
    init: Literal["auto", "random", "classifier"] = "auto"
    loss: Literal["full", "ce"] = "full"
    out: Path | None = None
    resume: bool = False
    overwrite: bool = False
    seed: int = 0
    backbone: BackboneOptions = field(default_factory=BackboneOptions)
    pictures: PictureOptions = field(default_factory=PictureOptions)
    engine: EngineOptions = field(default_factory=EngineOptions)

    CHECKS: ClassVar[dict[str, c.Check]] = {
        **SHARED_CHECKS,
        "mode": c.choice("img", "fm", "bla", "bla-t", "l2x-f", "amg", "tame"),
        "train_head": c.flag,
        "labels": c.optional(c.text),
        "layers": c.names,
        "recipe": c.choice("auto", "paper", "reference"),
        "keep_aside": c.optional(c.number(0, 0.5)),
        "epochs": c.optional(c.whole(1)),
        **dict.fromkeys(
            ("lr", "lambda_tv", "lambda_av", "lambda_ce", "lambda4"), c.optional(c.number(0))
        ),
        "init": c.choice("auto", "random", "classifier"),
        "loss": c.choice("full", "ce"),
    }

    def __post_init__(self) -> None:
        c.check_fields(self, self.CHECKS)
        if self.train_head and self.mode not in ("bla", "bla-t"):
            raise LcamError(
                f"--train-head cannot be used with --mode {self.mode}",
                "use --train-head with --mode bla or bla-t",
            )
        if self.mode == "bla-t" and not self.train_head:
            raise LcamError(
                "--mode bla-t trains the classifier's head",
                "add --train-head, or use --mode bla to keep the head as it is",
            )
        if self.keep_aside and self.train_head:
            raise LcamError(
                "--keep-aside cannot be used with --train-head",
                "remove one: a trained head makes another classifier, whose maps cannot be "
                "compared with those "
                "of the first",
            )
        if self.labels is not None and not self.train_head:
            raise LcamError(
                "--labels can only be used with --train-head",
                "remove --labels: training explains the classifier's own predictions",
            )

    @property
    def run_mode(self) -> Mode:
        """The mode as runs know it: with ``train_head`` it is another one."""
        return cast("Mode", f"{self.mode}-head" if self.train_head else self.mode)
