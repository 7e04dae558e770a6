"""Training BLA-PH and L2X-F: one 1×1 convolution, the frozen head, and cross-entropy alone.

Both replace the feature maps by those of the chosen positions, summed with weights a instead of
averaged. A head that begins with average pooling gets that from A ⊙ a·P·Q, and so does, in place,
one that keeps the positions.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from lcam_cli.engine.engine import Engine
from lcam_cli.methods.attention import class_activation_map, min_max
from lcam_cli.methods.bounded_logit import POSITIONS, Kind, PositionLogits, soft_selection
from lcam_cli.training.learned import LearnedModule, TrainingBatch
from lcam_cli.training.losses import Loss, MaskedBatch, weighted_loss
from lcam_cli.training.recipes import Recipe
from lcam_cli.training.rows import feature_scale

TEMPERATURE = 0.1
"""Of L2X-F's Gumbel softmax."""
_FIRST_LOGIT = 1.0


def gumbel_selection(logits: Tensor, k: int = POSITIONS) -> Tensor:
    """Draw about k positions, in a way that has gradients.

    k samples of a Gumbel softmax over the positions, the largest of them at each position, divided
    by their sum: where the same position is drawn twice, the others count more.

    Args:
        logits: ℓ, (B, P, Q).
        k: Samples.

    Returns:
        a, (B, P, Q), at least 0, summing to 1.
    """
    flat = logits.flatten(1)
    uniform = torch.rand(len(flat), k, flat.shape[1], device=flat.device).clamp_min(1e-20)
    noise = -(-uniform.log()).clamp_min(1e-20).log()
    samples = ((flat.unsqueeze(1) + noise) / TEMPERATURE).softmax(2)
    chosen = samples.amax(1)
    return (chosen / chosen.sum(1, keepdim=True)).view_as(logits)


class PositionLogitsModule(LearnedModule):
    """ℓ = Σ_k v_k·A_k/s_k + b, with v and b learned.

    Args:
        kind: Which positions the logits choose: as many as wanted, or k.
        scale: s, the size of each feature map, (K,). Dividing by it makes the learning rate
            independent of the network.
        seed: Of the start: v as PyTorch starts a 1×1 convolution. b is 1, so that hardly any
            logit begins below the bound, where BLA's gradient is 0.
    """

    def __init__(self, kind: Kind, scale: Tensor, seed: int) -> None:
        super().__init__()
        self.kind: Kind = kind
        self.scale: Tensor
        self.register_buffer("scale", scale.clone())
        generator = torch.Generator().manual_seed(seed)
        bound = 1 / math.sqrt(len(scale))
        v = torch.empty(len(scale)).uniform_(-bound, bound, generator=generator)
        self.v = nn.Parameter(v)
        self.b = nn.Parameter(torch.tensor(_FIRST_LOGIT))

    def logits(self, A: Tensor) -> Tensor:
        """ℓ (B, P, Q) of feature maps (B, K, P, Q), with gradients."""
        w = (self.v / self.scale).expand(len(A), -1)
        return class_activation_map(A, w, self.b.expand(len(A)))

    def loss(self, engine: Engine, batch: TrainingBatch, recipe: Recipe) -> Loss:
        """CE(y, head(A ⊙ a·P·Q)); the recipe's λ of the other terms are 0."""
        forward = batch.forward
        logits = self.logits(forward.A)
        a = soft_selection(logits) if self.kind == "bla" else gumbel_selection(logits)
        weights = a * a[0].numel()
        scores = engine.head(forward.A * weights.unsqueeze(1), forward.around)
        return weighted_loss(MaskedBatch(forward, batch.y, min_max(a), scores), recipe)

    def fold(self) -> PositionLogits:
        """See :class:`LearnedModule`: one weight a feature map, s in it."""
        w = (self.v / self.scale).detach().clone()
        return PositionLogits(w, self.b.detach().clone(), self.kind)


def start(kind: Kind, A: Iterable[Tensor], seed: int) -> PositionLogitsModule:
    """Begin a run, with feature maps (B, K, P, Q) of some images for s."""
    return PositionLogitsModule(kind, feature_scale(A).cpu(), seed)
