"""What is known of every single picture once it is scored: for those who look at pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lcam_cli.maps.record import Floats, Ints


@dataclass(frozen=True)
class ScoredBatch:
    """B rows, a picture and a class each, as several methods explain them.

    Attributes:
        images: What the network sees, uint8 (B, H, W, 3).
        paths: B row paths. The classes of one picture are side by side.
        class_index: The classes explained, int32 (B,).
        class_names: Their names, B of them.
        predicted_index: The classifier's top-1, int32 (B,).
        full: Scores f(X) of the classes explained, float32 (B,) in [0, 1].
        saliency: V of each method, float32 (B, H, W) in [0, 1] each.
        masked: Scores f(X ⊙ φ_ν(V)), float32 (methods, M, B) in [0, 1].
    """

    images: NDArray[np.uint8]
    paths: Sequence[str]
    class_index: Ints
    class_names: Sequence[str]
    predicted_index: Ints
    full: Floats
    saliency: Sequence[Floats]
    masked: Floats
