"""What to say where a method needs gradients that a network does not have."""

from __future__ import annotations

from lcam_cli.engine.backbone import Backbone
from lcam_cli.errors import CannotExplainError


def no_gradients(
    backbone: Backbone, who: str, hint: str = "", *, picture: bool = False
) -> CannotExplainError:
    """What to say where ``who`` needs gradients that there are not.

    Args:
        backbone: The classifier.
        who: What needs them.
        hint: What to do about it.
        picture: Whether they are needed at the image, not at the target layer.
    """
    where = "at the image" if picture else f"at layer {backbone.identity.layer}"
    why = backbone.picture_gradients_end if picture else backbone.gradients_end
    return CannotExplainError(
        f"{who} needs gradients, and the logits of {backbone.identity.name} have no gradients "
        f"{where}: {why}",
        hint or "use a method that needs none, e.g. scorecam",
    )
