"""Whether a run can learn anything, looked at on some of its images before it begins.

Maps come out of every run, also where the images or the classifier say nothing of where it looks.
So what no run can learn from is refused, and what little can be learned from is said.
"""

from __future__ import annotations

import logging
from contextlib import closing

import torch
from torch import Tensor

from lcam_cli.engine.engine import Engine, Forward
from lcam_cli.errors import LcamError
from lcam_cli.methods.attention import Attention, upsample
from lcam_cli.methods.base import flat_maps
from lcam_cli.methods.learned import LCAM_MODES
from lcam_cli.methods.tame import Tame
from lcam_cli.training.learned import LearnedModule
from lcam_cli.training.modes import find_mode, start
from lcam_cli.training.rows import Rows
from lcam_cli.training.start import StartingData

log = logging.getLogger("lcam")

ENOUGH_PICTURES = 30
"""A run on fewer is warned of."""

_MASKED_A_BATCH = 8
# A score that moves by less of itself is the same: fp32 and bf16 round by less and by about that.
_SAME = 1e-4
# Of p(1 − p), by which a softmax or a sigmoid passes a gradient on.
_NO_SLOPE = 1e-6
# Of features: the squares of others, summed over many, leave what fp32 can hold.
_SMALLEST, _LARGEST = 1e-18, 1e16


def few_pictures(count: int) -> str:
    """What to say of a run on so many images; empty where they are enough."""
    if count >= ENOUGH_PICTURES:
        return ""
    pictures = "1 image is" if count == 1 else f"{count} images are"
    return (
        f"{pictures} too few to learn from: maps may be no better than untrained ones; use at "
        f"least {ENOUGH_PICTURES}, better hundreds"
    )


def start_checked(data: StartingData) -> Rows | LearnedModule:
    """Begin a run as :func:`~.modes.start` does, if there is something to learn.

    What little can be learned from is warned of, in one line.

    Args:
        data: What the run starts from. Its first batch is looked at, and where that leaves
            doubts, up to 256 images.

    Raises:
        LcamError: As :func:`~.modes.start`; or the feature maps are the same everywhere on all
            images, the classifier's rows are 0, or the start holds values that are no numbers.
    """
    with closing(data):
        prospects = Prospects(data)
        for forward in data.forwards():
            prospects.add(forward)
            if not prospects.unclear:
                break
        if prospects.flat:
            raise LcamError(
                f"the features of layer {prospects.layer} are the same everywhere in "
                f"{prospects.of_all()}: no map can be made from them",
                "pass photographs, trained --weights, or another layer: --layer NAME",
            )
        module = start(data)
        _check_start(module, data, prospects)
    for line in prospects.warnings():
        log.warning("%s", line, extra={"once": True})
    return module


class Prospects:
    """What the images looked at so far let a run expect.

    Args:
        data: What the run starts from.

    Attributes:
        layer: The target layer.
        pictures: How many were looked at.
        flat: Whether the feature maps are the same everywhere on each of them.
        largest: The largest magnitude in the target layer's feature maps.
        alike: Whether they are all the same, as inference sees them.
        classes: What is learned of: the true classes of all images where they are given, else
            what the classifier predicts on those looked at.
        unmoved: Whether the scores of those classes stay what they are when images are masked.
        saturated: Whether those scores are 0 or 1, masked or not.
    """

    def __init__(self, data: StartingData) -> None:
        self._engine = data.engine
        self._settings = data.settings
        self._total = len(data.paths)
        self._generator = torch.Generator().manual_seed(data.settings.seed)
        self._masked = find_mode(data.settings.mode).gradients
        self._trains_head = self._masked == "none"
        self._first: Tensor | None = None
        self.layer = data.engine.backbone.identity.layer
        self.pictures = 0
        self.flat = self.alike = True
        self.largest = torch.zeros((), device=data.engine.device)
        self.classes = set(data.settings.labels or ())
        # A head that is trained learns from the images as they are.
        self.unmoved = not self._trains_head
        self.saturated = not self._trains_head and data.engine.activation != "none"
        self._scores: list[float] = []

    @property
    def unclear(self) -> bool:
        """Whether more images may let expect more."""
        one_class = self._is_one_class and self._settings.labels is None
        return self.flat or self.alike or one_class or self.unmoved or self.saturated

    @property
    def _is_one_class(self) -> bool:
        """Whether all are of one class, where a mode learns something of each class."""
        by_class = self._trains_head or self._settings.mode in (*LCAM_MODES, "tame")
        several = self._engine.backbone.num_classes > 1 and self._total > 1
        return by_class and several and len(self.classes) == 1

    @torch.no_grad()
    def add(self, forward: Forward) -> None:
        """Look at a batch of images."""
        self.pictures += len(forward.x)
        self.largest = torch.maximum(self.largest, forward.A.abs().max())  # NaN stays
        if self._first is None:
            self._first = forward.x[0]
        self.alike = self.alike and bool((forward.x == self._first).all())
        self.flat = self.flat and all(
            bool(flat_maps(A.flatten(0, 1)).all()) for A in self._features(forward)
        )
        if self._settings.labels is None:
            self.classes.update(forward.predicted.tolist())
        f = forward.confidence(forward.predicted)
        if self.unmoved or self.saturated:
            some = forward.only(slice(_MASKED_A_BATCH))
            self._scores += f[:_MASKED_A_BATCH].tolist()
            self._compare(f[:_MASKED_A_BATCH], self._masked_scores(some))

    def warnings(self) -> list[str]:
        """What speaks against the run, a line each."""
        lines = []
        if self.alike and self.pictures > 1:
            lines.append(f"{self.of_all()} looks the same: they teach as little as one image")
        elif self._is_one_class:
            lines.append(self._of_one_class())
        if self.unmoved:
            lines.append(
                f"masking does not change the classifier's score ({self._range()}; "
                f"{len(self._scores)} images checked): nothing can be learned from it, and the "
                "maps will explain nothing; check --weights, --mean and --std"
            )
        elif self.saturated:
            lines.append(
                "the classifier's scores are all 0 or 1, masked or not "
                f"({len(self._scores)} images checked): the loss has almost no gradient, so little "
                "can be learned; check whether its logits are scaled up"
            )
        return lines

    def of_all(self) -> str:
        """All images, or those looked at, each of them, in words."""
        if self._total == 1:
            return "the only image"
        if self.pictures == self._total:
            return f"each of the {self._total} images"
        return f"each of {self.pictures} images (of {self._total})"

    def _of_one_class(self) -> str:
        """What to say where all images are of one class."""
        (only,) = self.classes
        name = self._engine.backbone.class_names[only]
        if self._trains_head:
            which = self.of_all() if self._settings.labels is None else "every image"
            return (
                f"{which} is of class {name!r}: the head learns to predict that class for every "
                "image; use images of all classes"
            )
        return (
            f"{self.of_all()} is of class {name!r} for the classifier: maps of other classes are "
            "hardly trained; use images of every class whose maps matter"
        )

    def _range(self) -> str:
        """The unmasked scores, in words."""
        low, high = (f"{score:.6g}" for score in (min(self._scores), max(self._scores)))
        return low if low == high else f"{low} to {high}"

    def _features(self, forward: Forward) -> list[Tensor]:
        """The feature maps that maps are made of, (B, K, P, Q) a layer."""
        layers = self._settings.layers
        return self._engine.outputs_of(forward, layers) if layers else [forward.A]

    def _masked_scores(self, forward: Forward) -> Tensor:
        """Scores (2, B) of the predicted classes, with all hidden and with random cells darkened.

        Only the target layer's feature maps are masked where the mode masks these.
        """
        engine, y = self._engine, forward.predicted
        B, _, P, Q = forward.A.shape
        drawn = torch.rand(B, P, Q, generator=self._generator).to(engine.device)
        masks = (torch.zeros_like(drawn), drawn)
        if self._masked == "head":
            return torch.stack([_head_scores(engine, forward, S, y) for S in masks])
        size = (forward.x.shape[2], forward.x.shape[3])
        return torch.stack(
            [engine.masked_confidence(forward.x, upsample(S, size), y) for S in masks]
        )

    def _compare(self, f: Tensor, masked: Tensor) -> None:
        """Compare scores (B,) with those of the same images under masks, (n, B)."""
        self.unmoved = self.unmoved and bool(((masked - f).abs() <= _SAME * f.abs()).all())
        if self.saturated:
            p = torch.cat([f.unsqueeze(0), masked])
            self.saturated = bool((p * (1 - p) < _NO_SLOPE).all())


def _head_scores(engine: Engine, forward: Forward, S: Tensor, y: Tensor) -> Tensor:
    """Scores (B,) of classes y on A ⊙ S, S (B, P, Q)."""

    def scores(A: Tensor, y: Tensor, *around: Tensor) -> Tensor:
        logits = engine.head(A, around)
        return Forward(A, A, logits, activation=engine.activation).confidence(y)

    found: Tensor = engine.run(scores, forward.A * S.unsqueeze(1), y, *forward.around)
    return found


def _check_start(module: Rows | LearnedModule, data: StartingData, prospects: Prospects) -> None:
    """Check that what is trained starts from numbers, and not from nothing.

    Raises:
        LcamError: Otherwise; it names the cause.
    """
    learned = module.fold()
    started = (*module.parameters(), *module.buffers(), *learned.tensors().values())
    finite = all(t.isfinite().all() for t in started)
    starts_at_rows = isinstance(learned, Tame) or (
        isinstance(learned, Attention) and data.settings.recipe.init == "classifier"
    )
    empty = isinstance(learned, Attention) and not learned.W.any()
    if finite and not empty:
        return
    if starts_at_rows and not data.classifier_rows().any():
        raise LcamError(
            f"the classifier's rows at layer {prospects.layer}, which training starts from, are "
            "all 0: the output of the layer does not change its scores",
            "pass trained --weights or another layer: --layer NAME",
        )
    largest = float(prospects.largest)
    if starts_at_rows and _SMALLEST < largest < _LARGEST:
        raise LcamError(
            f"the classifier's rows at layer {prospects.layer} are the same number everywhere: "
            f"recipe {data.settings.recipe.name} cannot start from them",
            "start from random numbers with --recipe paper, or pass another layer: --layer NAME",
        )
    raise LcamError(
        f"training cannot start: the feature maps of layer {prospects.layer} reach "
        f"{largest:.3g}, which is too large or too small to compute with",
        "check --weights, --mean and --std, or pass another layer: --layer NAME",
    )
