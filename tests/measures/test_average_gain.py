"""Average Gain against Opti-CAM's formula, as Xplique writes it, and where it is not defined."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lcam_cli.measures.average_drop import AverageDrop
from lcam_cli.measures.average_gain import AverageGain

SCORES = st.floats(0, 1, width=32)


def test_by_hand() -> None:
    # Half of 0.5 is gained; the score falls; it stays; nothing is lacking.
    full, kept = torch.tensor([0.5, 0.8, 0.25, 1.0]), torch.tensor([0.75, 0.6, 0.25, 1.0])
    numbers = AverageGain().compare(full, kept).tolist()
    assert numbers[:3] == [50, 0, 0]
    assert math.isnan(numbers[3])


@given(st.lists(st.tuples(SCORES, SCORES), min_size=1, max_size=8))
def test_agrees_with_the_published_formula(pairs: list[tuple[float, float]]) -> None:
    full, kept = (np.array(scores, np.float32) for scores in zip(*pairs, strict=True))
    numbers = AverageGain().compare(torch.from_numpy(full), torch.from_numpy(kept)).numpy()
    below = full < 1
    # Xplique's AverageGain: relu(masked − base) / (1 − base).
    expected = np.maximum(kept[below] - full[below], 0) / (1 - full[below]) * 100
    assert numbers[below] == pytest.approx(expected, abs=1e-4)
    assert np.isnan(numbers[~below]).all()
    drops = AverageDrop().compare(torch.from_numpy(full), torch.from_numpy(kept)).numpy()
    both = below & (full > 0)
    assert (np.minimum(numbers[both], drops[both]) == 0).all(), "what rises does not fall"
