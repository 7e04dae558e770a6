"""RefineCAM: a product of Grad-CAM++ maps of several layers."""

from __future__ import annotations

from collections.abc import Sequence

from lcam_cli.engine.backbone import Backbone
from lcam_cli.engine.stages import stage_ends
from lcam_cli.engine.taps import check_gradients
from lcam_cli.errors import CannotExplainError
from lcam_cli.methods.fused import Fuse, Fused, check_layers
from lcam_cli.methods.gradient import GradCamPlusPlus

REFINECAM = "refinecam"

_STAGES = 3


def refinecam(backbone: Backbone, layers: Sequence[str] = (), how: Fuse | None = None) -> Fused:
    """V = ζ(Π_l θ(ζ(L_l))), L_l the map of Grad-CAM++ at layer l.

    Args:
        backbone: The classifier.
        layers: Names; fewer than two for the ends of its last three stages.
        how: Another fusion than the product.

    Raises:
        CannotExplainError: It has no such layers, fewer than two stages, or no gradients at one of
            them.
    """
    if len(layers) < 2:
        layers = list(stage_ends(backbone))[-_STAGES:]
        if len(layers) < 2:
            raise CannotExplainError(
                f"{REFINECAM} fuses several layers, but {backbone.identity.name} has one stage of "
                f"feature maps up to {layers[0]}",
                "pass several, each with --layer",
                "pass several layers, each with --layer",
            )
    check_layers(REFINECAM, layers, how)
    layers = [backbone.at(layer).identity.layer for layer in layers]
    check_gradients(backbone, layers)
    methods = {layer: GradCamPlusPlus() for layer in layers}
    return Fused(methods, how or "product", reads=True, gradients=True, name=REFINECAM)
