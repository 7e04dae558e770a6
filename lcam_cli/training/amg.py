"""Training AMG's gates with Eq. 6, on the image masked by the map, as L-CAM-Img is.

The paper does not say how the gates' weights are found; this is our reading.
"""

from __future__ import annotations

import torch
from torch import nn

from lcam_cli.engine.engine import Engine
from lcam_cli.methods.amg import Gates, weighted_features
from lcam_cli.training.learned import (
    LearnedModule,
    TrainingBatch,
    grid_of_mask,
    mask_of,
    masked_logits,
)
from lcam_cli.training.losses import Loss, MaskedBatch, weighted_loss
from lcam_cli.training.recipes import Recipe
from lcam_cli.training.start import StartingData

_REDUCTION = 16
"""Of the channels in the MLP's middle, as in CBAM."""


class GatesModule(LearnedModule):
    """The gates; both start half open everywhere, so that L starts as Grad-CAM's without its ReLU.

    Args:
        K: Channels.
        seed: Of the start.
    """

    def __init__(self, K: int, seed: int) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.down = nn.Linear(K, max(1, K // _REDUCTION))
            self.up = nn.Linear(max(1, K // _REDUCTION), K)
            self.place = nn.Conv2d(2, 1, 7, padding=3)
        for last in (self.up, self.place):
            nn.init.zeros_(last.weight)
            assert last.bias is not None
            nn.init.zeros_(last.bias)

    def loss(self, engine: Engine, batch: TrainingBatch, recipe: Recipe) -> Loss:
        """The loss with S made of L; α is a constant of the frozen classifier."""
        forward, y = batch.forward, batch.y
        S = mask_of(self._gates()(weighted_features(engine, forward, y)), recipe)
        logits = masked_logits(engine, batch, S, grid_of_mask(engine, recipe), recipe)
        return weighted_loss(MaskedBatch(forward, y, S, logits), recipe)

    def fold(self) -> Gates:
        """See :class:`LearnedModule`."""
        return Gates(**{n: t.detach().clone() for n, t in self._gates().tensors().items()})

    def _gates(self) -> Gates:
        weights = {
            name.replace(".weight", "").replace(".bias", "_bias"): parameter
            for name, parameter in self.named_parameters()
        }
        return Gates(**weights)


def start(data: StartingData) -> GatesModule:
    """Begin a run."""
    return GatesModule(data.engine.backbone.feature_shape[0], data.settings.seed)
