"""What is known of every single image once it is scored: for those who look at images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lcam_cli.maps.record import Floats, Ints
from lcam_cli.measures.measure import Parts, Quantity


@dataclass(frozen=True)
class ScoredRows:
    """The numbers of B rows, an image and a class each, as several methods explain them.

    Attributes:
        paths: B row paths. The classes of one image are side by side.
        class_index: The classes explained, int32 (B,).
        class_names: Their names, B of them.
        predicted_index: The classifier's top-1, int32 (B,).
        full: Scores f(X) of the classes explained, float32 (B,) in [0, 1].
        masked: Scores f(X ⊙ φ_ν(V)), float32 (methods, M, B) in [0, 1].
        numbers: What the measures make of the maps, float32 (methods, J, B): a row a part of each
            of ``Task.quantities``; NaN where a measure is not defined.
        mean_saliency: Mean of V, float32 (methods, B) in [0, 1].
        flat: Which maps have one value everywhere, bool (methods, B).
    """

    paths: Sequence[str]
    class_index: Ints
    class_names: Sequence[str]
    predicted_index: Ints
    full: Floats
    masked: Floats
    numbers: Floats
    mean_saliency: Floats
    flat: NDArray[np.bool_]

    def of_quantities(self, measured: Sequence[Quantity]) -> NDArray[np.float64]:
        """Return the numbers of quantities, (K, methods, B): of one image its parts are theirs.

        Args:
            measured: The quantities that ``numbers`` are of, K of them.
        """
        return Parts(measured).summarise(self.numbers.swapaxes(0, 1).astype(np.float64))


@dataclass(frozen=True)
class ScoredBatch(ScoredRows):
    """The same with what there is to look at.

    Attributes:
        images: What the network sees, uint8 or float32 in [0, 1], (B, H, W, C).
        saliency: V of each method, float32 (B, H, W) in [0, 1] each.
    """

    images: NDArray[Any]
    saliency: Sequence[Floats]
