"""What the modes beside L-CAM have in common when they are trained, and how images are masked."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lcam_cli.engine.engine import Engine, Forward
from lcam_cli.engine.grid import Grid
from lcam_cli.methods.attention import min_max, upsample
from lcam_cli.methods.learned import Learned
from lcam_cli.training.losses import Loss
from lcam_cli.training.masked_input import masked_input
from lcam_cli.training.recipes import Recipe
from lcam_cli.training.shown import shown_part


class Trainable(nn.Module, ABC):
    """What the loop trains.

    Everything that a step depends on is a parameter or a buffer: a checkpoint keeps these, and the
    state of the random generators.

    Attributes:
        by_class: Names of the parameters that have a row a class; ranks that train together
            exchange the rows of their images' classes alone.
    """

    by_class: tuple[str, ...] = ()

    @abstractmethod
    def fold(self) -> Learned:
        """A copy of what goes into the attention file, as it stands now."""

    def fold_start(self) -> Learned:
        """What explains without learning, asked for before the first step; by default the start."""
        return self.fold()

    def optimisers(self, recipe: Recipe) -> list[torch.optim.Optimizer]:
        """Those that move the parameters; by default Adam on everything."""
        return [torch.optim.Adam(self.parameters(), lr=recipe.lr)]


@dataclass(frozen=True)
class TrainingBatch:
    """What a step learns from.

    Attributes:
        forward: The images as they are, B of them: features, logits and what the scores are.
        y: Their labels, (B,), int64.
        draws: Random numbers of each image in this step, (B, 2), for :mod:`.shown`.
    """

    forward: Forward
    y: Tensor
    draws: Tensor


class LearnedModule(Trainable):
    """What a mode trains where it is not rows of L-CAM (:class:`~.rows.Rows`)."""

    @abstractmethod
    def loss(self, engine: Engine, batch: TrainingBatch, recipe: Recipe) -> Loss:
        """The mode's loss, with gradients.

        Args:
            engine: The engine with the frozen classifier.
            batch: The images and their labels.
            recipe: The mask's kind and the λ.
        """


def mask_of(L: Tensor, recipe: Recipe) -> Tensor:
    """S: the mask (B, P, Q) in [0, 1] that training makes of a map L."""
    return L.sigmoid() if recipe.mask == "sigmoid" else min_max(L)


def shown(S: Tensor, batch: TrainingBatch, recipe: Recipe) -> Tensor:
    """What a step shows of masks S (B, H, W), as the recipe says: all, or a part."""
    return shown_part(S, batch.draws) if recipe.shown == "part" else S


def grid_of_mask(engine: Engine, recipe: Recipe) -> Grid | None:
    """Where training puts the cells of a mask: as the recipe says, however maps are placed."""
    return engine.backbone.grid if recipe.align else None


def masked_logits(
    engine: Engine, batch: TrainingBatch, S: Tensor, grid: Grid | None, recipe: Recipe
) -> Tensor:
    """f(X ⊙ θ(S)) (Eq. 5): logits (B, R) of masked images.

    Args:
        engine: The engine with the frozen classifier.
        batch: The images.
        S: Masks, (B, P, Q) in [0, 1].
        grid: Where the cells of S lie; None for an even tiling.
        recipe: What is shown of the mask.
    """
    x = batch.forward.x
    mask = shown(upsample(S, (x.shape[2], x.shape[3]), grid), batch, recipe)
    p = engine.backbone.preprocess
    return engine.backbone(masked_input(x, mask, p.mean, p.std))
