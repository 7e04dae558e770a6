"""The image as its map shows it, X ⊙ V, explained again: what coherency and ADCC ask for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from torch import Tensor

    from lcam_cli.measures.view import MapView

CORRELATION, SCORE = 0, 1
"""Which row of :class:`ThroughMap`'s scores is which."""


@dataclass(frozen=True)
class ThroughMap:
    """X ⊙ V: one forward pass, which Kept(100) shares where kept pixels have the map's values.

    X ⊙ V is shown also where the run says ``keep="whole"``: at ν = 100 the whole image would be
    left, and its map is known.

    Attributes:
        explanations: How often the method explains again.
    """

    explanations: ClassVar[int] = 1

    def scores(self, view: MapView) -> Tensor:
        """Pearson(V(X), V(X ⊙ V)) in [−1, 1], and f(X ⊙ V) in [0, 1]: float32 (2, B).

        The correlation is NaN where one of the two maps is flat or not finite, or the method fails.
        """
        import torch

        again = view.explain_again(view.masked)
        found = [pearson(view.V, again), view.masked.confidence(view.classes)]
        return torch.stack(found)


def pearson(V: Tensor, W: Tensor) -> Tensor:
    """Return the correlation of the pixels of two maps, a pair a row.

    Args:
        V: Maps, float (B, H, W).
        W: The same of other images.

    Returns:
        float32 (B,) in [−1, 1]; NaN where one of the two has one value everywhere.
    """
    import math

    from lcam_cli.methods.base import flat_maps

    v, w = (maps.flatten(1).double() for maps in (V, W))
    v, w = (one - one.mean(1, keepdim=True) for one in (v, w))
    found: Tensor = (v * w).sum(1) / (v.norm(dim=1) * w.norm(dim=1))
    # Of a flat map rounding may leave a deviation that is not quite 0.
    found = found.clamp(-1, 1).masked_fill(flat_maps(V) | flat_maps(W), math.nan)
    return found.float()
