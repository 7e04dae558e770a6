"""A network cut at its target layer into features and head.

``features(x) -> A`` is everything up to the layer, ``head(A, around) -> logits`` the rest;
``around`` is what goes around the layer, such as a residual or a class token. Where the network is
split, two graphs of torch.fx run the halves. Where it is not, it is run whole, with a hook that
reads or replaces the layer's output. What a transformer gives is read as feature maps
(``engine.tokens``).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from lcam_cli.engine.calls import KeptOutput, keep_outputs, replace_output
from lcam_cli.engine.gradients import KeepGradients, for_autograd
from lcam_cli.engine.layers import Target
from lcam_cli.engine.tokens import Layout
from lcam_cli.errors import LcamError


class Cut:
    """A network and its target layer.

    Attributes:
        network: The whole classifier.
        target: The target layer.
        halves: Two graphs that share the network's parameters (``engine.split``); None where the
            network is run whole.
        dtype: The type of what the network is given.
        head_dtype: The type in which the second graph takes A; None for the type that A has.
    """

    def __init__(self, network: nn.Module, target: Target) -> None:
        self.network = network
        self.target = target
        self.halves: tuple[nn.Module, nn.Module] | None = None
        self.dtype = torch.float32
        self.head_dtype: torch.dtype | None = None
        self._is_exact = False

    @property
    def layout(self) -> Layout:
        """How what the target layer gives is read as A."""
        return self.target.layout

    def whole(self, x: Tensor) -> Tensor:
        """Run the whole network: normalised (B, C, H, W) to logits (B, R)."""
        with self._keeping_gradients():
            return for_autograd(cast(Tensor, self.network(x)))

    def up_to_layer(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Run the network up to the target layer: as :meth:`forward`, without logits."""
        if self.halves:
            return self.read(self.halves[0](x))
        # To the end: only then is it known which of the layer's calls was the last.
        A, _, around = self.forward(x)
        return A, around

    def head(self, A: Tensor, around: Sequence[Tensor]) -> Tensor:
        """Run the rest of the network on A (B, K, P, Q): logits (B, R).

        Args:
            A: The feature maps, possibly changed.
            around: What :meth:`forward` gave with them. A network that could not be split is run
                again, with A put in the layer's place; class tokens stay as they were.

        Raises:
            LcamError: A network that could not be split runs the layer less often than it did.
        """
        with self._keeping_gradients():
            if self.halves is None:
                return self._head_of_whole(A, *around)
            # Copies: a head may begin with an in-place ReLU, or add to a residual in place.
            given = [A.to(self.head_dtype or A.dtype, copy=True), *map(self._copy, around)]
            prefix = 1 if self.layout.prefix else 0
            output = self.layout.to_output(given[0], *given[1 : 1 + prefix])
            return for_autograd(cast(Tensor, self.halves[1](output, *given[1 + prefix :])))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
        """Features, logits and what goes around the layer, in one pass.

        Returns:
            A (B, K, P, Q), logits (B, R), and what :meth:`head` needs besides A, each with the
            batch first: nothing where the network goes through the layer alone; class tokens and
            residuals; where the network could not be split ``x`` itself, and which of the layer's
            calls gave A, int64.

        Raises:
            LcamError: The layer does not run on these images, or gives something else.
        """
        if self.halves:
            A, around = self.read(self.halves[0](x))
            return A, self.head(A, around), around
        call = self.target.call
        with self._keeping_gradients(), keep_outputs(self.network, [call]) as kept:
            logits = cast(Tensor, self.network(x))
        A = self._maps_of(kept[call.name], len(x))
        number = kept[call.name].number
        numbers = torch.full((len(x),), number, dtype=torch.int64, device=x.device)
        return A, for_autograd(logits), (x, numbers)

    @contextlib.contextmanager
    def features_of_pass(self) -> Iterator[Callable[[int], Tensor]]:
        """While it is active, note what the target layer gives in passes of the whole network.

        Yields:
            Tells A (B, K, P, Q) of the last pass, given B; without the graph.
        """
        call = self.target.call
        with keep_outputs(self.network, [call]) as kept:
            yield lambda count: self._maps_of(kept[call.name], count).detach()

    def _maps_of(self, kept: KeptOutput, count: int) -> Tensor:
        """A (B, K, P, Q) of what the target layer gave on B images.

        Raises:
            LcamError: It is nothing that can be read so.
        """
        output = kept.output
        if not torch.is_tensor(output) or output.ndim != self._output_axes or len(output) != count:
            raise LcamError(
                f"layer {self.target.call.name} returned something else on these images than at "
                "the start",
                "pass a layer that runs on every image: --layer NAME",
            )
        return self.layout.to_maps(for_autograd(output))

    def _head_of_whole(self, A: Tensor, x: Tensor, numbers: Tensor) -> Tensor:
        """The head where the network is run again: call ``numbers`` (B,) of the layer gives A."""
        if (numbers != numbers[:1]).any():  # images on which it did not run equally often
            rows = zip(*(torch.split(t, 1) for t in (A, x, numbers)), strict=True)
            return torch.cat([self._head_of_whole(*row) for row in rows])
        layer, number = self.target.call.name, int(numbers[0])
        A = A.clone()

        def put_back(output: Tensor) -> Tensor:
            changed = self.layout.to_output(A, output).to(output.dtype)
            return output.copy_(changed) if self.target.in_place else changed

        with replace_output(self.network, layer, number, put_back) as runs:
            logits = cast(Tensor, self.network(x.to(self.dtype)))
        if runs.count <= number:
            raise LcamError(
                f"layer {layer} ran {number + 1} times on an image, then {runs.count} "
                "times on the same",
                "write a forward() that does not depend on the other images of a batch, or "
                "pass --batch-size 1",
            )
        return for_autograd(logits)

    def read(self, given: Sequence[Tensor]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """A, and what goes around it, of what the first half of a network that is split gives."""
        output, *around = (for_autograd(t) for t in given)
        n = self.layout.prefix
        return self.layout.to_maps(output), (*([output[:, :n]] if n else []), *around)

    @contextlib.contextmanager
    def in_float32(self) -> Iterator[None]:
        """Give network and head float32 within the block."""
        before = self.dtype, self.head_dtype, self._is_exact
        self.dtype, self.head_dtype, self._is_exact = torch.float32, None, True
        try:
            yield
        finally:
            self.dtype, self.head_dtype, self._is_exact = before

    def _copy(self, around: Tensor) -> Tensor:
        """A copy of what goes around the layer: in half precision, as the network has it there."""
        is_cast = self._is_exact and around.is_floating_point()
        return around.float() if is_cast and around.element_size() < 4 else around.clone()

    @property
    def _output_axes(self) -> int:
        return 3 if self.layout.kind == "list" else 4

    def _keeping_gradients(self) -> contextlib.AbstractContextManager[object]:
        """Where gradients are wanted, do not let the network's own code switch them off."""
        if torch.is_grad_enabled() and self.target.switches_gradients_off:
            return KeepGradients()
        return contextlib.nullcontext()
