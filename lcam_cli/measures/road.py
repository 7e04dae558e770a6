"""ROAD, remove and debias (Rong, Leemann, Borisov, Kasneci, Kasneci, ICML 2022)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from lcam_cli.measures.measure import MapScores, Measure, Perturbation

if TYPE_CHECKING:
    from torch import Tensor

    from lcam_cli.measures.view import BatchView, MapView

_SEED = 0


@dataclass(frozen=True)
class RoadSteps:
    """Pictures without their highest or lowest pixels, by noisy linear imputation.

    Attributes:
        shares: The shares s of pixels that are removed, in percent.
        sigma: The standard deviation of the noise on removed pixels, which are in [0, 1].
    """

    shares: tuple[float, ...] = (20, 40, 60, 80)
    sigma: float = 0.01
    passes: ClassVar[int] = 8  # with the shares above

    def scores(self, view: MapView) -> Tensor:
        """Scores, float32 (2·shares, B): the highest removed first (MoRF), then the lowest (LeRF).

        The noise depends on the image and the step alone: it is the same for all methods.
        """
        import torch

        from lcam_cli.engine.activation import confidence
        from lcam_cli.measures.imputation import impute

        batch = view.batch
        engine, x = batch.engine, batch.x
        noise = batch.once(_noise)
        scores = []
        for step, removed in enumerate(self.removed(view.ranks)):
            # Another part of the same draw for every step.
            drawn = noise.roll(step * noise.shape[1] // (2 * len(self.shares)), 1)
            drawn = drawn.view(len(x), *x.shape[2:], x.shape[1]).permute(0, 3, 1, 2)
            shown = impute(x, removed).addcmul_(drawn, removed.unsqueeze(1), value=self.sigma)
            scores.append(confidence(engine.logits(shown), view.classes, engine.activation))
        return torch.stack(scores)

    def removed(self, ranks: Tensor) -> Iterator[Tensor]:
        """Yield which pixels each step removes, bool (B, H, W), by their places in the order of V.

        Args:
            ranks: ``MapView.ranks``, int64 (B, H, W).
        """
        from lcam_cli.maps.region import kept_pixels

        pixels = ranks[0].numel()
        counts = [kept_pixels(share, pixels) for share in self.shares]
        yield from (ranks < count for count in counts)
        yield from (ranks >= pixels - count for count in counts)


class Road(Measure):
    """How much more the score loses with the highest pixels of a map than with the lowest.

    ROAD = mean over s of (LeRF(s) − MoRF(s))/2, in [−½, ½]: MoRF(s) is the score without the s % of
    pixels where V is highest, LeRF(s) that without the s % where it is lowest. Removed pixels
    become the weighted mean of their neighbours, plus noise, so that the classifier does not see
    the shape of what was removed, which alone may tell the class.

    From the paper are MoRF, LeRF and the imputation with its weights and its noise. Half of their
    difference is how pytorch-grad-cam makes one number of the two. Ours are the shares 20, 40, 60
    and 80 %; the order of pixels, as in φ_ν; and that an image has the same noise in every method.
    """

    name = title = "road"
    lower_is_better = False
    meaning = (
        "half of how much more the score loses without the highest pixels of the map than without "
        "the lowest, with 20, 40, 60 and 80 % of the pixels replaced from their surroundings"
    )
    left_out = "{maps} skipped because a score on the curve is not finite"
    cost = "8 passes and 8 imputations"
    source = "Rong et al., ICML 2022"
    steps = RoadSteps()

    @property
    def settings(self) -> Mapping[str, Any]:
        """The shares in percent, σ of the noise, and its seed."""
        return {"shares": list(self.steps.shares), "sigma": self.steps.sigma, "seed": _SEED}

    def perturbations(self, nu: float) -> Sequence[Perturbation]:
        """Ask for the scores without the highest and without the lowest pixels."""
        return [self.steps]

    def numbers(self, scores: MapScores, nu: float) -> Tensor:
        """Return half of the mean difference, (B,) in [−½, ½]; NaN where a score is."""
        highest, lowest = scores[self.steps].chunk(2)
        return (lowest.mean(0) - highest.mean(0)) / 2


def _noise(batch: BatchView) -> Tensor:
    """Standard normal noise for each image, the same whatever the batch around it: (B, H·W·3)."""
    import numpy as np
    import torch

    from lcam_cli.methods.noise import checksums

    drawn = [
        np.random.default_rng([_SEED, checksum]).standard_normal(batch.x[0].numel(), np.float32)
        for checksum in checksums(batch.x)
    ]
    return torch.from_numpy(np.stack(drawn)).to(batch.x.device)
