"""A frozen network that runs: whole, up to its target layer, and from there; in one precision.

What goes in and comes out is float32, whatever the precision.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Self, cast

import torch
from torch import Tensor, nn

from lcam_cli.engine.cut import Cut
from lcam_cli.engine.gradients import for_autograd
from lcam_cli.engine.half import NEAR, Exact, Way, apply, cast_network, in_float32, short
from lcam_cli.engine.identity import Identity
from lcam_cli.engine.layers import no_layer
from lcam_cli.engine.plain import some_pictures
from lcam_cli.errors import LcamError
from lcam_cli.images.preprocess import Preprocess
from lcam_cli.networks.foreign import ForeignNetwork


class Runnable:
    """How a :class:`~.backbone.Backbone` runs.

    Attributes:
        network: The whole classifier, in eval mode, no parameter requiring gradients.
        identity: Name, weights and layer.
        preprocess: What turns an image into its input.
    """

    network: nn.Module
    identity: Identity
    preprocess: Preprocess

    _cut: Cut | None
    _shape: tuple[int, int, int]  # of A; no channels where there is no layer
    _takes_several: bool  # images at once

    def __init__(self) -> None:
        self._device = torch.device("cpu")
        self._way = Way()
        self._undo: Callable[[], None] | None = None
        self._is_settled = False

    def need_layer(self, method: str) -> None:
        """Check that a method that looks at the target layer has one.

        Raises:
            LcamError: There is none.
        """
        if self._cut is None:
            raise no_layer(self.network, self.identity.name, method)

    def _need_cut(self) -> Cut:
        self.need_layer("this")
        return cast(Cut, self._cut)

    @property
    def is_split(self) -> bool:
        """Whether ``head`` runs only what follows the layer, not the whole network."""
        return self._cut is not None and self._cut.halves is not None

    def to(self, device: torch.device) -> Self:
        """Move the network to ``device``, in channels-last layout; returns itself."""
        self._device = device
        # The halves share parameters, which move with the network, but buffers are replaced in it.
        halves = self._cut.halves if self._cut else None
        for part in (self.network, *(halves or ())):
            part.to(device=device, memory_format=torch.channels_last)
        return self

    @torch.no_grad()
    def compute_in(self, dtype: torch.dtype, *, keep: bool = False) -> float:
        """Cast the network, where it is, to another precision; A and logits stay float32.

        Args:
            dtype: float32, bfloat16 or float16.
            keep: Whether its weights in float32 stay in memory too, for :meth:`in_float32` and
                :meth:`restore`; else they are gone.

        Returns:
            How far features and logits of test images are from those in float32, as a share of
            their norm; infinite where they are no numbers.

        Raises:
            LcamError: It does not run so, or its precision was settled.
        """
        if dtype == self._way.dtype or isinstance(self.network, ForeignNetwork):
            return self._way.difference
        if self._is_settled:
            raise LcamError(
                f"{self.identity.name} already computes in {short(self._way.dtype)}",
                "load it again for another precision",
            )
        pictures = some_pictures(2 if self._takes_several else 1, self.preprocess).to(self._device)

        exact = Exact(*self.forward(pictures))

        def run(way: Way) -> tuple[Tensor, list[Tensor]]:
            self._way = way
            A, logits, around = self.forward(pictures)
            by_head = [self.head(A, around)] if self._cut else []
            return A, [logits, self(pictures), *by_head]

        try:
            self._way, undo = cast_network(
                self.network, self.identity.name, self._cut, exact, dtype, run
            )
        except Exception:
            self._way = Way()  # it is as it was
            raise
        self._undo = undo if keep else None
        return self._way.difference

    def restore(self) -> None:
        """Bring a network whose weights in float32 were kept back to them."""
        if self._undo is not None:
            self._undo()
            self._way, self._undo = Way(), None

    def settle_precision(self, *, keep: bool) -> None:
        """Have it compute in its precision for good: whoever runs it counts on that.

        Args:
            keep: Whether weights in float32 that were kept stay in memory.
        """
        self._is_settled = True
        if not keep:
            self._undo = None

    @property
    def keeps_float32(self) -> bool:
        """Whether it is in half precision and has its weights in float32 too."""
        return self._undo is not None

    @contextlib.contextmanager
    def in_float32(self) -> Iterator[None]:
        """Compute in float32 within the block; its weights in float32 were kept."""
        way = self._way
        self.restore()
        try:
            yield
        finally:
            self._way, self._undo = way, apply(way, self.network, self._cut)

    @contextlib.contextmanager
    def computing_in(self, dtype: torch.dtype) -> Iterator[None]:
        """Compute in half precision within the block, and in float32 before and after it."""
        settled, self._is_settled = self._is_settled, False
        try:
            self.compute_in(dtype, keep=True)
            yield
        finally:
            self.restore()
            self._is_settled = settled

    @property
    def precision_note(self) -> str:
        """What the user should know of how it runs in half precision; mostly nothing."""
        name, way = self.identity.name, self._way
        if way.difference > NEAR:
            return (
                f"{short(way.dtype)} does not suit {name}: it changes features or logits by "
                f"{way.difference:.0%} of their norm; --precision fp32 does not"
                if math.isfinite(way.difference)
                else f"{short(way.dtype)} does not suit {name}: its numbers overflow"
            )
        if not way.autocast:
            return ""
        why = way.failed or "its logits would change"
        return (
            f"{name} does not run with all its weights in {short(way.dtype)} ({why}): it "
            "runs with PyTorch's autocast, which is slower"
        )

    @contextlib.contextmanager
    def float32_head(self) -> Iterator[None]:
        """Have :meth:`head` compute in float32, whatever the precision, within the block.

        For what is a small difference of its logits. Weights stay as they were rounded.
        """
        cut, before = self._need_cut(), self._way
        with in_float32(cut.halves[1] if cut.halves else self.network), cut.in_float32():
            self._way = Way()
            try:
                yield
            finally:
                self._way = before

    @property
    def gradient_scale(self) -> float:
        """How many times too large gradients at layers are while the network runs backward."""
        return self._way.gradient_scale

    def __call__(self, x: Tensor) -> Tensor:
        """Run the whole network: normalised (B, C, H, W) to logits (B, R), float32."""
        with self._way.running(self._device):
            x = self._way.enter(x)
            cut = self._cut
            logits = cut.whole(x) if cut else for_autograd(cast(Tensor, self.network(x)))
            return self._way.leave(logits)

    def features(self, x: Tensor) -> Tensor:
        """Run the network up to the target layer: normalised (B, C, H, W) to A (B, K, P, Q)."""
        if self._cut is None:
            return self._no_features(x)
        return self.up_to_layer(x)[0]

    def up_to_layer(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """A of normalised images (B, C, H, W), and what :meth:`head` needs besides A.

        Raises:
            LcamError: It has no target layer, or this does not run on these images.
        """
        cut = self._need_cut()
        with self._way.running(self._device):
            A, around = cut.up_to_layer(self._way.enter(x))
            return A.float(), around

    def head(self, A: Tensor, around: Sequence[Tensor]) -> Tensor:
        """Run the rest of the network on A (B, K, P, Q): logits (B, R).

        Args:
            A: The feature maps, possibly changed.
            around: What :meth:`forward` gave with them.

        Raises:
            LcamError: It has no target layer; or it is run whole, and runs the layer less often
                than it did.
        """
        cut, way = self._need_cut(), self._way
        with way.running(self._device):
            return way.leave(cut.head(way.enter_head(A), around))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
        """Features, logits and what goes around the layer, in one pass.

        Returns:
            A (B, K, P, Q), of no channels where there is no layer; logits (B, R); and what
            :meth:`head` needs besides A, each with the batch first: :meth:`Cut.forward` tells.

        Raises:
            LcamError: The layer does not run on these images, or gives something else.
        """
        if self._cut is None:
            return self._no_features(x), self(x), ()
        with self._way.running(self._device):
            A, logits, around = self._cut.forward(self._way.enter(x))
            return A.float(), self._way.leave(logits), around

    @contextlib.contextmanager
    def features_of_pass(self) -> Iterator[Callable[[Tensor], Tensor]]:
        """While it is active, note what the target layer gives in passes of the whole network.

        Yields:
            Tells A, (B, K, P, Q), float32, of the last pass, given its images; of no channels
            where there is no layer.
        """
        if self._cut is None:
            yield self._no_features
            return
        with self._cut.features_of_pass() as features:
            yield lambda x: features(len(x)).float()

    def _no_features(self, x: Tensor) -> Tensor:
        return x.new_zeros(len(x), *self._shape)

    def blank(self) -> Tensor:
        """An input, (1, C, H, W), where the network is."""
        blank = torch.zeros(1, *self.preprocess.input_shape, device=self._device)
        return self._way.enter(blank)
