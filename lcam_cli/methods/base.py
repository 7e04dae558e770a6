"""What a method is: from one forward pass and a class an image to maps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from lcam_cli.engine.engine import Engine, Forward
from lcam_cli.engine.grid import Grid
from lcam_cli.errors import LcamError
from lcam_cli.methods.attention import saliency_map


@dataclass
class Maps:
    """Explanations of a batch.

    Attributes:
        saliency: V, (B, H, W), float32 in [0, 1], at the network's input size.
        cam: The map L before normalisation, (B, P, Q); None for methods that have none.
    """

    saliency: Tensor
    cam: Tensor | None = None

    @classmethod
    def of_cam(cls, L: Tensor, forward: Forward, grid: Grid | None = None) -> Maps:
        """V = θ(ζ(L)), the way every class activation map of the paper's Table 1 is shown.

        Args:
            L: The map before normalisation, (B, P, Q).
            forward: The images it belongs to.
            grid: Where its cells lie; default where those of A do, ``forward.grid``, for a map of
                as many cells. Others tile the image.
        """
        L = L.float()
        if grid is None and L.shape[1:] == forward.A.shape[2:]:
            grid = forward.grid
        return cls(saliency_map(L, (forward.x.shape[2], forward.x.shape[3]), grid), L)


def at_least_one(what: str, value: int) -> None:
    """Check how many of something a method takes.

    Raises:
        LcamError: Fewer than one.
    """
    if value < 1:
        raise LcamError(f"a method with {value} {what}", "use at least 1")


def first_pass(engine: Engine, method: Method, x: Tensor) -> Forward:
    """The forward pass that tells the class, and keeps what the method goes on with.

    A method that differentiates the whole network, or looks inside it, has one of its own, so that
    it takes no second one: ``first_pass(engine, x)``. Its ``whole_graph`` says that graphs of the
    whole network are in memory until it has made its maps.

    Args:
        engine: The engine with the classifier.
        method: What explains the images.
        x: Pixels, (B, C, H, W).
    """
    own: Callable[[Engine, Tensor], Forward] | None = getattr(method, "first_pass", None)
    return engine.forward(x) if own is None else own(engine, x)


def flat_maps(V: Tensor) -> Tensor:
    """Return which maps of V (B, H, W) have one value everywhere, (B,) bool: they say nothing."""
    return (V[:, :1, :1] == V).flatten(1).all(1)


class Method(Protocol):
    """A way to explain a batch of images.

    Attributes:
        name: As users type it.
        params: What was set, for the record in the maps file (JSON values).
        forward_passes: Forward passes of the classifier that a map costs (#FW of Table 1).
    """

    name: str
    params: dict[str, Any]
    forward_passes: int

    def __call__(self, engine: Engine, forward: Forward, classes: Tensor) -> Maps:
        """Explain why ``classes`` (B,), int64, score as they do on the images of ``forward``."""
        ...
