"""Many masks over few pictures, where a masked forward pass costs what a plain one does."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from lcam_cli.engine.activation import confidence
from lcam_cli.engine.engine import Engine, seen_through


class MaskedForwards:
    """Scores of pictures seen through masks that multiply the *normalised* picture.

    So a mask hides with the mean colour, as in Score-CAM and RISE. Each picture is normalised once;
    masked ones are written into one buffer, and the network sees full batches, whichever pictures
    and masks they come from.

    Args:
        engine: The engine with the classifier.
        x: Pictures, (B, 3, H, W), float32 in [0, 1].
        classes: The class scored on each, (B,), int64.

    Attributes:
        batch_size: Masked pictures a forward pass. So many masks at a time waste none.
    """

    def __init__(self, engine: Engine, x: Tensor, classes: Tensor) -> None:
        self.batch_size = min(engine.batch_size, engine.limit or engine.batch_size)
        self._engine = engine
        self._pictures = engine.normalise(x)
        self._classes = classes
        self._masked = torch.empty(
            (self.batch_size, *x.shape[1:]), device=x.device, memory_format=torch.channels_last
        )
        self._class_of = torch.empty(self.batch_size, dtype=torch.int64, device=x.device)

    @torch.no_grad()
    def scores(self, runs: Iterable[tuple[int, Tensor]]) -> Tensor:
        """Score every mask on its picture.

        Args:
            runs: Pairs of a picture's index in ``x`` and the masks (n, H, W) to see it through.

        Returns:
            Scores of the pictures' classes, float32, one a mask, in the order of the runs.
        """
        scores: list[Tensor] = []
        filled = 0
        for picture, masks in runs:
            waiting = masks
            while len(waiting):
                now = slice(filled, min(filled + len(waiting), self.batch_size))
                count = now.stop - now.start
                shown = self._pictures[picture : picture + 1]
                seen_through(shown, waiting[:count], out=self._masked[now])
                self._class_of[now] = self._classes[picture]
                waiting, filled = waiting[count:], now.stop
                if filled == self.batch_size:
                    scores.append(self._forward(filled))
                    filled = 0
        if filled:
            scores.append(self._forward(filled))
        return torch.cat(scores)

    def _forward(self, count: int) -> Tensor:
        given = self._masked[:count], self._class_of[:count]
        scores: Tensor = self._engine.run(self._confidence, *given)
        return scores

    def _confidence(self, masked: Tensor, classes: Tensor) -> Tensor:
        with self._engine.autocast():
            logits = self._engine.backbone(masked)
        return confidence(logits.float(), classes, self._engine.activation)
