"""Networks that another runtime runs: scores and feature maps, but no gradients and no modules."""

from __future__ import annotations

from abc import abstractmethod

from torch import Tensor, nn


class ForeignNetwork(nn.Module):
    """A classifier that PyTorch does not compute, with one layer that it shows as a module.

    Attributes:
        runtime: What computes it.
        devices: Kinds of devices on which that can.
        no_layer: Where it shows no layer by itself: what to do about that.
    """

    runtime: str
    devices: tuple[str, ...] = ("cpu",)
    no_layer: str = ""

    @abstractmethod
    def cut_at(self, layer: str | None, output: str, shape: tuple[int, int, int]) -> str | None:
        """Prepare the network to run, cut at a layer: before that it does not run.

        Args:
            layer: The layer as typed, or as this method called it before; None to find one.
            output: Which of several outputs are the logits, as typed; ``""`` for the only one.
            shape: (C, H, W) of images.

        Returns:
            The name of the module whose output is A; None where there is none.

        Raises:
            LcamError: There is no such layer or output, or the network does not run.
        """

    def follow_places(self, picture: Tensor) -> None:
        """Run what moves numbers about, by PyTorch's own operations, up to the layer's module.

        Whoever watches these learns where the cells of A lie (``engine.grid``). Numbers mean
        nothing.

        Args:
            picture: (1, C, H, W).

        Raises:
            Exception: It cannot be said by PyTorch's operations.
        """
        raise NotImplementedError
