"""Training BLA and BLA-T: the attention and the classifier's linear head together.

The features stay frozen. The head begins as the classifier's own and gets Σ_pq a·A, the feature
maps of the chosen positions; the loss is cross-entropy alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import torch
from torch import Tensor, nn

from lcam_cli.engine.backbone import Backbone
from lcam_cli.engine.engine import Engine
from lcam_cli.errors import LcamError
from lcam_cli.methods.attention import min_max
from lcam_cli.methods.bounded_logit import soft_selection
from lcam_cli.methods.trained_head import TrainedHead, head_scores
from lcam_cli.training.bounded_logit import PositionLogitsModule
from lcam_cli.training.learned import LearnedModule, TrainingBatch
from lcam_cli.training.losses import Loss, MaskedBatch, weighted_loss
from lcam_cli.training.recipes import Recipe
from lcam_cli.training.rows import feature_scale

HeadKind = Literal["bla-head", "bla-t-head"]


class TrainedHeadModule(LearnedModule):
    """The 1×1 convolution, and W and b of the head.

    Args:
        logits: The convolution.
        linear: The classifier's own head, K to R; it is copied.
    """

    def __init__(self, logits: PositionLogitsModule, linear: nn.Linear) -> None:
        super().__init__()
        self.logits = logits
        W = linear.weight.detach().float().cpu()
        b = W.new_zeros(len(W)) if linear.bias is None else linear.bias.detach().float().cpu()
        self.W = nn.Parameter(W.clone())
        self.b = nn.Parameter(b.clone())

    def loss(self, engine: Engine, batch: TrainingBatch, recipe: Recipe) -> Loss:
        """CE(y, W·Σ_pq a·A + b); the recipe's λ of the other terms are 0."""
        forward = batch.forward
        a = soft_selection(self.logits.logits(forward.A), self.logits.kind)
        scores = head_scores(forward.A, a, self.W, self.b)
        return weighted_loss(MaskedBatch(forward, batch.y, min_max(a), scores), recipe)

    def optimisers(self, recipe: Recipe) -> list[torch.optim.Optimizer]:
        """Adam on everything; the head's learning rate is the recipe's ``lr_W`` times as large."""
        groups = [
            {"params": list(self.logits.parameters()), "lr": recipe.lr},
            {"params": [self.W, self.b], "lr": recipe.lr * recipe.lr_W},
        ]
        return [torch.optim.Adam(groups)]

    def fold(self) -> TrainedHead:
        """See :class:`LearnedModule`."""
        return TrainedHead(self.logits.fold(), self.W.detach().clone(), self.b.detach().clone())


def start(kind: HeadKind, backbone: Backbone, A: Iterable[Tensor], seed: int) -> TrainedHeadModule:
    """Begin a run, with feature maps (B, K, P, Q) of some images for their scale.

    Raises:
        LcamError: The classifier has no head that can be trained.
    """
    linear = backbone.linear_head()
    identity = backbone.identity
    if linear is None or not backbone.is_split:
        raise LcamError(
            f"the head of {identity.name} cannot be trained: what follows layer {identity.layer} "
            "is not average pooling and one linear layer",
            "remove --train-head, or pass the layer before the pooling: --layer NAME",
        )
    return TrainedHeadModule(PositionLogitsModule(kind, feature_scale(A).cpu(), seed), linear)
