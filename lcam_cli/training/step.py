"""One training step: mask the pictures with what the attention says, and see what is lost.

Three passes through the frozen network and no more: one forward for A and y, one forward of the
masked pictures, and one backward to the mask. L-CAM-Fm pays for the trunk once and then only for
the head.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lcam_cli.engine.engine import Engine
from lcam_cli.methods.attention import class_activation_map
from lcam_cli.scale.gradient_sync import ALONE, GradientSync
from lcam_cli.training.learned import LearnedModule, mask_of, masked_logits
from lcam_cli.training.losses import Loss, eq6
from lcam_cli.training.recipes import Mode, Recipe
from lcam_cli.training.rows import Rows

_TERMS = ("loss", "tv", "av", "ce")


class NotNumbersError(Exception):
    """The classifier's scores are no numbers on some pictures: nothing can be learned of them.

    Attributes:
        finite: Which pictures of the batch have scores that are numbers, (B,) bool.
    """

    def __init__(self, finite: Tensor) -> None:
        super().__init__()
        self.finite = finite


def loss_of(engine: Engine, rows: Rows, x: Tensor, recipe: Recipe, mode: Mode) -> Loss:
    """Compute L-CAM's loss, Eq. 6, on a batch.

    Args:
        engine: The engine with the frozen classifier.
        rows: What is trained.
        x: Pictures, (B, 3, H, W) in [0, 1].
        recipe: The mask's kind and the λ.
        mode: ``"img"`` masks the picture (Eq. 5), ``"fm"`` the feature maps (Eq. 4).
    """
    seen = engine.forward(x)
    y = seen.predicted
    w, b = rows.rows(y)
    L = class_activation_map(seen.A, w, b)
    S = mask_of(L, recipe)
    if mode == "img":
        logits = masked_logits(engine, x, S, engine.grid(recipe.align))
    else:
        logits = engine.head(seen.A * S.unsqueeze(1), seen.around)
    if recipe.all_pairs:
        S = mask_of(
            torch.einsum("jk,bkpq->jbpq", w, seen.A).add(b[:, None, None, None]).flatten(0, 1),
            recipe,
        )
    return eq6(logits, y, S, len(x), recipe, engine.activation)


def take_step(
    engine: Engine,
    rows: Rows | LearnedModule,
    optimisers: Sequence[torch.optim.Optimizer],
    x: Tensor,
    recipe: Recipe,
    mode: Mode,
    lr_factor: float,
    labels: Tensor | None = None,
    sync: GradientSync = ALONE,
) -> tuple[int, dict[str, float]]:
    """Move the parameters of ``rows`` once, by a batch's loss.

    Args:
        engine: The engine with the frozen classifier.
        rows: What is trained.
        optimisers: Those of ``rows``.
        x: Pictures, (B, 3, H, W) in [0, 1]: this rank's of the batch; B may be 0.
        recipe: The mask's kind and the λ.
        mode: See :func:`loss_of`.
        lr_factor: What every learning rate is multiplied by in this step.
        labels: y (B,), int64, for modes that train a classifier; None for its own predictions.
        sync: With the other ranks, all of which take the step together.

    Returns:
        How many pictures all ranks have in the batch, and their loss and terms. Without any
        nothing has moved.

    Raises:
        NotNumbersError: The classifier's scores are no numbers on some of this rank's pictures.
            Nothing has moved, and no rank has been told: the step can be taken without them.
    """
    for optimiser in optimisers:
        optimiser.zero_grad()
        for group in optimiser.param_groups:
            group["lr"] = lr_factor * group.setdefault("initial_lr", group["lr"])
    terms = x.new_zeros(len(_TERMS))
    if len(x):
        chance = _chance(x.device)
        terms = torch.stack(list(backward(engine, rows, x, recipe, mode, labels).values()))
        # One such picture makes the loss of all NaN, so nobody looks before it is.
        if not terms.isfinite().all():
            finite = engine.forward(x).finite
            if not finite.all():
                _set_chance(chance, x.device)
                raise NotNumbersError(finite)
    count, terms = sync(dict(rows.named_parameters()), rows.by_class, len(x), terms)
    if count:
        for optimiser in optimisers:
            optimiser.step()
    return count, dict(zip(_TERMS, terms.tolist(), strict=True))


def _chance(device: torch.device) -> list[Tensor]:
    """Where the numbers drawn by chance stand, so that a step can be taken anew."""
    states = [torch.get_rng_state()]
    return states + ([torch.cuda.get_rng_state(device)] if device.type == "cuda" else [])


def _set_chance(states: Sequence[Tensor], device: torch.device) -> None:
    torch.set_rng_state(states[0])
    if device.type == "cuda":
        torch.cuda.set_rng_state(states[1], device)


def backward(
    engine: Engine,
    rows: Rows | LearnedModule,
    x: Tensor,
    recipe: Recipe,
    mode: Mode,
    labels: Tensor | None = None,
) -> dict[str, Tensor]:
    """Add the gradients of the batch's loss to the parameters of ``rows``.

    Where memory does not suffice for the batch it is taken in parts, each weighted by its share,
    so that the step stays the same (but for ``all_pairs``, whose pairs are then those of a part).

    Returns:
        Loss and terms, detached scalars.
    """

    def part(x_part: Tensor, *given: Tensor) -> tuple[Tensor]:
        if isinstance(rows, LearnedModule):
            seen = engine.forward(x_part)
            loss = rows.loss(engine, seen, given[0] if given else seen.predicted, recipe)
        else:
            loss = loss_of(engine, rows, x_part, recipe, mode)
        share = len(x_part) / len(x)
        (loss.total * share).backward()  # type: ignore[no-untyped-call]
        terms = torch.stack([loss.total, loss.tv, loss.av, loss.ce]).detach()
        return ((terms * share).unsqueeze(0),)

    (terms,) = engine.run(part, x, *([] if labels is None else [labels]))
    return dict(zip(_TERMS, terms.sum(0), strict=True))
