"""What a method is: from one forward pass and a class a picture to maps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from lcam_cli.engine.engine import Engine, Forward
from lcam_cli.engine.grid import Grid
from lcam_cli.methods.attention import saliency_map


@dataclass
class Maps:
    """Explanations of a batch.

    Attributes:
        saliency: V, (B, H, W), float32 in [0, 1], at the network's input size.
        cam: The map L before normalisation, (B, P, Q); None for methods that have none.
    """

    saliency: Tensor
    cam: Tensor | None = None

    @classmethod
    def of_cam(cls, L: Tensor, forward: Forward, grid: Grid | None = None) -> Maps:
        """V = θ(ζ(L)), the way every class activation map of the paper's Table 1 is shown.

        Args:
            L: The map before normalisation, (B, P, Q).
            forward: The pictures it belongs to.
            grid: Where its cells lie; default where those of A do, ``forward.grid``, for a map of
                as many cells. Others tile the picture.
        """
        L = L.float()
        if grid is None and L.shape[1:] == forward.A.shape[2:]:
            grid = forward.grid
        return cls(saliency_map(L, (forward.x.shape[2], forward.x.shape[3]), grid), L)


def flat_maps(V: Tensor) -> Tensor:
    """Return which maps of V (B, H, W) have one value everywhere, (B,) bool: they say nothing."""
    return (V[:, :1, :1] == V).flatten(1).all(1)


class Method(Protocol):
    """A way to explain a batch of pictures.

    Attributes:
        name: As users type it.
        params: What was set, for the record in the maps file (JSON values).
        forward_passes: Forward passes of the classifier that a map costs (#FW of Table 1).
    """

    name: str
    params: dict[str, Any]
    forward_passes: int

    def __call__(self, engine: Engine, forward: Forward, classes: Tensor) -> Maps:
        """Explain why ``classes`` (B,), int64, score as they do on the pictures of ``forward``."""
        ...
