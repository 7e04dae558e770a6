"""The engine: batches, masks, and what happens when memory runs out."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lcam_cli.engine.device import choose_hardware
from lcam_cli.engine.engine import Engine
from lcam_cli.errors import LcamError
from tests.tiny import tiny_backbone


@pytest.fixture
def engine() -> Engine:
    return Engine(tiny_backbone(), device="cpu")


@pytest.fixture
def x() -> torch.Tensor:
    return torch.rand(5, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def test_pixels_are_the_pictures_in_zero_to_one(engine: Engine) -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
    x = engine.pixels(images)
    assert x.dtype == torch.float32
    assert x.is_contiguous(memory_format=torch.channels_last)
    np.testing.assert_allclose(x.permute(0, 2, 3, 1).numpy(), images / np.float32(255))


def test_masks_hide_with_black_or_with_the_mean_colour(engine: Engine, x: torch.Tensor) -> None:
    classes = torch.tensor([0, 1, 2, 3, 0])
    nothing, everything = torch.zeros(5, 32, 32), torch.ones(5, 32, 32)
    mean = torch.tensor(engine.backbone.preprocess.mean).view(1, 3, 1, 1).expand(5, 3, 32, 32)

    def plain(pictures: torch.Tensor) -> torch.Tensor:
        return engine.forward(pictures).confidence(classes)

    for space, hidden in (("pixel", torch.zeros_like(x)), ("normalized", mean)):
        torch.testing.assert_close(
            engine.masked_confidence(x, everything, classes, space), plain(x)
        )
        torch.testing.assert_close(
            engine.masked_confidence(x, nothing, classes, space), plain(hidden)
        )


@pytest.mark.parametrize("fits", [1, 2, 3, 5])
@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("can't allocate memory: 1 GB")])
def test_out_of_memory_halves_the_batch_and_goes_on(
    engine: Engine, x: torch.Tensor, fits: int, error: Exception
) -> None:
    seen: list[int] = []

    def function(part: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        seen.append(len(part))
        if len(part) > fits:
            raise error
        return part * 2, part.sum((1, 2, 3))

    doubled, sums = engine.run(function, x)
    assert torch.equal(doubled, x * 2)
    assert torch.equal(sums, x.sum((1, 2, 3)))
    seen.clear()
    engine.run(function, x)
    assert max(seen) <= fits, "the lower batch size is remembered"


def test_other_errors_are_not_swallowed(engine: Engine, x: torch.Tensor) -> None:
    def broken(_part: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("shapes differ")

    with pytest.raises(RuntimeError, match="shapes differ"):
        engine.run(broken, x)

    def never_fits(_part: torch.Tensor) -> torch.Tensor:
        raise MemoryError

    with pytest.raises(MemoryError):
        engine.run(never_fits, x)


def test_feature_gradients_are_those_of_the_class_score(engine: Engine, x: torch.Tensor) -> None:
    classes = torch.tensor([0, 1, 2, 3, 0])
    g = engine.feature_gradients(engine.forward(x), classes)
    W = engine.backbone.network[6].weight
    # Pooling and a linear layer: ∂f_y/∂A_kpq = W[y, k] / (P·Q).
    expected = (W[classes] / 64)[:, :, None, None].expand_as(g)
    torch.testing.assert_close(g, expected)


def test_hardware_that_is_not_there_is_refused() -> None:
    with pytest.raises(LcamError, match="unknown device 'gpu'"):
        choose_hardware("gpu")
    with pytest.raises(LcamError, match="unsupported device"):
        choose_hardware("meta")
    with pytest.raises(LcamError, match="no device cuda:99"):
        choose_hardware("cuda:99")
    with pytest.raises(LcamError, match="fp16 does not run on the CPU"):
        choose_hardware("cpu", "fp16")
    assert choose_hardware("cpu").precision == "fp32"
