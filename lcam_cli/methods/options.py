"""What users can set about methods."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from lcam_cli.engine.contrast import Contrast


@dataclass(frozen=True)
class MethodOptions:
    """Settings that every method is made with; each takes what concerns it.

    Attributes:
        seed: Of whatever a method draws.
        rise_masks: N of RISE; None: the paper's, 4000 for VGG networks and 8000 for others.
        rise_cells: Cells along each side of RISE's masks.
        rise_p: The chance that a cell is kept, in (0, 1).
        contrast: What gradients are taken of instead of the logit of the class; None for that
            logit, or a method's own.
        layers: Several layers whose maps are fused; fewer than two for the target layer's alone.
        fuse: How they are fused; None for the method's own way, for most the maximum.
    """

    seed: int = 0
    rise_masks: int | None = None
    rise_cells: int = 7
    rise_p: float = 0.5
    contrast: Contrast | None = None
    layers: tuple[str, ...] = ()
    fuse: Literal["max", "mean", "product"] | None = None

    def of_one_layer(self) -> MethodOptions:
        """The same without what only some methods take: contrast, layers and their fusion."""
        return replace(self, contrast=None, layers=(), fuse=None)
