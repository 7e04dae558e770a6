"""MaxBoxAccV2 (Choe et al.: Evaluating Weakly Supervised Object Localization, CVPR 2020)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from lcam_cli.measures.measure import MapScores
from lcam_cli.measures.object_measure import ObjectMeasure, objects_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

DELTAS = (0.3, 0.5, 0.7)
"""How much of two boxes must be common to both, their IoU, for one to count as found: δ."""

STEPS = 20
"""How many thresholds τ are tried: 0, 0.05, … 0.95 of a map's highest value."""


class IoU(ObjectMeasure):
    """How well boxes drawn around a map's bright parts fit the objects', in percent of images.

    For a threshold τ, boxes are drawn around all connected parts of V ≥ τ · max V. The map finds
    the object at δ where any of them has an IoU of δ or more with any of the objects' boxes. Of all
    maps of a method the share that do is taken at the τ that is best for all of them together, for
    each δ its own; the measure is the mean over δ.

    Choe et al. try 1000 thresholds; here no τ is further than 0.025 from one that is tried.
    """

    name = "iou"
    title = "IoU"
    long_title = "MaxBoxAccV2, %"
    meaning = (
        "how often a box around the bright parts of the map fits the object's box (IoU of 0.3, 0.5 "
        "and 0.7, each at its best threshold, averaged)"
    )
    source = "Choe et al., CVPR 2020"
    parts = len(DELTAS) * STEPS

    @property
    def settings(self) -> dict[str, object]:
        """The δ, and how many τ there are."""
        return {"deltas": list(DELTAS), "thresholds": STEPS}

    def numbers(self, scores: MapScores, nu: float) -> Tensor:
        """Return hits and misses, 100 and 0, for every δ and τ.

        Returns:
            float32 (parts, B): τ by τ for the first δ, and so on; NaN without an object.
        """
        import torch

        objects = objects_of(scores)
        best = torch.stack(
            [
                torch.from_numpy(best_ious(V, boxes.cpu().numpy()))
                for V, boxes in zip(scores.V.cpu().numpy(), objects.boxes, strict=True)
            ],
            1,
        ).to(scores.V.device)
        hits = torch.cat([(best >= delta).float() * 100 for delta in DELTAS])
        return hits.masked_fill(~objects.known, math.nan)

    def summary(self, means: NDArray[np.float64]) -> NDArray[np.float64]:
        """Take the best τ for each δ, and the mean over δ, (..., parts) to (...).

        Of one image it is the share of the δ at which some τ finds the object: 0, 33.3, 66.7 or
        100.
        """
        by_delta = means.reshape(*means.shape[:-1], len(DELTAS), STEPS)
        found: NDArray[np.float64] = by_delta.max(-1).mean(-1)
        return found


def best_ious(V: NDArray[np.float32], boxes: NDArray[np.float32]) -> NDArray[np.float32]:
    """Find how well the best of a map's boxes fits the best of an object's, for every τ.

    Args:
        V: A map, (H, W).
        boxes: The objects', (n, 4): x0, y0, x1, y1 in pixels.

    Returns:
        The IoU in [0, 1] at each of the ``STEPS`` thresholds, (STEPS,); 0 without a box.
    """
    import numpy as np

    from lcam_cli.maps.components import component_boxes

    found = np.zeros(STEPS, np.float32)
    if len(boxes):
        tau = (np.arange(STEPS) / STEPS).astype(np.float32)
        step, drawn = component_boxes(tau[:, None, None] * V.max() <= V)
        np.maximum.at(found, step, _ious(drawn, boxes).max(1))
    return found


def _ious(some: NDArray[np.float32], others: NDArray[np.float32]) -> NDArray[np.float32]:
    """What boxes have in common, over what both cover: (n, 4) and (m, 4) to (n, m)."""
    import numpy as np

    corners = np.maximum(some[:, None, :2], others[None, :, :2])
    ends = np.minimum(some[:, None, 2:], others[None, :, 2:])
    common = (ends - corners).clip(0).prod(-1)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(-1) for boxes in (some, others)]
    ious: NDArray[np.float32] = common / (areas[0][:, None] + areas[1][None] - common)
    return ious
