"""Many masks over few images, where a masked forward pass costs what a plain one does."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from lcam_cli.engine.activation import class_scores, confidence
from lcam_cli.engine.engine import Engine, apply_masks


class MaskedForwards:
    """Scores of images seen through masks that multiply the *normalised* image.

    So a mask hides with the mean colour, as in Score-CAM and RISE. Each image is normalised once;
    masked ones are written into one buffer, and the network sees full batches, whichever images
    and masks they come from.

    Args:
        engine: The engine with the classifier.
        x: Images, (B, C, H, W), float32 in [0, 1].
        classes: The class scored on each, (B,), int64.
        background: What shows where a mask hides, (B, C, H, W) in [0, 1]; None: the mean colour.

    Attributes:
        batch_size: Masked images a forward pass. So many masks at a time waste none.
    """

    def __init__(
        self, engine: Engine, x: Tensor, classes: Tensor, background: Tensor | None = None
    ) -> None:
        self.batch_size = min(engine.batch_size, engine.limit or engine.batch_size)
        self._engine = engine
        self._background = None if background is None else engine.normalise(background)
        # x·m + b·(1 − m) = (x − b)·m + b: what the mask multiplies is made once.
        self._pictures = engine.normalise(x)
        if self._background is not None:
            self._pictures = self._pictures - self._background
        self._classes = classes
        self._masked = torch.empty(
            (self.batch_size, *x.shape[1:]),
            device=x.device,
            memory_format=engine.backbone.memory_format,
        )
        self._class_of = torch.empty(self.batch_size, dtype=torch.int64, device=x.device)

    @torch.no_grad()
    def scores(self, runs: Iterable[tuple[int, Tensor]]) -> Tensor:
        """Score every mask on its image.

        Args:
            runs: Pairs of an image's index in ``x`` and the masks (n, H, W) to see it through.

        Returns:
            Scores of the images' classes, float32, one a mask, in the order of the runs.
        """
        return self._run(runs, self._confidence)

    @torch.no_grad()
    def predictions(self, runs: Iterable[tuple[int, Tensor]]) -> Tensor:
        """As :meth:`scores`, the scores of all classes: (n, R), float32."""
        return self._run(runs, self._probabilities)

    def _run(
        self, runs: Iterable[tuple[int, Tensor]], look: Callable[[Tensor, Tensor], Tensor]
    ) -> Tensor:
        found: list[Tensor] = []
        filled = 0
        for picture, masks in runs:
            waiting = masks
            while len(waiting):
                now = slice(filled, min(filled + len(waiting), self.batch_size))
                count = now.stop - now.start
                shown = self._pictures[picture : picture + 1]
                apply_masks(shown, waiting[:count], out=self._masked[now])
                if self._background is not None:
                    self._masked[now].add_(self._background[picture])
                self._class_of[now] = self._classes[picture]
                waiting, filled = waiting[count:], now.stop
                if filled == self.batch_size:
                    found.append(self._forward(filled, look))
                    filled = 0
        if filled:
            found.append(self._forward(filled, look))
        return torch.cat(found)

    def _forward(self, count: int, look: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        given = self._masked[:count], self._class_of[:count]
        found: Tensor = self._engine.run(look, *given)
        return found

    def _confidence(self, masked: Tensor, classes: Tensor) -> Tensor:
        return confidence(self._engine.backbone(masked), classes, self._engine.activation)

    def _probabilities(self, masked: Tensor, _classes: Tensor) -> Tensor:
        return class_scores(self._engine.backbone(masked), self._engine.activation)
