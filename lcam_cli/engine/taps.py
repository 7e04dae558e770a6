"""Reading several layers in one forward pass, and the gradients of class scores at them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lcam_cli.engine.engine import Engine
from lcam_cli.engine.layers import check_layer
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

    Nothing below the lowest of the layers is differentiated. A layer that runs several times is
    read at its last run, as the backbone's target layer is.

    Args:
        engine: The engine with the classifier.
        x: Pictures, (B, 3, H, W), float32 in [0, 1].
        layers: Names of modules whose outputs are feature maps.
        classes: (B,), int64, where gradients of their logits are wanted.

    Raises:
        LcamError: The network has no such layer, or it gives no feature maps.
    """
    for layer in layers:
        check_layer(engine.backbone.network, layer)
    given = (x,) if classes is None else (x, classes)
    # One flat tuple, because the engine joins its columns where a batch had to be halved.
    logits, *rest = engine.run(lambda *batch: _read(engine, layers, *batch), *given)
    outputs = dict(zip(layers, rest, strict=False))
    gradients = dict(zip(layers, rest[len(layers) :], strict=False))
    return Taps(logits, outputs, gradients)


def _read(
    engine: Engine, layers: Sequence[str], x: Tensor, classes: Tensor | None = None
) -> tuple[Tensor, ...]:
    seen: dict[str, Tensor] = {}

    def keep(name: str, output: object) -> Tensor:
        if not torch.is_tensor(output) or output.ndim != 4:
            raise LcamError(
                f"layer {name!r} gives no feature maps (B, K, P, Q)", "name a convolutional layer"
            )
        if classes is not None and not output.requires_grad:
            output = output.detach().requires_grad_(True)  # the graph begins here
        seen[name] = output
        return output.clone()  # what follows may change it in place

    def hook(name: str) -> torch.utils.hooks.RemovableHandle:
        layer: nn.Module = engine.backbone.network.get_submodule(name)
        return layer.register_forward_hook(lambda _module, _given, output: keep(name, output))

    handles = [hook(name) for name in layers]
    try:
        with torch.set_grad_enabled(classes is not None), engine.autocast():
            logits = engine.backbone(engine.normalise(x)).float()
    finally:
        for handle in handles:
            handle.remove()
    if unseen := [name for name in layers if name not in seen]:
        raise LcamError(f"layer {unseen[0]!r} does not run", "name a layer of the forward pass")
    outputs = [seen[name] for name in layers]
    gradients: tuple[Tensor, ...] = ()
    if classes is not None:
        gradients = torch.autograd.grad(logits.gather(1, classes.unsqueeze(1)).sum(), outputs)
    return logits.detach(), *(t.detach().float() for t in (*outputs, *gradients))
