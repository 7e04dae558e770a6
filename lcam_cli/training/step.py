"""One training step: mask the images by the map that is learned, and lower what is lost.

Three passes through the frozen network and no more: one forward for A and y, one forward of the
masked images, and one backward to the mask. L-CAM-Fm pays for the trunk once and then only for
the head.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lcam_cli.engine.engine import Engine
from lcam_cli.methods.attention import class_activation_map, spread
from lcam_cli.scale.gradient_sync import SINGLE_PROCESS, GradientSync
from lcam_cli.training.learned import (
    LearnedModule,
    TrainingBatch,
    grid_of_mask,
    mask_of,
    masked_logits,
    shown,
)
from lcam_cli.training.losses import TERMS, Loss, MaskedBatch, weighted_loss
from lcam_cli.training.recipes import Mode, Recipe
from lcam_cli.training.rows import Rows
from lcam_cli.training.shown import DRAWS

_VALUES = ("loss", *TERMS)


class NonFiniteScoresError(Exception):
    """The classifier's scores are no numbers on some images: nothing can be learned of them.

    Attributes:
        finite: Which images of the batch have scores that are numbers, (B,) bool.
    """

    def __init__(self, finite: Tensor) -> None:
        super().__init__()
        self.finite = finite


def loss_of(engine: Engine, rows: Rows, batch: TrainingBatch, recipe: Recipe, mode: Mode) -> Loss:
    """Compute L-CAM's loss on a batch.

    Args:
        engine: The engine with the frozen classifier.
        rows: What is trained.
        batch: The images, and the classifier's labels.
        recipe: The mask's kind and the λ.
        mode: ``"img"`` masks the image (Eq. 5), ``"fm"`` the feature maps (Eq. 4).
    """
    forward, y = batch.forward, batch.y
    w, b = rows.rows(y)
    L = spread(class_activation_map(forward.A, w, b), rows.kernel)
    S = mask_of(L, recipe)
    if mode == "img":
        logits = masked_logits(engine, batch, S, grid_of_mask(engine, recipe), recipe)
    else:
        mask = shown(S, batch, recipe)
        logits = engine.head(forward.A * mask.unsqueeze(1), forward.around)
    if recipe.all_pairs:
        S = mask_of(
            torch.einsum("jk,bkpq->jbpq", w, forward.A).add(b[:, None, None, None]).flatten(0, 1),
            recipe,
        )
    return weighted_loss(MaskedBatch(forward, y, S, logits), recipe)


class Trainer:
    """What is trained, and what moves it: the loss on the frozen classifier, and the optimisers.

    Args:
        engine: The engine with the frozen classifier.
        module: What is trained.
        recipe: The mask's kind, the λ and the learning rates.
        mode: See :func:`loss_of`.
        sync: With the other ranks, all of which take every step together.

    Attributes:
        module: The same.
        optimisers: Those of ``module``.
    """

    def __init__(
        self,
        engine: Engine,
        module: Rows | LearnedModule,
        recipe: Recipe,
        mode: Mode,
        sync: GradientSync = SINGLE_PROCESS,
    ) -> None:
        self._engine = engine
        self.module = module
        self._recipe = recipe
        self._mode: Mode = mode
        self._sync = sync
        self.optimisers = module.optimisers(recipe)

    def step(
        self,
        x: Tensor,
        lr_factor: float,
        labels: Tensor | None = None,
        draws: Tensor | None = None,
    ) -> tuple[int, dict[str, float]]:
        """Move the parameters once, by a batch's loss.

        Args:
            x: Images, (B, C, H, W) in [0, 1]: this rank's of the batch; B may be 0.
            lr_factor: What every learning rate is multiplied by in this step.
            labels: y (B,), int64, for modes that train a classifier; None for its own predictions.
            draws: Uniform in [0, 1), (B, 2), for recipes that show a part of the map; None draws
                them here.

        Returns:
            How many images all ranks have in the batch, and their loss and terms. Without any
            nothing has moved.

        Raises:
            NonFiniteScoresError: The classifier's scores are no numbers on some of this rank's
                images. Nothing has moved, no other rank knows, and the random state is as it was:
                the step can be taken without them.
        """
        for optimiser in self.optimisers:
            optimiser.zero_grad()
            for group in optimiser.param_groups:
                group["lr"] = lr_factor * group.setdefault("initial_lr", group["lr"])
        values = x.new_zeros(len(_VALUES))
        if len(x):
            values = self._backward(x, labels, draws)
        parameters = dict(self.module.named_parameters())
        count, values = self._sync.average(parameters, self.module.by_class, len(x), values)
        if count:
            for optimiser in self.optimisers:
                optimiser.step()
        return count, dict(zip(_VALUES, values.tolist(), strict=True))

    def _backward(self, x: Tensor, labels: Tensor | None, draws: Tensor | None) -> Tensor:
        """:func:`backward`, and what it returns as one tensor."""
        engine, random_state = self._engine, _random_state(x.device)
        values = backward(engine, self.module, x, self._recipe, self._mode, labels, draws)
        stacked = torch.stack(list(values.values()))
        # One such image makes the loss of all NaN, so nobody looks before it is.
        if not stacked.isfinite().all():
            finite = engine.forward(x).finite
            if not finite.all():
                _set_random_state(random_state, x.device)
                raise NonFiniteScoresError(finite)
        return stacked


def _random_state(device: torch.device) -> list[Tensor]:
    """The states of the random generators, so that a step can be taken anew."""
    states = [torch.get_rng_state()]
    return states + ([torch.cuda.get_rng_state(device)] if device.type == "cuda" else [])


def _set_random_state(states: Sequence[Tensor], device: torch.device) -> None:
    torch.set_rng_state(states[0])
    if device.type == "cuda":
        torch.cuda.set_rng_state(states[1], device)


def backward(
    engine: Engine,
    module: Rows | LearnedModule,
    x: Tensor,
    recipe: Recipe,
    mode: Mode,
    labels: Tensor | None = None,
    draws: Tensor | None = None,
) -> dict[str, Tensor]:
    """Add the gradients of the batch's loss to the parameters of ``module``.

    Where memory does not suffice for the batch it is taken in parts, each weighted by its share,
    so that the step stays the same (but for ``all_pairs``, whose pairs are then those of a part).

    Returns:
        Loss and terms, detached scalars.
    """
    if draws is None:
        draws = torch.rand(len(x), DRAWS)

    def part(x_part: Tensor, draws_part: Tensor, *given: Tensor) -> tuple[Tensor]:
        forward = engine.forward(x_part)
        batch = TrainingBatch(forward, given[0] if given else forward.predicted, draws_part)
        if isinstance(module, LearnedModule):
            loss = module.loss(engine, batch, recipe)
        else:
            loss = loss_of(engine, module, batch, recipe, mode)
        share = len(x_part) / len(x)
        (loss.total * share).backward()  # type: ignore[no-untyped-call]
        values = torch.stack([loss.total, *loss.terms.values()]).detach()
        return ((values * share).unsqueeze(0),)

    (values,) = engine.run(part, x, draws.to(x.device), *([] if labels is None else [labels]))
    return dict(zip(_VALUES, values.sum(0), strict=True))
