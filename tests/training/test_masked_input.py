"""What the network is given of a masked image, and its gradient."""

from __future__ import annotations

import pytest
import torch

from lcam_cli.training.masked_input import masked_input


@pytest.mark.parametrize("channels", [1, 3, 5])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_it_is_the_product_normalised_with_the_gradient_of_autograd(
    channels: int, layout: torch.memory_format
) -> None:
    generator = torch.Generator().manual_seed(channels)
    x = torch.rand(2, channels, 6, 5, dtype=torch.float64, generator=generator)
    x = x.contiguous(memory_format=layout)
    mask = torch.rand(2, 6, 5, dtype=torch.float64, generator=generator).requires_grad_()
    mean = torch.rand(channels, dtype=torch.float64, generator=generator)
    std = mean + 0.5
    g = torch.rand(x.shape, dtype=torch.float64, generator=generator)

    found = masked_input(x, mask, mean.tolist(), std.tolist())
    expected = (x * mask[:, None] - mean.view(-1, 1, 1)) / std.view(-1, 1, 1)
    torch.testing.assert_close(found, expected)
    assert found.is_contiguous(memory_format=layout)
    (of_found,) = torch.autograd.grad(found, mask, g)
    (of_expected,) = torch.autograd.grad(expected, mask, g)
    torch.testing.assert_close(of_found, of_expected)


def test_a_hidden_pixel_is_black_whatever_the_normalisation() -> None:
    x = torch.rand(1, 3, 2, 2)
    black = (torch.zeros(3) - torch.tensor([0.1, 0.2, 0.3])) / torch.tensor([0.5, 0.4, 0.2])
    given = masked_input(x, torch.zeros(1, 2, 2), (0.1, 0.2, 0.3), (0.5, 0.4, 0.2))
    torch.testing.assert_close(given, black.view(1, 3, 1, 1).expand(1, 3, 2, 2))
