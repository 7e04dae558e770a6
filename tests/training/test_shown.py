"""What a step shows of a map, by hand and against a loop over pixels."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from lcam_cli.training.shown import DRAWS, shown_part

JUST_UNDER_1 = math.nextafter(1.0, 0.0)


def _draws(*rows: tuple[float, float]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64)


def _sigmoid(z: float) -> float:
    return 1 / (1 + math.exp(-z))


def test_the_three_cases_by_hand() -> None:
    S = torch.tensor([[0.0, 0.2, 0.4, 0.6, 1.0]]).expand(3, 1, 5)
    # u = 0.5: ν = 0.05 + 0.4·0.5 = 0.25; of 5 pixels, at place ⌊0.25·4⌋ = 1 from the top: q = 0.6.
    shown = shown_part(S, _draws((0.0, 0.5), (0.7, 0.5), (0.9, 0.5)))
    # Mean 0.44; squared differences 0.1936, 0.0576, 0.0016, 0.0256, 0.3136: 0.592 over 4.
    width = 0.3 * math.sqrt(0.592 / 4)
    whole = [_sigmoid((s - 0.6) / width) for s in (0.0, 0.2, 0.4, 0.6, 1.0)]
    assert shown[0, 0].tolist() == pytest.approx(whole, abs=1e-6)
    assert whole[3] == 0.5
    assert whole[4] > 0.95
    assert whole[0] < 0.01
    at_values = [s * w for s, w in zip((0.0, 0.2, 0.4, 0.6, 1.0), whole, strict=True)]
    assert shown[1, 0].tolist() == pytest.approx(at_values, abs=1e-6)
    assert torch.equal(shown[2], S[2])


def test_how_often_each_case_comes() -> None:
    generator = torch.Generator().manual_seed(0)
    S = torch.rand(1, 3, 4, generator=generator).expand(20000, 3, 4)
    draws = torch.rand(20000, DRAWS, generator=generator)
    shown = shown_part(S, draws)
    cut = shown_part(S, draws * torch.tensor([0.0, 1.0]))
    for expected, often in ((cut, 0.7), (S * cut, 0.2), (S, 0.1)):
        share = (shown == expected).all((1, 2)).double().mean()
        assert float(share) == pytest.approx(often, abs=0.01)


@pytest.mark.parametrize(("u", "nu"), [(0.0, 0.05), (0.5, 0.25), (1.0, 0.45)])
@pytest.mark.parametrize("side", [56, 96, 224, 300])
def test_the_share_of_pixels_above_the_cut_is_nu(u: float, nu: float, side: int) -> None:
    """Also where only some pixels are looked at, as of larger images."""
    cells = torch.rand(4, 1, 7, 7, generator=torch.Generator().manual_seed(side))
    S = torch.nn.functional.interpolate(cells, (side, side), mode="bilinear")[:, 0]
    shown = shown_part(S, _draws(*[(0.0, u)] * 4))
    share = (shown > 0.5).double().mean((1, 2))
    assert share.tolist() == pytest.approx([nu] * 4, abs=0.01)


def test_pictures_are_shown_independently_of_each_other() -> None:
    generator = torch.Generator().manual_seed(3)
    S, draws = torch.rand(6, 9, 9, generator=generator), torch.rand(6, 2, generator=generator)
    together = shown_part(S, draws)
    alone = [shown_part(S[i : i + 1], draws[i : i + 1]) for i in range(6)]
    torch.testing.assert_close(together, torch.cat(alone))


@given(
    st.integers(0, 2**31),
    st.integers(1, 9),
    st.integers(1, 9),
    st.sampled_from([0.0, 0.3, 0.7, 0.8, 0.9, JUST_UNDER_1]),
    st.sampled_from([0.0, 0.5, JUST_UNDER_1]),
)
def test_masks_are_in_0_to_1_rise_with_the_map_and_have_gradients(
    seed: int, P: int, Q: int, what: float, u: float
) -> None:
    """As few cells as one, and draws at both ends."""
    S = torch.rand(2, P, Q, generator=torch.Generator().manual_seed(seed)).requires_grad_(True)
    shown = shown_part(S, _draws((what, u), (what, u)))
    assert shown.shape == S.shape
    assert (shown >= 0).all()
    assert (shown <= 1).all()
    flat = S.detach().flatten(1)
    order = flat.argsort(1)
    rising = shown.detach().flatten(1).gather(1, order)
    assert (rising[:, 1:] >= rising[:, :-1]).all()
    (shown * torch.rand(P, Q)).sum().backward()
    assert S.grad is not None
    assert S.grad.isfinite().all()
    moves = S.grad.flatten(1).abs().amax(1) > 0
    assert moves.all() or P * Q <= 2  # what a cut leaves of one or two cells is given


def test_the_gradient_is_that_of_a_cut_whose_area_is_given() -> None:
    """Σ_i σ((S_i − q)/w) is constant where dq = Σ_i σ'_i·dS_i / Σ_i σ'_i; w is a constant."""
    generator = torch.Generator().manual_seed(2)
    S = torch.rand(3, 4, 5, dtype=torch.float64, generator=generator).requires_grad_(True)
    weights = torch.rand(4, 5, dtype=torch.float64, generator=generator)
    draws = _draws((0.1, 0.3), (0.8, 0.6), (0.95, 0.5))
    (shown_part(S, draws) * weights).sum().backward()
    assert S.grad is not None
    for i, (what, u) in enumerate(draws.tolist()):
        own = S[i].detach().flatten()
        q = own.sort(descending=True).values[int((0.05 + 0.4 * u) * 19)]
        width = 0.3 * own.std()
        g = torch.sigmoid((own - q) / width)
        slope = g * (1 - g) / width
        shares = slope / slope.sum()
        cut_by_S = torch.diag(slope) - slope[:, None] * shares  # ∂cut_j/∂S_i
        c = weights.flatten()
        expected = c
        if what < 0.7:
            expected = c @ cut_by_S
        elif what < 0.9:
            expected = c * g + (c * own) @ cut_by_S
        torch.testing.assert_close(S.grad[i].flatten(), expected)


def test_a_brighter_map_shows_no_more() -> None:
    S = torch.rand(2, 9, 9, generator=torch.Generator().manual_seed(4)).requires_grad_(True)
    shown_part(S, _draws((0.0, 0.2), (0.6, 0.9))).sum().backward()
    assert S.grad is not None
    assert float(S.grad.abs().max()) < 1e-4


@pytest.mark.parametrize("level", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("what", [0.0, 0.8, 0.95])
@pytest.mark.parametrize("shape", [(1, 1), (1, 2), (7, 7), (224, 224)])
def test_a_flat_map_gives_numbers_and_gradients_that_are(
    level: float, what: float, shape: tuple[int, int]
) -> None:
    S = torch.full((2, *shape), level, requires_grad=True)
    shown = shown_part(S, _draws((what, 0.5), (what, 0.0)))
    (7 * shown.sum()).backward()
    assert S.grad is not None
    assert S.grad.isfinite().all()
    assert (shown == shown[0, 0, 0]).all()
    assert shown[0, 0, 0] == {0.0: 0.5, 0.8: level / 2, 0.95: level}[what]


def test_a_map_with_a_single_bright_pixel_has_gradients_that_are_numbers() -> None:
    """Where only every fourth pixel is looked at, it is not among them."""
    S = torch.zeros(1, 224, 224)
    S[0, 0, 0] = 1
    S.requires_grad_(True)
    shown = shown_part(S, _draws((0.0, 0.5)))
    (shown * torch.rand(224, 224)).sum().backward()
    assert S.grad is not None
    assert S.grad.isfinite().all()
    assert float(S.grad.abs().max()) < 1000
    assert shown[0, 0, 0] == 1
