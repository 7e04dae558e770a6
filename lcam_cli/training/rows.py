"""How W and b are made of what is learned.

``FreeRows`` is the paper's: each class learns its row from its own images alone. With two
images a class it learns next to nothing, so ``SharedRows`` starts from the classifier and adds a
part that every image of every class teaches. Both fold into one W and b: Eq. 2, 3 and 9 do not
change.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional

from lcam_cli.engine.engine import Engine
from lcam_cli.methods.attention import Attention
from lcam_cli.training.head_gradients import head_gradients
from lcam_cli.training.learned import Trainable
from lcam_cli.training.recipes import Recipe


class Rows(Trainable):
    """W and b of L-CAM, as they are learned.

    Attributes:
        kernel: g, which spreads L over neighbouring cells, (n, n), with gradients; None without.
    """

    kernel: Tensor | None

    @abstractmethod
    def rows(self, classes: Tensor) -> tuple[Tensor, Tensor]:
        """Rows of W (B, K) and biases (B,) of ``classes`` (B,), with gradients."""

    @abstractmethod
    def fold(self) -> Attention:
        """W and b as they stand now."""


class FreeRows(Rows):
    """W and b, each row for itself (the paper's parametrisation)."""

    by_class = ("W", "b")

    def __init__(self, W: Tensor, b: Tensor, *, sparse: bool = False) -> None:
        """Take the start; ``sparse`` gives gradients for the rows of a batch alone.

        Momentum and weight decay move every row in every step, so they need dense gradients.
        """
        super().__init__()
        self.W = nn.Parameter(W.clone())
        self.b = nn.Parameter(b.clone())
        self.kernel = None
        self._sparse = sparse

    def rows(self, classes: Tensor) -> tuple[Tensor, Tensor]:
        """See :class:`Rows`."""
        return functional.embedding(classes, self.W, sparse=self._sparse), self.b[classes]

    def fold(self) -> Attention:
        """See :class:`Rows`."""
        return Attention(self.W.detach().clone(), self.b.detach().clone())

    def optimisers(self, recipe: Recipe) -> list[torch.optim.Optimizer]:
        """SGD, with the recipe's factors on the learning rates of W and b."""
        groups = [
            {"params": [self.W], "lr": recipe.lr * recipe.lr_W},
            {"params": [self.b], "lr": recipe.lr * recipe.lr_b},
        ]
        nesterov = recipe.momentum > 0
        return [
            torch.optim.SGD(
                groups,
                momentum=recipe.momentum,
                nesterov=nesterov,
                weight_decay=recipe.weight_decay,
            )
        ]


def random_rows(R: int, K: int, seed: int) -> tuple[Tensor, Tensor]:
    """Initialise as PyTorch does a 1×1 convolution: uniform in ±1/√K, W (R, K) and b (R,)."""
    generator = torch.Generator().manual_seed(seed)
    bound = 1 / math.sqrt(K)
    W = torch.empty(R, K).uniform_(-bound, bound, generator=generator)
    b = torch.empty(R).uniform_(-bound, bound, generator=generator)
    return W, b


def feature_scale(batches: Iterable[Tensor]) -> Tensor:
    """S (K,): the root mean square of each feature map over some images.

    Args:
        batches: Feature maps, (B, K, P, Q) each.
    """
    total, count = None, 0
    for A in batches:
        squares = A.square().sum((0, 2, 3))
        total = squares if total is None else total + squares
        count += A.shape[0] * A.shape[2] * A.shape[3]
    assert total is not None, "needs at least one image"
    rms = (total / count).sqrt()
    # A channel that never fires has no size; a small share of the mean keeps it out of the way.
    return rms + 1e-2 * rms.mean()


def classifier_rows(engine: Engine, x: Tensor) -> Tensor:
    """W0 (R, K): what the classifier itself makes of the channels.

    The linear layer's weights where the head is pooling and one linear layer (then Grad-CAM's
    weights are the same up to a factor); otherwise the gradients of every class score by A,
    averaged over positions and over the images.

    Args:
        engine: The engine.
        x: Some images, (B, C, H, W) in [0, 1].
    """
    linear = engine.backbone.linear_head()
    if linear is not None:
        return linear.weight.detach().float().clone()
    return head_gradients(engine, engine.forward(x))


def gaussian(n: int) -> Tensor:
    """A Gaussian with a standard deviation of one cell, (n, n), summing to 1; n is odd."""
    steps = torch.arange(n) - n // 2
    kernel = (-(steps[:, None] ** 2 + steps**2) / 2.0).exp()
    return kernel / kernel.sum()


class SharedRows(Rows):
    """W[r] = (c·W0[r] + w_shared + Δ[r]) / s; b = 0, which ζ takes away again anyway.

    Every image teaches c, w_shared and the kernel g, whatever its class; Δ[r] is what sets class
    r apart. g starts as a Gaussian: the mean of a neighbourhood is a better start than its middle.

    Args:
        W0: Where W starts, (R, K).
        scale: s, the size of each feature map, (K,). Dividing by it gives every channel the same
            say, and learning rates that fit every network.
        kernel: n, the side of g in cells, odd; 0 for none.
    """

    by_class = ("delta",)

    def __init__(self, W0: Tensor, scale: Tensor, kernel: int = 0) -> None:
        super().__init__()
        scaled = W0 * scale
        self.W0: Tensor
        self.scale: Tensor
        # ζ takes any factor of L away again, so the start's size is free: it sets how far a
        # learning rate reaches.
        self.register_buffer("W0", scaled * (_START_SIZE / scaled.std()))
        self.register_buffer("scale", scale.clone())
        self.c = nn.Parameter(torch.ones(()))
        self.w_shared = nn.Parameter(torch.zeros(W0.shape[1]))
        self.delta = nn.Parameter(torch.zeros_like(W0))
        self.kernel = nn.Parameter(gaussian(kernel)) if kernel else None

    def rows(self, classes: Tensor) -> tuple[Tensor, Tensor]:
        """See :class:`Rows`."""
        # Gradients for the rows of a batch alone: a step must not grow with the classes.
        delta = functional.embedding(classes, self.delta, sparse=True)
        w = (self.c * self.W0[classes] + self.w_shared + delta) / self.scale
        return w, w.new_zeros(len(classes))

    @torch.no_grad()
    def fold(self) -> Attention:
        """See :class:`Rows`."""
        W = (self.c * self.W0 + self.w_shared + self.delta) / self.scale
        kernel = None if self.kernel is None else self.kernel.clone()
        return Attention(W, W.new_zeros(len(W)), kernel)

    def fold_start(self) -> Attention:
        """See :class:`~.learned.Trainable`: the classifier's rows, without a kernel."""
        W = self.W0 / self.scale
        return Attention(W, W.new_zeros(len(W)))

    def optimisers(self, recipe: Recipe) -> list[torch.optim.Optimizer]:
        """Adam for what all classes share, SGD for the rows that few images reach."""
        shared = [
            {"params": [self.w_shared], "lr": recipe.lr},
            {"params": [self.c], "lr": 3 * recipe.lr},
        ]
        if self.kernel is not None:
            shared.append({"params": [self.kernel], "lr": KERNEL_LR * recipe.lr})
        return [
            torch.optim.Adam(shared),
            torch.optim.SGD([self.delta], lr=recipe.lr_delta),
        ]


KERNEL_LR = 2.0
"""Times the base learning rate, of the kernels that spread maps."""
_START_SIZE = 0.05
