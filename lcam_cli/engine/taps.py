"""Reading several layers in one forward pass, and the gradients of class scores at them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lcam_cli.engine.backbone import Backbone
from lcam_cli.engine.calls import KeptOutput, hook
from lcam_cli.engine.engine import Engine
from lcam_cli.errors import LcamError


@dataclass
class Taps:
    """What a forward pass shows at some layers.

    Attributes:
        logits: Class scores, (B, R), float32.
        outputs: A of each layer, (B, K, P, Q), float32, by the layer's name.
        gradients: ∂f_y/∂A of each layer, shaped as its output; empty where no classes were given.
    """

    logits: Tensor
    outputs: dict[str, Tensor]
    gradients: dict[str, Tensor]


def tap(engine: Engine, x: Tensor, layers: Sequence[str], classes: Tensor | None = None) -> Taps:
    """Run the network once and read layers on the way.

    Nothing below the lowest of the layers is differentiated. Of a layer that runs several
    times the call that counts is read, as of the backbone's target layer.

    Args:
        engine: The engine with the classifier.
        x: Pictures, (B, C, H, W), float32 in [0, 1].
        layers: Names of modules whose outputs are feature maps.
        classes: (B,), int64, where gradients of their logits are wanted.

    Raises:
        LcamError: The network has no such layer, or it gives no feature maps.
    """
    backbone = engine.backbone
    backbone.calls_of(layers)  # refuses what is no layer

    def read(x: Tensor, classes: Tensor | None = None) -> tuple[Tensor, ...]:
        return _read(backbone, layers, engine.normalise(x), classes)

    given = (x,) if classes is None else (x, classes)
    # One flat tuple, because the engine joins its columns where a batch had to be halved.
    logits, *rest = engine.run(read, *given)
    outputs = dict(zip(layers, rest, strict=False))
    gradients = dict(zip(layers, rest[len(layers) :], strict=False))
    return Taps(logits, outputs, gradients)


def check_gradients(backbone: Backbone, layers: Sequence[str]) -> None:
    """Check that the logits have a gradient at every one of some layers.

    Raises:
        LcamError: They have none at one of them.
    """
    _read(backbone, layers, backbone.blank(), torch.zeros(1, dtype=torch.int64))


def _read(
    backbone: Backbone, layers: Sequence[str], x: Tensor, classes: Tensor | None
) -> tuple[Tensor, ...]:
    """Logits, outputs and, where there are classes, gradients for normalised pictures ``x``."""
    calls = dict(zip(layers, backbone.calls_of(layers), strict=True))
    kept = {call.name: KeptOutput(call.later) for call in calls.values()}

    def keep(name: str, output: object) -> Tensor | None:
        if not torch.is_tensor(output) or output.ndim != 4:
            kept[name].add(output)
            return None
        dtype = output.dtype
        if classes is not None and not output.requires_grad:
            # The graph begins here; what gradients add up to is float32.
            output = output.detach().float().requires_grad_(True)
        kept[name].add(output)
        return output.to(dtype, copy=True)  # what follows may change it in place

    with hook(backbone.network, kept, keep), torch.set_grad_enabled(classes is not None):
        logits = backbone(x)
    outputs = []
    for layer, call in calls.items():
        output = kept[call.name].output
        if not kept[call.name].count:
            raise LcamError(f"layer {layer!r} does not run", "name a layer of the forward pass")
        if not torch.is_tensor(output) or output.ndim != 4:
            raise LcamError(
                f"layer {layer!r} gives no feature maps (B, K, P, Q)", "name a convolutional layer"
            )
        outputs.append(output)
    gradients: tuple[Tensor, ...] = ()
    if classes is not None:
        chosen = logits.gather(1, classes.unsqueeze(1)).sum()
        gradients = _gradients(backbone, chosen, dict(zip(layers, outputs, strict=True)))
    gradients = tuple(g.float() / backbone.gradient_scale for g in gradients)
    return logits.detach(), *(t.detach().float() for t in (*outputs, *gradients))


def _gradients(
    backbone: Backbone, chosen: Tensor, outputs: dict[str, Tensor]
) -> tuple[Tensor, ...]:
    """∂ chosen / ∂ A of each layer.

    Raises:
        LcamError: There is none at one of them.
    """
    found: Sequence[Tensor | None] = [None] * len(outputs)
    if chosen.requires_grad:
        found = torch.autograd.grad(chosen, list(outputs.values()), allow_unused=True)
    for layer, g in zip(outputs, found, strict=True):
        if g is None:
            raise LcamError(
                f"the logits of {backbone.identity.name} have no gradient at layer {layer}",
                "take a method that needs none, e.g. scorecam",
            )
    return tuple(g for g in found if g is not None)
