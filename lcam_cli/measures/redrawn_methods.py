"""Methods on a network whose weights are drawn anew, stage by stage."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from lcam_cli.engine.cascade import Cascade
from lcam_cli.engine.engine import Engine
from lcam_cli.errors import LcamError
from lcam_cli.images.preprocess import Preprocess
from lcam_cli.images.stream import stream_batches
from lcam_cli.methods.base import Method
from lcam_cli.methods.explain import pictures_at_once

_EXAMPLES = 16


class RedrawnMethods:
    """Methods on a network as it is at each stage.

    A method that no training made is made anew for each stage, since it may have looked at the
    weights when it was made. What was trained stays: whether a map changes that a trained attention
    draws is what is asked.

    Args:
        engine: The engine with the network.
        cascade: The network's weights.
        first: The methods as made for the network as trained, by name.
        make: Makes one anew, by its name; None where it was trained.
        examples: Images that batch norms take their statistics from, (B, H, W, C): uint8, or
            float32 in [0, 1].

    Attributes:
        engine: As given.
        cascade: As given.
        first: As given.
    """

    def __init__(
        self,
        engine: Engine,
        cascade: Cascade,
        first: Mapping[str, Method],
        make: Callable[[str], Method | None],
        examples: NDArray[np.uint8],
    ) -> None:
        self.engine, self.cascade = engine, cascade
        self.first, self._make, self._examples = first, make, examples
        self._made: dict[int, dict[str, Method | None]] = {}

    @property
    def names(self) -> list[str]:
        """The methods."""
        return list(self.first)

    @property
    def stages(self) -> int:
        """S."""
        return len(self.cascade.stages)

    @property
    def pictures_at_once(self) -> int:
        """How many images make a batch."""
        return min(pictures_at_once(self.engine, method) for method in self.first.values())

    def at(self, count: int) -> Mapping[str, Method | None]:
        """Bring the network to a stage; the methods there, None for one that cannot be made.

        Args:
            count: How many stages are drawn anew.
        """
        self.cascade.draw(count)
        if not self.cascade.is_fitted:
            self.cascade.fit(lambda: self.engine.forward(self.engine.pixels(self._examples)))
        if count not in self._made:
            self._made[count] = {
                name: method if count == 0 else self._anew(name, method)
                for name, method in self.first.items()
            }
        return self._made[count]

    def _anew(self, name: str, first: Method) -> Method | None:
        try:
            return self._make(name) or first
        except LcamError:  # of this random network it cannot be made
            return None


def read_examples(
    paths: Sequence[str], preprocess: Preprocess, *, workers: int, max_pixels: int
) -> NDArray[np.uint8]:
    """Read the first images, up to 16 of them, that a network's batch norms are to know.

    Always as many, whatever the batch size: what is found must not depend on that.

    Returns:
        uint8 or float32 (B, H, W, C); B is 0 where no image can be read.
    """
    stream = stream_batches(paths, preprocess, _EXAMPLES, workers=workers, max_pixels=max_pixels)
    C, H, W = preprocess.input_shape
    return next((read.images for read in stream if read.indices), np.zeros((0, H, W, C), np.uint8))
