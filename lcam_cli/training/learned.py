"""What the modes beside L-CAM have in common when they are trained, and how pictures are masked."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from lcam_cli.engine.engine import Engine, Forward
from lcam_cli.engine.grid import Grid
from lcam_cli.methods.attention import min_max, upsample
from lcam_cli.methods.learned import Learned
from lcam_cli.training.losses import Loss
from lcam_cli.training.recipes import Recipe


class Trainable(nn.Module, ABC):
    """What the loop trains.

    Everything that a step depends on is a parameter or a buffer: a checkpoint keeps these, and the
    state of the random generators.

    Attributes:
        by_class: Names of the parameters that have a row a class; ranks that train together
            exchange the rows of their pictures' classes alone.
    """

    by_class: tuple[str, ...] = ()

    @abstractmethod
    def fold(self) -> Learned:
        """What goes into the attention file, as it stands now."""

    def end_cycle(self) -> None:
        """Keep what was learned for the average, and start again; nothing by default."""

    def optimisers(self, recipe: Recipe) -> list[torch.optim.Optimizer]:
        """Those that move the parameters; by default Adam on everything."""
        return [torch.optim.Adam(self.parameters(), lr=recipe.lr)]


class LearnedModule(Trainable):
    """What a mode trains where it is not rows of L-CAM (:class:`~.rows.Rows`)."""

    @abstractmethod
    def loss(self, engine: Engine, forward: Forward, y: Tensor, recipe: Recipe) -> Loss:
        """The mode's loss, with gradients.

        Args:
            engine: The engine with the frozen classifier.
            forward: The pictures, B of them.
            y: Their labels, (B,), int64.
            recipe: The mask's kind and the λ.
        """


def mask_of(L: Tensor, recipe: Recipe) -> Tensor:
    """S: the mask (B, P, Q) in [0, 1] that training makes of a map L."""
    return L.sigmoid() if recipe.mask == "sigmoid" else min_max(L)


def grid_of_mask(engine: Engine, recipe: Recipe) -> Grid | None:
    """Where training puts the cells of a mask: as the recipe says, however maps are placed."""
    return engine.backbone.grid if recipe.align else None


def masked_logits(engine: Engine, x: Tensor, S: Tensor, grid: Grid | None) -> Tensor:
    """f(X ⊙ θ(S)) (Eq. 5): logits (B, R) of masked pictures.

    Args:
        engine: The engine with the frozen classifier.
        x: Pictures, (B, 3, H, W) in [0, 1].
        S: Masks, (B, P, Q) in [0, 1].
        grid: Where the cells of S lie; None for an even tiling.
    """
    mask = upsample(S, (x.shape[2], x.shape[3]), grid)
    # With the channels apart, the product and its gradient take a quarter of the time.
    masked = engine.normalise(x.contiguous() * mask.unsqueeze(1))
    with engine.autocast():
        return engine.backbone(masked).float()
