"""What of a network reaches its logits: which calls' outputs they depend on.

What counts is what reaches the logits, not what kind of module does: a classifier may be made of
linear layers, of plain parameters, or of quantised weights that are no parameters at all.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from lcam_cli.engine.calls import replace_output
from lcam_cli.engine.comparing import close
from lcam_cli.engine.events import Event, record
from lcam_cli.engine.gradients import KeepGradients, gradient_of_logits
from lcam_cli.errors import LcamError

_POOLING = (
    nn.MaxPool2d,
    nn.AvgPool2d,
    nn.LPPool2d,
    nn.FractionalMaxPool2d,
    nn.AdaptiveAvgPool2d,
    nn.AdaptiveMaxPool2d,
)
_PASS_THROUGH = (nn.Dropout, nn.Dropout2d, nn.Identity, nn.Flatten)
_WEIGHTS_OF_PLACES = (nn.Softmax, nn.LogSoftmax)
_ROUNDING = 1e-6
"""Logits that differ by less of their size are the same."""


@dataclass(frozen=True)
class OnePass:
    """What a pass of the untouched network gave for one image.

    Attributes:
        A: Feature maps of the target layer, (1, K, P, Q).
        logits: (1, R).
        gradient: Of a sum of the logits (:func:`~.gradients.gradient_of_logits`), at A.
    """

    A: Tensor
    logits: Tensor
    gradient: Tensor


class Flow:
    """One image's way through a network, and what of it the logits depend on.

    Args:
        network: The classifier.
        picture: (1, C, H, W).
        grid: P and Q of patches, where the user says so.

    Attributes:
        grid: As given.
        events: The calls of modules.
        logits: (1, R).
        switches_gradients_off: Whether the network's own code does somewhere.
    """

    def __init__(self, network: nn.Module, picture: Tensor, grid: tuple[int, int] | None) -> None:
        self.network = network
        self.picture = picture
        self.grid = grid
        self.switches_gradients_off = False
        self._others: dict[tuple[str, int], object] | None = None  # of another image
        try:
            # Computed, as networks may change their input in place.
            given = picture.clone().requires_grad_() * 1
            with torch.enable_grad(), KeepGradients() as kept:
                self._given, self.events, self.logits = given, *record(network, given, grid)
            self.switches_gradients_off = kept.asked > 0
        except Exception:  # code that only runs without gradients
            given = picture.clone()
            with torch.no_grad():
                self._given, self.events, self.logits = given, *record(network, given, grid)

    def last(self, *, by_gradients_alone: bool = False) -> Event:
        """The last call that gives features and that the logits depend on.

        Args:
            by_gradients_alone: Whether a gradient that is not zero is enough; else the network is
                run again with what the call gives put back.

        Raises:
            LcamError: There is none.
        """
        candidates = self._candidates()
        scores: list[Event] = []  # maps of class scores: features where there are no others
        # Where gradients are zero everywhere (rounded values) only trying tells.
        for by_gradients in (True, False):
            tried: list[object] = []
            for event in reversed(candidates):
                if any(event.output is other for other in tried):
                    continue
                tried.append(event.output)
                if by_gradients and self._has_gradient(event) is False:
                    continue
                named = _outermost([e for e in candidates if e.output is event.output])
                is_known = by_gradients_alone and self._has_gradient(named)
                if not (is_known or self.reaches(named)):
                    continue
                if self.are_features(named):
                    return named
                scores.append(named)
        if scores:
            return scores[0]
        if self.is_random():
            raise random_logits()
        if candidates:
            raise LcamError(
                "no layer's features change the logits of a random image",
                "load trained weights, or pass the layer: --layer NAME",
            )
        raise self._not_one_a_picture() or LcamError(
            "found no convolutional features or patches in this network",
            "pass the layer: --layer NAME; for a transformer also its patches: --grid PxQ",
        )

    def _not_one_a_picture(self) -> LcamError | None:
        """What to say where layers run on parts of an image, or on several made of it."""
        for event in reversed(self.events):
            output = event.output
            if not (torch.is_tensor(output) and output.ndim == 4 and len(output) > 1):
                continue
            if output.shape[2] > 1 and not output.is_quantized:
                return LcamError(
                    f"layer {event.name} returns {tuple(output.shape)} for one image: "
                    f"{len(output)} maps, not one",
                    "call each layer in forward() once per image, with crops or a second "
                    "image in separate calls",
                )
        return None

    def events_of(self, picture: Tensor) -> list[Event]:
        """The calls of modules for another image, (1, C, H, W), without gradients."""
        with torch.no_grad():
            return record(self.network, picture, self.grid)[0]

    def is_random(self) -> bool:
        """Whether the same image gives other logits each time."""
        with torch.no_grad():
            others = [self.network(self.picture.clone()) for _ in range(2)]
        return not all(close(other, self.logits.detach()) for other in others)

    def pass_at(self, event: Event) -> OnePass | None:
        """What the pass gave at a call; None where that has changed, or has no gradient."""
        if not event.is_unchanged or not self._has_gradient(event):
            return None
        output, to_maps = cast(Tensor, event.output), event.spatial_layout.to_maps
        g = gradient_of_logits(self.logits, output, again=True)
        if g is None or not g.isfinite().all():
            return None
        return OnePass(to_maps(output.detach().clone()), self.logits.detach(), to_maps(g))

    def reaches(self, event: Event) -> bool:
        """Whether A put back as it is gives the logits, and A changed gives others."""
        logits, other = self.logits.detach(), None
        # The network's own code can fail in any way on what it did not compute.
        with contextlib.suppress(Exception):
            other = self._put(event, lambda A: A + _noise(A))
            # The common case, in which one run tells.
            if self._has_gradient(event) and not close(other, logits):
                return True
        try:
            same = self._put(event, lambda A: A)
        except Exception:
            return False
        if not close(same, logits):
            return False
        if other is None:  # it checks what it is given: so it does read it
            return True
        rounding = 0.0 if self._has_gradient(event) else _ROUNDING
        return not bool((other - same).abs().max() <= rounding * same.abs().max())

    def are_features(self, event: Event) -> bool:
        """Whether a call gives features, and not what is made of them or weighs them."""
        return any(event is e for e in self._candidates()) and not self._are_class_scores(event)

    def _put(self, event: Event, change: Callable[[Tensor], Tensor]) -> Tensor:
        """The logits where a call gives changed feature maps."""

        def put(output: Tensor) -> Tensor:
            layout = event.spatial_layout
            changed = layout.to_output(change(layout.to_maps(output.clone())), output)
            return output.copy_(changed) if event.in_place else changed

        with torch.no_grad(), replace_output(self.network, event.name, event.number, put):
            return cast(Tensor, self.network(self.picture.clone()))

    def _has_gradient(self, event: Event) -> bool | None:
        """Whether the logits have a gradient at a call's places; None where there is no telling."""
        output = cast(Tensor, event.output)
        if not (self.logits.requires_grad and output.requires_grad):
            return None
        g = gradient_of_logits(self.logits, output, again=True)
        return None if g is None else bool(event.spatial_layout.to_maps(g).any())

    def _is_of_picture(self, event: Event) -> bool:
        """Whether what a call gives changes with the image, and is not of a stored reference."""
        output = cast(Tensor, event.output)
        if output.requires_grad or not self._given.requires_grad:
            return True
        if self._others is None:
            events = self.events_of(self.picture.flip(2, 3) / 2)
            self._others = {(e.name, e.number): e.output for e in events}
        other = self._others.get((event.name, event.number))
        return not (torch.is_tensor(other) and torch.equal(other, output))

    def _are_class_scores(self, event: Event) -> bool:
        """Whether these are maps of class scores: each channel changes its own logit alone.

        They are what a 1×1 convolution made of the features, before the average is taken.
        """
        classes = self.logits.shape[1]
        if event.channels != classes:
            return False
        if classes == 1:
            return True
        changed = torch.arange(classes) % 2 == 0
        some = changed[:, None, None]
        try:
            moved = self._put(event, lambda A: A + _noise(A) * some.to(A))
            moved = (moved - self._put(event, lambda A: A))[0]
        except Exception:  # as above
            return False
        still = moved[~changed]
        if len(still) > 1:  # a softmax's logarithm moves all others by the same
            still = still - still[0]
        return bool(still.abs().max() <= 10 * _ROUNDING * moved[changed].abs().max())

    def _candidates(self) -> list[Event]:
        """The calls that may give features, by what they are and what they give."""
        pooled = [e.output for e in self.events if isinstance(e.module, _POOLING)]
        spatial = [
            e
            for e in self.events
            if e.layout is not None
            and not isinstance(e.module, _POOLING + _PASS_THROUGH + _WEIGHTS_OF_PLACES)
            and not any(e.output is p for p in pooled)
        ]
        lists = [e for e in spatial if e.spatial_layout.kind == "list"]
        if lists:
            counts = {cast(Tensor, e.output).shape[1] for e in lists}
            spatial = [e for e in spatial if _holds_features_of_tokens(e, counts)]
        spatial = [e for e in spatial if self._is_of_picture(e)] or spatial
        # One map weighs places, as attention does; it is no feature.
        several = [e for e in spatial if e.channels > 1]
        # What is given the image is the whole trunk: its last part is named instead.
        inner = [e for e in several or spatial if e.given is not self._given]
        return inner or several or spatial


def _outermost(same: Sequence[Event]) -> Event:
    """Of the calls that gave the very same tensor, the outermost; of several of those the last."""
    depth = min(e.name.count(".") for e in same)
    return [e for e in same if e.name.count(".") == depth][-1]


def _holds_features_of_tokens(event: Event, counts: set[int]) -> bool:
    """Whether a transformer's call gives features rather than parts of its attention."""
    layout, output = event.spatial_layout, cast(Tensor, event.output)
    # Linear layers inside attention give queries, keys and values: no features of their own.
    if isinstance(event.module, nn.Linear):
        return False
    if layout.kind == "list":
        return True
    # A head's queries (B, heads, N, K), and its attention (B, heads, N, N).
    return layout.P == layout.Q and not (layout.kind == "maps" and output.shape[2] in counts)


def random_logits() -> LcamError:
    """What to say of a network that is not a function of its images."""
    return LcamError(
        "the network returns different logits each time it runs on the same image",
        "in eval mode, its forward() must not draw random numbers or keep state between calls",
    )


def _noise(A: Tensor) -> Tensor:
    """Random numbers larger than the feature maps, and than what rounding takes away."""
    generator = torch.Generator().manual_seed(1)
    size = A.float().std().nan_to_num(1.0, 1.0, 1.0).clamp_min(0.5)
    return (2 * size * torch.randn(A.shape, generator=generator).to(size)).to(A.dtype)
