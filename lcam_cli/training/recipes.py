"""How the attention is trained: the paper's recipe, the authors' code's, and ours."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from lcam_cli.errors import LcamError

Mode = Literal["img", "fm", "bla", "bla-head", "bla-t-head", "l2x-f", "amg", "tame"]
MaskKind = Literal["sigmoid", "minmax"]
Init = Literal["random", "classifier"]
RowsKind = Literal["free", "shared"]
Shown = Literal["all", "part"]


@dataclass(frozen=True)
class Recipe:
    """Every number of a training run; λ1 … λ4 are the paper's.

    Attributes:
        name: ``auto``, ``paper`` or ``reference``.
        epochs: Passes over the images.
        batch_size: Images a step.
        lr: Base learning rate.
        lr_W: Times ``lr`` for W; where the classifier's head is trained, for the head.
        lr_b: Times ``lr`` for b.
        lr_delta: Learning rate of what sets a class apart, where rows are ``shared``.
        momentum: Nesterov momentum of SGD; 0 for plain SGD.
        weight_decay: Of SGD.
        decay: Factor on the learning rate after every epoch; ``None`` for a cosine to zero.
        flip: Mirror every second image.
        alternate: Every other epoch, from the first, sees centre crops, as inference does.
        mask: σ(L) as in Eq. 4-5, or ζ(L), which inference and the measures use.
        shown: ``all`` of the mask, or a ``part`` of it (``training.shown``).
        align: Place the mask by the receptive fields of its cells (``engine.grid``) instead of an
            even tiling. It is about training alone: where maps are placed is asked for with them.
        rows: ``free`` learns every row of W by itself, ``shared`` adds what all classes have in
            common (``training.rows``).
        kernel: Side of the kernel that spreads the map over neighbouring cells, in cells, where
            rows are ``shared``; 0 for none.
        init: Where W starts.
        lambda_tv: λ1, on TV (Eq. 8).
        lambda_av: λ2, on AV (Eq. 7).
        lambda_ce: λ3, on CE.
        lambda_drop: On the relative drop of the score (``losses.relative_drop``); ours.
        lambda4: λ4, the exponent in AV.
        av_epsilon: Added to S inside AV.
        border_tv: TV of the authors' code: with the border's energy, halved.
        all_pairs: Take TV and AV over the masks of every pair (image i, label of image j).
        dropout: Leave the head's dropout active, as the authors' code does on VGG-16.
        min_steps: Where ``epochs`` are fewer steps than this, there are more epochs.
        keep_aside: The share of the images, in [0, 0.5], that is never trained on: what the run
            leaves is chosen on them (``training.kept_aside``). 0 for none.
    """

    name: str
    epochs: int
    batch_size: int
    lr: float
    lr_W: float = 1.0  # noqa: N815 (the paper's W)
    lr_b: float = 1.0
    lr_delta: float = 0.5
    momentum: float = 0.0
    weight_decay: float = 0.0
    decay: float | None = None
    flip: bool = False
    alternate: bool = False
    mask: MaskKind = "sigmoid"
    shown: Shown = "all"
    align: bool = False
    rows: RowsKind = "free"
    kernel: int = 0
    init: Init = "random"
    lambda_tv: float = 0.01
    lambda_av: float = 2.0
    lambda_ce: float = 1.5
    lambda_drop: float = 0.0
    lambda4: float = 0.3
    av_epsilon: float = 0.0
    border_tv: bool = False
    all_pairs: bool = False
    dropout: bool = False
    min_steps: int = 0
    keep_aside: float = 0.0

    def fitted(self, pictures: int) -> Recipe:
        """The recipe for so many images: few of them need more epochs to learn anything."""
        steps_an_epoch = math.ceil(pictures / self.batch_size)
        return replace(self, epochs=max(self.epochs, math.ceil(self.min_steps / steps_an_epoch)))

    def lr_factor(self, epoch: int, share: float) -> float:
        """The factor on the learning rate, when ``share`` in [0, 1] of ``epoch`` is done."""
        if self.decay is not None:
            return float(self.decay**epoch)
        return 0.5 * (1 + math.cos(math.pi * (epoch + share) / self.epochs))

    def to_json(self) -> dict[str, Any]:
        """All settings, for the record in the attention file."""
        return asdict(self)


def recipe_for(name: str, backbone: str, mode: Mode = "img") -> Recipe:
    """Return a recipe with its defaults for a backbone and a mode.

    The paper gives numbers for VGG-16 and ResNet-50 only: networks named ``vgg…`` take the first,
    all others the second.

    Args:
        name: ``"auto"``, ``"paper"`` or ``"reference"``.
        backbone: Name of the backbone.
        mode: What is trained; modes beside L-CAM's have ``"auto"`` alone.

    Raises:
        LcamError: The mode has no recipe of that name.
    """
    if mode in OWN_RECIPES:
        if name != "auto":
            raise LcamError(
                f"recipe {name!r} is for L-CAM: mode {mode} has no such recipe",
                "remove --recipe",
            )
        return OWN_RECIPES[mode]
    vgg = backbone.startswith("vgg")
    if name == "auto":
        return AUTO
    paper = Recipe(
        "paper",
        epochs=7 if vgg else 25,
        batch_size=64,
        lr=1e-4,
        decay=0.75 if vgg else 0.95,
    )
    if name == "paper":
        return paper
    assert name == "reference", name
    return replace(
        paper,
        name="reference",
        lr_W=100.0 if vgg else 1.0,
        lr_b=200.0 if vgg else 2.0,
        momentum=0.9,
        weight_decay=5e-4,
        flip=True,
        av_epsilon=5e-4,
        border_tv=True,
        all_pairs=True,
        dropout=vgg,
    )


AUTO = Recipe(
    "auto",
    epochs=6,
    batch_size=32,
    lr=4e-4,
    lr_delta=0.1,
    flip=True,
    alternate=True,
    mask="minmax",
    shown="part",
    align=True,
    rows="shared",
    kernel=5,
    init="classifier",
    lambda_tv=0.0,
    lambda_av=0.0,
    lambda_ce=0.0,
    lambda_drop=1.0,
    lambda4=1.0,
    min_steps=120,
    keep_aside=0.2,
)
"""Ours, for hundreds of images instead of 1.3 million; docs/training-trials.md has the trials."""

_HEAD_ONLY = Recipe(
    "auto",
    epochs=20,
    batch_size=32,
    lr=0.01,
    flip=True,
    alternate=True,
    mask="minmax",
    align=True,
    lambda_tv=0.0,
    lambda_av=0.0,
    lambda_ce=1.0,
    lambda4=1.0,
)

_WITH_HEAD = replace(_HEAD_ONLY, lr_W=0.001)

OWN_RECIPES: dict[str, Recipe] = {
    "bla": _HEAD_ONLY,
    "bla-head": _WITH_HEAD,
    "bla-t-head": _WITH_HEAD,
    "l2x-f": replace(_HEAD_ONLY, lr=0.002),
    "amg": replace(_HEAD_ONLY, epochs=6, lr=0.001, lambda_av=2.5, keep_aside=0.2),
    "tame": AUTO,
}
"""``auto`` of the modes beside L-CAM."""
