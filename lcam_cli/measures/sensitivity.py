"""Max-sensitivity (Yeh, Hsieh, Suggala, Inouye, Ravikumar: NeurIPS 2019, Definition 2.2)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from lcam_cli.measures.measure import MapScores, Measure, Perturbation

if TYPE_CHECKING:
    from torch import Tensor

    from lcam_cli.measures.view import BatchView, MapView


@dataclass(frozen=True)
class Neighbours:
    """Pictures X + δ near X, explained again.

    δ is uniform in ±radius, a draw a pixel and channel, from the seed and the image: the same
    for every method, batch size, device and run. X + δ is clipped to [0, 1], which methods are
    promised; it stays within the radius of X, over which the measure is a maximum.

    Attributes:
        draws: n, how many.
        radius: Of [0, 1], the range of a pixel.
        seed: Of the draws.
    """

    draws: int = 10
    radius: float = 0.02
    seed: int = 0
    explanations: ClassVar[int] = 10  # with the draws above
    passes: ClassVar[int] = 0  # besides these

    def scores(self, view: MapView) -> Tensor:
        """‖V(X + δ) − V(X)‖₂ / ‖V(X)‖₂ of every draw, float32 (n, B).

        NaN where V(X) is 0 everywhere, or the method fails.
        """
        import torch

        batch, V = view.batch, view.V.flatten(1)
        norm = V.norm(dim=1)
        found = []
        for k in range(self.draws):
            near = batch.engine.forward(self.of(batch, k))
            moved = view.explain_again(near).flatten(1) - V
            found.append((moved.norm(dim=1) / norm).masked_fill(norm == 0, math.nan))
        return torch.stack(found)

    def of(self, batch: BatchView, k: int) -> Tensor:
        """The k-th neighbour of every image, (B, C, H, W) in [0, 1]."""
        import numpy as np
        import torch

        shape = batch.x.shape[1:]
        rngs = [np.random.default_rng([self.seed, int(sum_), k]) for sum_ in batch.once(_checksums)]
        drawn = np.stack([rng.random(shape, dtype=np.float32) for rng in rngs])
        delta = torch.from_numpy(drawn).to(batch.x.device).mul_(2).sub_(1).mul_(self.radius)
        return (batch.x + delta).clamp_(0, 1)


class Sensitivity(Measure):
    """How much the map changes with a change of the image that nobody sees.

    The largest of n draws, in parts of the map's norm: 0 where the map stays. A map of zeros has
    none.
    """

    name = title = "sensitivity"
    lower_is_better = True
    meaning = (
        "the largest change of the map, relative to its norm, under noise of up to 2% of the range "
        "of a pixel"
    )
    left_out = "{maps} skipped: all zeros, or a nearby image has no map"
    cost = "explains again 10 times: 10 passes; more for methods with several passes"
    source = "Yeh et al., NeurIPS 2019"
    explains_again = True
    neighbours: ClassVar[Neighbours] = Neighbours()

    @property
    def settings(self) -> Mapping[str, Any]:
        """The draws, and how far they reach."""
        return asdict(self.neighbours)

    def perturbations(self, nu: float) -> Sequence[Perturbation]:
        """Ask for the maps of the images near."""
        return [self.neighbours]

    def numbers(self, scores: MapScores, nu: float) -> Tensor:
        """Return max_δ ‖V(X + δ) − V(X)‖₂ / ‖V(X)‖₂; NaN where a draw has none."""
        return scores[self.neighbours].amax(0)


def _checksums(batch: BatchView) -> Tensor:
    """What tells the images apart, whatever the batch around them: int64 (B,)."""
    import zlib

    import torch

    pictures = batch.x.permute(0, 2, 3, 1).mul(255).round().byte().cpu().numpy()
    return torch.tensor([zlib.crc32(picture.tobytes()) for picture in pictures])
