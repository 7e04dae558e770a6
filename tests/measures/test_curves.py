"""Insertion and deletion: worked by hand, and against RISE's own way of blurring."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import Tensor, nn

from lcam_cli.engine.backbone import Backbone
from lcam_cli.engine.engine import Engine
from lcam_cli.images.preprocess import Preprocess
from lcam_cli.measures.curves import STEPS, area, blurred, curve, pixel_ranks
from lcam_cli.networks.network import Network


class Brightness(nn.Module):
    """Two classes; the softmax score of the first is 0.5 + half the image's mean."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Conv2d(3, 1, 1, bias=False)
        nn.init.constant_(self.features.weight, 1 / 3)

    def forward(self, x: Tensor) -> Tensor:
        score = 0.5 + self.features(x).mean((1, 2, 3)) / 2
        score = score.clamp(1e-6, 1 - 1e-6)
        return torch.stack([score.log(), (1 - score).log()], 1)


@pytest.fixture
def engine() -> Engine:
    preprocess = Preprocess(image_size=28, resize=28, mean=(0, 0, 0), std=(1, 1, 1))
    network = Network(Brightness(), "brightness", "none", preprocess=preprocess)
    return Engine(Backbone(network, "features"), device="cpu", precision="fp32")


@given(arrays(np.float32, (2, 3, 4), elements=st.sampled_from([0.0, 0.25, 0.5, 1.0])))
@settings(deadline=None, max_examples=50)
def test_ranks_are_a_stable_sort_highest_first(V: np.ndarray) -> None:
    ranks = pixel_ranks(torch.from_numpy(V)).numpy().reshape(2, -1)
    for flat, got in zip(V.reshape(2, -1), ranks, strict=True):
        order = sorted(range(12), key=lambda i: -flat[i])
        assert [int(got[i]) for i in order] == list(range(12))


def test_area_by_hand() -> None:
    # One trapezoid a step: (1 + .5)/2 and (.5 + 0)/2, each half as wide as the whole.
    assert area(torch.tensor([[1.0], [0.5], [0.0]])).tolist() == [0.5]
    assert area(torch.tensor([[0.0], [1.0], [1.0]])).tolist() == [0.75]
    assert area(torch.full((STEPS + 1, 3), 0.25)).tolist() == pytest.approx([0.25] * 3)


def test_a_row_of_pixels_goes_at_each_step(engine: Engine) -> None:
    """White turns black, top row first: the mean falls by 1/28 a step, the score by half of it."""
    white, black = torch.ones(1, 3, 28, 28), torch.zeros(1, 3, 28, 28)
    V = torch.linspace(1, 0, 28).view(1, 28, 1).expand(1, 28, 28)
    ranks, ends = pixel_ranks(V), torch.tensor([[1.0], [0.5]])
    scores = curve(engine, white, black, ranks, torch.tensor([0]), ends)
    assert scores.shape == (STEPS + 1, 1)
    torch.testing.assert_close(scores[:, 0], torch.linspace(1, 0.5, STEPS + 1), atol=1e-5, rtol=0)
    assert area(scores).item() == pytest.approx(0.75, abs=1e-5)


def test_finding_the_bright_half_first_is_better(engine: Engine) -> None:
    """Only the upper half is white: deleting it first costs all there is in half of the steps."""
    x = torch.zeros(1, 3, 28, 28)
    x[:, :, :14] = 1
    black, ends = torch.zeros_like(x), torch.tensor([[0.75], [0.5]])
    down = torch.linspace(1, 0, 28).view(1, 28, 1).expand(1, 28, 28)
    right, wrong = (
        area(curve(engine, x, black, pixel_ranks(V), torch.tensor([0]), ends)).item()
        for V in (down, 1 - down)
    )
    assert right == pytest.approx(0.5 + 0.25 / 4, abs=1e-5)
    assert wrong == pytest.approx(0.5 + 0.25 * 3 / 4, abs=1e-5)


def test_blur_is_that_of_rise() -> None:
    ndimage = pytest.importorskip("scipy.ndimage")
    point = np.zeros((11, 11))
    point[5, 5] = 1
    kernel = torch.tensor(ndimage.gaussian_filter(point, 5), dtype=torch.float32)
    x, mean = torch.rand(2, 3, 20, 24), torch.tensor([0.4, 0.5, 0.6]).view(1, 3, 1, 1)
    weights = torch.zeros(3, 3, 11, 11)
    for c in range(3):
        weights[c, c] = kernel
    expected = nn.functional.conv2d(x - mean, weights, padding=5) + mean
    torch.testing.assert_close(blurred(x, mean), expected, atol=1e-5, rtol=0)
