"""The engine that all commands and methods share: batches of images through one backbone.

It owns the device, the precision and the batch size. Images are (B, C, H, W) floats in [0, 1];
the classifier's mean and standard deviation are applied inside, after any mask, so that a hidden
pixel is black whatever the normalisation.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from lcam_cli.engine.activation import Activation, class_scores, confidence
from lcam_cli.engine.backbone import Backbone, load_backbone
from lcam_cli.engine.contrast import Contrast, explained, near_classes
from lcam_cli.engine.device import Hardware, choose_hardware, is_out_of_memory, prepare_cpu
from lcam_cli.engine.graph import Graph
from lcam_cli.engine.grid import Grid
from lcam_cli.engine.half import NEAR
from lcam_cli.engine.hardware import hardware_for
from lcam_cli.engine.no_gradients import no_gradients
from lcam_cli.engine.precision import Use
from lcam_cli.engine.shared import Shared
from lcam_cli.engine.tokens import Layout
from lcam_cli.errors import LcamError

log = logging.getLogger("lcam")

_BATCH_SIZE = {"cpu": 32, "mps": 32, "cuda": 128}


@dataclass
class Forward:
    """What one forward pass over a batch gives; every one-pass method starts from it.

    Attributes:
        x: Images, (B, C, H, W), float32 in [0, 1].
        A: Feature maps of the target layer, (B, K, P, Q), float32.
        logits: Class scores, (B, R), float32.
        grid: Where the cells of A lie in the images; None for an even tiling.
        activation: What turns logits into scores.
        others: Outputs of other layers as they gave them, by name; for methods, by
            :meth:`Engine.outputs_of`.
        around: What the network's head needs besides A, each with the batch first: what goes around
            the target layer, see :meth:`Backbone.forward`.
        contrast: What gradients are taken of instead of the logit of a class; None for that logit.
        shared: Gradients that several methods ask for, where they are kept for the next.
        graph: Of the pass, where the method's own first pass kept it (``engine.backward``).
    """

    x: Tensor
    A: Tensor
    logits: Tensor
    grid: Grid | None = None
    activation: Activation = "softmax"
    others: dict[str, Tensor] = field(default_factory=dict)
    around: tuple[Tensor, ...] = ()
    contrast: Contrast | None = None
    shared: Shared | None = None
    graph: Graph | None = None

    @property
    def predicted(self) -> Tensor:
        """Model-truth labels y, (B,), int64: the classifier's own top-1."""
        return self.logits.argmax(1)

    @property
    def scores(self) -> Tensor:
        """Scores (B, R) in [0, 1] of all classes."""
        return class_scores(self.logits, self.activation)

    @property
    def finite(self) -> Tensor:
        """Which images have scores that are numbers, (B,) bool; a logit of −∞ is one of 0."""
        return self.scores.isfinite().all(1)

    def confidence(self, classes: Tensor) -> Tensor:
        """Scores (B,) of ``classes`` (B,)."""
        return confidence(self.logits, classes, self.activation)

    def only(self, rows: Tensor | slice) -> Forward:
        """The same of some of its images."""
        return replace(
            self,
            x=self.x[rows],
            A=self.A[rows],
            logits=self.logits[rows],
            others={name: output[rows] for name, output in self.others.items()},
            around=tuple(t[rows] for t in self.around),
            contrast=self.contrast and self.contrast.only(rows),
            shared=self.shared and Shared(),
            graph=None,
        )


class Engine:
    """Runs a backbone over batches.

    Args:
        backbone: The classifier, or what :func:`~.backbone.load_backbone` makes one of.
        device: ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:N"`` or ``"mps"``.
        precision: ``"auto"``, ``"fp32"``, ``"bf16"`` or ``"fp16"``; see
            :func:`~.precision.choices`.
        batch_size: Images a batch; None for what suits the device.
        align: See below.
        use: What for; ``auto`` takes another precision where gradients go through the network.

    Attributes:
        backbone: The frozen classifier.
        hardware: Device and precision.
        batch_size: Images a batch; ``run`` lowers it when memory runs out.
        align: Whether maps are placed by the receptive fields of their cells. False tiles the
            image evenly with them, as papers and other libraries draw maps.
    """

    def __init__(
        self,
        backbone: Backbone | nn.Module | str,
        *,
        device: str = "auto",
        precision: str = "auto",
        batch_size: int | None = None,
        align: bool = True,
        use: Use = "maps",
    ) -> None:
        if not isinstance(backbone, Backbone):
            choose_hardware(device, precision)  # before what takes long
            backbone = load_backbone(backbone)
        self.hardware: Hardware = hardware_for(backbone, device, precision, use)
        if self.hardware.device.type == "cpu":
            prepare_cpu()
        self.backbone = backbone.to(self.hardware.device)
        self._choose_precision()
        self.batch_size = batch_size or _BATCH_SIZE[self.hardware.device.type]
        self.align = align
        self._limit: int | None = None
        if backbone.one_by_one and batch_size is None:
            self.batch_size = self._limit = 1
        self._warn_of_network()
        self._watched: tuple[str, ...] = ()
        self._others: dict[str, Engine] = {}
        p = backbone.preprocess
        self._mean = torch.tensor(p.mean, device=self.device).view(1, -1, 1, 1)
        self._std = torch.tensor(p.std, device=self.device).view(1, -1, 1, 1)

    def _choose_precision(self) -> None:
        """Cast the network to the chosen precision, or to the first of auto's that is right."""
        fallbacks = self.hardware.fallbacks
        for precision in (self.hardware.precision, *fallbacks):
            self.hardware = replace(self.hardware, precision=precision, fallbacks=())
            keep = precision == "fp16" or bool(fallbacks)
            try:
                away = self.backbone.compute_in(self.hardware.dtype, keep=keep)
            except LcamError:  # it does not run so at all
                if not fallbacks:
                    raise
                continue
            if away <= NEAR or not fallbacks:
                break
            self.backbone.restore()
        # In fp16 alone numbers may not fit.
        self.backbone.settle_precision(keep=self.hardware.precision == "fp16")
        self._said_in_fp32 = False

    @property
    def can_compute_in_fp32(self) -> bool:
        """Whether :meth:`in_fp32` makes a difference: in fp16, which not all numbers fit in."""
        return self.hardware.precision == "fp16" and self.backbone.keeps_float32

    @contextmanager
    def in_fp32(self, picture: str) -> Iterator[None]:
        """Compute in fp32 within the block, though the precision is fp16; said once.

        Args:
            picture: The first one on which fp16 gives no numbers.
        """
        if not self._said_in_fp32:
            log.warning(
                "fp16 gives no finite numbers for %s: this image and others like it are computed "
                "in fp32",
                picture,
            )
        self._said_in_fp32 = True
        hardware, self.hardware = self.hardware, replace(self.hardware, precision="fp32")
        others, self._others = self._others, {}  # those in fp16, at other layers
        try:
            with self.backbone.in_float32():
                yield
        finally:
            self.hardware, self._others = hardware, others

    def _warn_of_network(self) -> None:
        """Say once what the user should know of the network."""
        notes, self.backbone.notes = self.backbone.notes, []
        if self.backbone.one_by_one:
            how = (
                "images go through it one at a time, unless you set --batch-size"
                if self.batch_size == 1
                else "the results depend on --batch-size"
            )
            notes.append(f"{self.backbone.one_by_one}: {how}")
        if self.backbone.precision_note:
            notes.append(self.backbone.precision_note)
        for note in notes:
            log.warning("%s", note, extra={"once": True})  # of several ranks

    @property
    def device(self) -> torch.device:
        """Where tensors live."""
        return self.hardware.device

    @property
    def activation(self) -> Activation:
        """What turns logits into scores."""
        return self.backbone.identity.scoring

    def pixels(self, images: npt.NDArray[np.uint8] | npt.NDArray[np.float32]) -> Tensor:
        """Bring images to the device.

        Args:
            images: (B, H, W, C), uint8, or float32 in [0, 1]. They are not copied where they are
                floats already and the device is the CPU.

        Returns:
            (B, C, H, W), float32 in [0, 1].
        """
        given = torch.from_numpy(images)
        on_gpu = self.device.type == "cuda"
        if on_gpu:  # from pinned memory the copy runs beside the last batch
            given = given.pin_memory()
        # The permuted view already is channels-last, the layout the convolutions are fastest in.
        moved = given.to(self.device, non_blocking=on_gpu).permute(0, 3, 1, 2)
        return moved if moved.is_floating_point() else moved.float().div_(255)

    def at(self, layer: str) -> Engine:
        """The same engine with another target layer: see :meth:`Backbone.at`.

        It shares the network, and runs where this one does.
        """
        if layer == self.backbone.identity.layer:
            return self
        if layer not in self._others:
            other = copy.copy(self)
            other.backbone = self.backbone.at(layer)
            other._watched = ()
            self._others[layer] = other
        other = self._others[layer]
        other.align, other.batch_size, other._limit = self.align, self.batch_size, self._limit
        return other

    def normalise(self, x: Tensor) -> Tensor:
        """Apply the classifier's mean and standard deviation to pixels (B, C, H, W) in [0, 1]."""
        last = x.permute(0, 2, 3, 1)
        if not last.is_contiguous():
            return (x - self._mean).div_(self._std)
        # Whole rows of pixels at once: a few numbers at a time take six times as long.
        mean, std = (v.flatten().repeat(x.shape[3]) for v in (self._mean, self._std))
        rows = (last.flatten(2) - mean).div_(std)
        return rows.view_as(last).permute(0, 3, 1, 2)

    def head(self, A: Tensor, around: Sequence[Tensor]) -> Tensor:
        """Logits (B, R) of the rest of the network on A (B, K, P, Q).

        Args:
            A: The feature maps, possibly changed.
            around: Of the :class:`Forward` that A is from.
        """
        return self.backbone.head(A, around)

    def run(self, function: Callable[..., Any], *tensors: Tensor) -> Any:
        """Call ``function(*tensors)``, in halves where memory does not suffice.

        Args:
            function: Works on a batch; returns a tensor or a tuple of tensors, batch first.
            *tensors: Arguments, all with the batch first.

        Returns:
            What one call on the whole batch would have returned.
        """
        count = len(tensors[0])
        if self._limit is None or count <= self._limit:
            try:
                return function(*tensors)
            except (RuntimeError, MemoryError) as error:
                if count < 2 or not is_out_of_memory(error):
                    raise
            # Outside the except clause: the exception would keep the failed batch alive.
            self.lower_limit(count)
        assert self._limit is not None
        pieces = zip(*(torch.split(t, self._limit) for t in tensors), strict=True)
        parts = [self.run(function, *piece) for piece in pieces]
        if torch.is_tensor(parts[0]):
            return torch.cat(parts)
        return tuple(torch.cat(column) for column in zip(*parts, strict=True))

    @property
    def grid(self) -> Grid | None:
        """Where maps put the cells of A; None for an even tiling."""
        return self.backbone.grid if self.align else None

    def grids_of(self, layers: Sequence[str]) -> list[Grid] | None:
        """The same for the outputs of several layers; where one is not known, None for all."""
        return self.backbone.grids_of(layers) if self.align else None

    @property
    def limit(self) -> int | None:
        """The largest batch that is tried, once memory has run out."""
        return self._limit

    def lower_limit(self, failed: int) -> None:
        """Note that a batch of ``failed`` did not fit: half of it is the new limit."""
        self._limit = max(1, failed // 2)
        log.warning("out of memory on a batch of %d: continuing with %d", failed, self._limit)
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    @torch.no_grad()
    def forward(self, x: Tensor) -> Forward:
        """Features and logits of pixels (B, C, H, W) in one pass."""
        grid = self.grid  # the first time, finding it runs the network
        A, logits, *rest = self.run(self._features_and_logits, x)
        kept = dict(zip(self._watched, rest, strict=False))
        around = tuple(rest[len(kept) :])
        return Forward(x, A, logits, grid, self.activation, kept, around)

    def outputs_of(self, forward: Forward, layers: Sequence[str]) -> list[Tensor]:
        """Outputs (B, K, P, Q), float32, of other layers on the images of ``forward``.

        Tokens are read as feature maps. Whoever asks for the first time pays another forward pass;
        from then on :meth:`forward` keeps them along the way.
        """
        return [
            output if layout is None else layout.to_maps(output)
            for output, layout in self._read(forward, layers)
        ]

    def class_tokens_of(self, forward: Forward, layers: Sequence[str]) -> list[Tensor | None]:
        """The class tokens (B, K), float32, of the same outputs; None where a layer has not one."""
        return [
            output[:, 0] if layout is not None and layout.prefix == 1 else None
            for output, layout in self._read(forward, layers)
        ]

    def _read(self, forward: Forward, layers: Sequence[str]) -> list[tuple[Tensor, Layout | None]]:
        """What layers give on the images of ``forward``, and how it is read as feature maps."""
        if not all(layer in forward.others for layer in layers):
            self._watched = tuple(dict.fromkeys((*self._watched, *layers)))
            forward.others = self.forward(forward.x).others
        outputs = [forward.others[layer] for layer in layers]
        return list(zip(outputs, self.backbone.layouts_of(layers), strict=True))

    @torch.no_grad()
    def logits(self, x: Tensor) -> Tensor:
        """Logits (B, R), float32, of pixels (B, C, H, W)."""
        logits: Tensor = self.run(self._logits_of, x)
        return logits

    def scores(self, x: Tensor) -> Tensor:
        """Scores (B, R) in [0, 1], float32, of pixels (B, C, H, W)."""
        return class_scores(self.logits(x), self.activation)

    @torch.no_grad()
    def masked_confidence(
        self, x: Tensor, masks: Tensor, classes: Tensor, space: str = "pixel"
    ) -> Tensor:
        """Scores of images seen through masks.

        Args:
            x: Pixels (B, C, H, W) in [0, 1].
            masks: (B, H, W) in [0, 1].
            classes: (B,), int64.
            space: ``"pixel"`` hides with black (the paper's code); ``"normalized"`` multiplies
                the normalised input, which hides with the mean colour.

        Returns:
            (B,), float32.
        """

        def masked(x: Tensor, masks: Tensor, classes: Tensor) -> Tensor:
            if space == "pixel":
                given = self.normalise(apply_masks(x, masks))
            else:
                given = apply_masks(self.normalise(x), masks)
            return confidence(self.backbone(given), classes, self.activation)

        scores: Tensor = self.run(masked, x, masks, classes)
        return scores

    def feature_gradients(self, forward: Forward, classes: Tensor) -> Tensor:
        """G = ∂f_y/∂A of the logits of ``classes`` (B,): (B, K, P, Q), float32.

        Of a forward pass with a ``contrast``, that of the contrast. Only the head is
        differentiated; nothing below the target layer is.

        Raises:
            LcamError: The logits have no gradient there.
        """
        if forward.shared is None:
            return self._feature_gradients(forward, classes)
        return forward.shared.get(
            str(forward.contrast), classes, lambda: self._feature_gradients(forward, classes)
        )

    def _feature_gradients(self, forward: Forward, classes: Tensor) -> Tensor:
        if not self.backbone.differentiable:
            raise no_gradients(self.backbone, "this method")

        def gradients(A: Tensor, classes: Tensor, near: Tensor, *around: Tensor) -> Tensor:
            return self._head_gradients(A, around, classes, near, forward.contrast)

        near = near_classes(forward.contrast, classes)
        g: Tensor = self.run(gradients, forward.A, classes, near, *forward.around)
        return g

    def gradients_at_layer(
        self, given: Tensor, classes: Tensor, contrast: Contrast | None = None
    ) -> Tensor:
        """:meth:`feature_gradients` of normalised images (B, C, H, W), with no pass before.

        Raises:
            LcamError: The logits have no gradient there.
        """
        if not self.backbone.differentiable:
            raise no_gradients(self.backbone, "this method")

        def gradients(given: Tensor, classes: Tensor, near: Tensor) -> Tensor:
            with torch.no_grad():
                A, around = self.backbone.up_to_layer(given)
            return self._head_gradients(A, around, classes, near, contrast)

        g: Tensor = self.run(gradients, given, classes, near_classes(contrast, classes))
        return g

    @torch.enable_grad()
    def _head_gradients(
        self,
        A: Tensor,
        around: Sequence[Tensor],
        classes: Tensor,
        near: Tensor,
        contrast: Contrast | None,
    ) -> Tensor:
        A = A.detach().requires_grad_(True)
        logits = self.head(A, around)
        value = explained(logits, classes, near, contrast, self.activation)
        return torch.autograd.grad(value.sum(), A)[0]

    def logits_with_gradients(self, x: Tensor) -> Tensor:
        """Logits (B, R), float32, of pixels (B, C, H, W), with the graph that leads back to them.

        Not in halves where memory runs out: whoever calls it keeps the graph, and calls
        :meth:`run`.
        """
        with torch.enable_grad():
            return self._logits_of(x)

    def _features_and_logits(self, x: Tensor) -> tuple[Tensor, ...]:
        with self.backbone.watch(self._watched) as others:
            A, logits, around = self.backbone.forward(self.normalise(x))
        kept = [others[n].float() for n in self._watched]
        return A, logits, *kept, *around

    def _logits_of(self, x: Tensor) -> Tensor:
        return self.backbone(self.normalise(x))


def apply_masks(x: Tensor, masks: Tensor, out: Tensor | None = None) -> Tensor:
    """X ⊙ mask, without gradients.

    Args:
        x: Images, (B, C, H, W), or one for all masks, (1, C, H, W).
        masks: (B, H, W) in [0, 1].
        out: Where to write, (B, C, H, W); default new memory in the layout of ``x``.
    """
    if out is None:
        out = torch.empty_like(x)
    # In channels-last layout a channel at a time is twice as fast as all three broadcast.
    for channel in range(x.shape[1]):
        torch.mul(x[:, channel], masks, out=out[:, channel])
    return out
